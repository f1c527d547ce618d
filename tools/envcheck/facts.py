"""Facts of a Python environment and of a machine.

Packages are imported in a child process, so one that is broken, or that ends
the process, becomes an entry of ``Facts.errors``. The child is this file.
"""
import ctypes
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Tuple

#: Import name -> distributions that provide it: the original, then others.
PROVIDERS = {
    'torch': r'torch',
    'numpy': r'numpy',
    'cv2': r'opencv-(contrib-)?python(-headless)?',
    'mmengine': r'mmengine(-lite)?|onedl-mmengine(-lite)?',
    'mmcv': r'mmcv(-lite|-full)?|onedl-mmcv(-.*)?',
    'mmdet': r'mmdet|onedl-mmdetection',
    'mmseg': r'mmsegmentation|onedl-mmsegmentation',
}

#: Probes in the order in which they run -> the probes each one depends on,
#: whose failure explains its own.
PROBES = {
    'numpy': (),
    'cv2': ('numpy', ),
    'torch': ('numpy', ),
    'torchvision': ('torch', ),
    'mmengine': ('numpy', 'cv2', 'torch'),
    'mmcv': ('mmengine', ),
    'mmcv.ops': ('mmcv', ),
    'mmcv.ops on the GPU': ('mmcv.ops', ),
    'pycocotools.mask': ('numpy', ),
    'scipy.ndimage': ('numpy', ),
    'matplotlib': ('numpy', ),
    'shapely': ('numpy', ),
    'terminaltables': (),
    'mmdet.models': ('mmcv.ops', 'pycocotools.mask', 'scipy.ndimage',
                     'matplotlib', 'shapely', 'terminaltables'),
    'ftfy': (),
    'regex': (),
    'mmseg.models': ('mmcv.ops', 'scipy.ndimage', 'matplotlib', 'ftfy',
                     'regex'),
    'cityscapesscripts': (),
    'kornia_rs': ('numpy', ),
}

#: Its function ``stand_in`` is called before ``mmcv.ops`` is imported.
STANDS_IN = 'panoptic_fpn.ops.mmcv_operators'

#: Shared libraries that opencv-python loads -> their Debian package.
LIBRARIES = {'libGL.so.1': 'libgl1', 'libgthread-2.0.so.0': 'libglib2.0-0'}


def normalise(name: str) -> str:
    """Name of a distribution as indexes compare it."""
    return re.sub(r'[-_.]+', '-', name).lower()


def release(version: Optional[str]) -> Tuple[int, ...]:
    """'2.13.0+cpu' -> (2, 13, 0); () for None."""
    match = re.match(r'\d+(\.\d+)*', version or '')
    return tuple(map(int, match.group().split('.'))) if match else ()


@dataclass
class Facts:
    """What was found in one Python environment."""
    executable: str = 'python'  #: the Python that was examined
    python: str = '3.11.0'
    platform: str = ''  #: operating system and processor
    #: installed distributions: normalised name -> version
    distributions: Dict[str, str] = field(default_factory=dict)
    #: probes that failed -> 'Type: message'
    errors: Dict[str, str] = field(default_factory=dict)
    pkg_resources: bool = True  #: whether setuptools still has it
    torch_cuda: Optional[str] = None  #: CUDA version torch was built for
    gpus: List[str] = field(default_factory=list)  #: that torch sees
    #: what compiled mmcv's operators, or stands in for them; None: no import
    operators: Optional[str] = None
    #: CUDA version of these, 'not available' without CUDA; None: no import
    mmcv_cuda: Optional[str] = None

    def providers(self, module: str) -> List[str]:
        """Installed distributions that provide an import name."""
        pattern = re.compile(
            PROVIDERS.get(module, re.escape(normalise(module))))
        return sorted(n for n in self.distributions if pattern.fullmatch(n))

    def version(self, module: str) -> Optional[str]:
        """Version of an import name, None where it is not installed."""
        names = self.providers(module)
        return self.distributions[names[0]] if names else None

    @property
    def family(self) -> str:
        """'openmmlab', 'onedl', 'mixed' or 'none'."""
        found = {
            'onedl' if name.startswith('onedl-') else 'openmmlab'
            for module in ('mmengine', 'mmcv', 'mmdet', 'mmseg')
            for name in self.providers(module)
        }
        return 'mixed' if len(found) > 1 else ''.join(found) or 'none'


@dataclass
class MachineFacts:
    """What a machine has before any package is installed."""
    executable: str = 'python3'  #: the Python that was examined
    python: Tuple[int, int] = (3, 11)
    system_python: bool = True  #: whether it is Debian's own python3
    venv: bool = True  #: whether it can make a virtual environment with pip
    compiles: bool = False  #: whether to compile mmcv (OPERATORS=mmcv)
    headers: bool = True  #: whether Python.h is there
    compiler: bool = True  #: whether a C++ compiler is there
    #: keys of LIBRARIES that were not found
    missing_libraries: List[str] = field(default_factory=list)
    root: bool = True  #: whether this is root


def collect_machine() -> MachineFacts:
    """Facts of this machine and this interpreter."""
    spec = importlib.util.find_spec
    include = sysconfig.get_paths()['include']
    missing = []
    for library in LIBRARIES:
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(library)
    system = os.path.realpath('/usr/bin/python3')
    return MachineFacts(
        executable=sys.executable,
        python=sys.version_info[:2],
        system_python=os.path.realpath(sys.executable) == system,
        venv=bool(spec('venv') and spec('ensurepip')),
        compiles=os.environ.get('OPERATORS') == 'mmcv',
        headers=os.path.isfile(os.path.join(include, 'Python.h')),
        compiler=bool(shutil.which(os.environ.get('CXX') or 'g++')),
        missing_libraries=missing,
        root=os.geteuid() == 0)


def collect() -> Facts:
    """Facts of the environment of this interpreter."""
    distributions = {
        normalise(d.metadata['Name']): d.version
        for d in importlib.metadata.distributions() if d.metadata['Name']
    }
    errors, found = run_probes([
        n for n in PROBES
        if n != 'torchvision' or 'torchvision' in distributions
    ])
    executable = sys.executable
    if executable.startswith(os.getcwd() + os.sep):
        executable = os.path.relpath(executable)
    return Facts(
        executable=executable,
        python=platform.python_version(),
        platform=platform.platform(),
        distributions=distributions,
        errors=errors,
        pkg_resources=importlib.util.find_spec('pkg_resources') is not None,
        **found)


def run_probes(
        names: Sequence[str]) -> Tuple[Dict[str, str], Dict[str, object]]:
    """Import packages in a child process.

    A probe that ends the child is recorded with its exit code, and the probes
    after it run in a new child.

    Returns:
        tuple[dict, dict]: Errors by probe, and values of :class:`Facts`.
    """
    errors, found = {}, {}
    left = list(names)
    environ = dict(os.environ, PYTHONWARNINGS='ignore')
    environ.setdefault('OMP_NUM_THREADS', '1')
    while left:
        child = subprocess.run([sys.executable, __file__, *left],
                               env=environ,
                               stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL,
                               text=True)
        for line in child.stdout.splitlines():
            result = json.loads(line)
            left.remove(result['probe'])
            found.update(result['found'])
            if result['error']:
                errors[result['probe']] = result['error']
        if left:
            errors[left.pop(0)] = (
                f'the process ended with exit code {child.returncode}')
    return errors, found


def probe(name: str) -> Dict[str, object]:
    """Import one package and use it once; runs in the child.

    Returns:
        dict: Values of :class:`Facts` that only this package knows.
    """
    if name == 'mmcv.ops':
        let_stand_in()
    module = importlib.import_module(name.split()[0])
    if name == 'torch':
        module.zeros(1).numpy()  # fails where torch was built for numpy 1
        count = module.cuda.device_count()
        return dict(
            torch_cuda=module.version.cuda,
            gpus=[module.cuda.get_device_name(i) for i in range(count)])
    if name == 'cv2':
        numpy = importlib.import_module('numpy')
        module.resize(numpy.zeros((2, 2), numpy.uint8), (4, 4))
    if name == 'mmcv.ops':
        use_operator(module, 'cpu')
        return dict(
            operators=module.get_compiler_version(),
            mmcv_cuda=module.get_compiling_cuda_version())
    if name == 'mmcv.ops on the GPU':
        torch = importlib.import_module('torch')
        has_cuda = module.get_compiling_cuda_version() != 'not available'
        if has_cuda and torch.cuda.is_available():
            use_operator(module, 'cuda')
    return {}


def let_stand_in() -> None:
    """Where mmcv is not compiled, panoptic_fpn's operators stand in.

    Without running ``panoptic_fpn/__init__.py``, which imports everything.
    """
    spec = importlib.util.find_spec(STANDS_IN.split('.')[0])
    if spec is not None:
        sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        importlib.import_module(STANDS_IN).stand_in()


def use_operator(ops, device: str) -> None:
    """Run nms on one box: an operator that imports may still not run."""
    torch = importlib.import_module('torch')
    boxes = torch.tensor([[0., 0., 2., 2.]], device=device)
    ops.nms(boxes, torch.ones(1, device=device), 0.5)


def main(names: Sequence[str]) -> None:
    """The child: one JSON line per probe; packages may print what they like.

    Args:
        names (Sequence[str]): Keys of :data:`PROBES`.
    """
    out = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    for name in names:
        error, found = '', {}
        try:
            found = probe(name)
        except Exception as e:  # whatever a package raises is a finding
            text = ' '.join(str(e).split())
            error = f'{type(e).__name__}: {text[:300]}'
        line = json.dumps(dict(probe=name, error=error, found=found))
        print(line, file=out, flush=True)


if __name__ == '__main__':
    main(sys.argv[1:])
