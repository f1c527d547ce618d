"""Facts -> findings: what would not work, and the command that mends it.

Every check is a pure function of facts, so the tests hand in facts of
machines they do not have. Versions in commands come from the requirement
files, the only place that pins them.
"""
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Tuple

from .facts import LIBRARIES, PROBES, Facts, MachineFacts, release

REQUIREMENTS = Path(__file__).resolve().parents[2] / 'requirements'

#: Distribution that has to be there -> the probe that fails without it.
NEEDED = {
    'numpy': 'numpy',
    'opencv-python': 'cv2',
    'mmengine': 'mmengine',
    'mmdet': 'mmdet.models',
    'mmsegmentation': 'mmseg.models',
    'pycocotools': 'pycocotools.mask',
    'cityscapesscripts': 'cityscapesscripts',
    'scipy': 'scipy.ndimage',
    'matplotlib': 'matplotlib',
    'shapely': 'mmdet.models',
    'terminaltables': 'mmdet.models',
    'ftfy': 'ftfy',
    'regex': 'regex',
    'kornia-rs': 'kornia_rs',
    'tabulate': 'tabulate',
    'msgspec': 'msgspec',
    'filelock': 'filelock',
    'jinja2': 'jinja2',
    'av': 'av',
}

#: Distributions named otherwise than what is imported.
IMPORT_NAMES = {'opencv-python': 'cv2', 'mmsegmentation': 'mmseg'}

#: Originals -> their maintained forks, same import names.
FORKS = {
    'mmengine': 'onedl-mmengine',
    'mmcv': 'onedl-mmcv',
    'mmdet': 'onedl-mmdetection',
    'mmsegmentation': 'onedl-mmsegmentation',
}

NUMPY_SIGNS = ('dtype size changed', 'ufunc size changed',
               'multiarray failed to import', '_ARRAY_API not found',
               'compiled using NumPy 1', 'compiled against A',
               'Numpy is not available')

TORCH_SIGNS = ('undefined symbol', 'libtorch', 'libc10', 'libcudart')


@dataclass
class Finding:
    """Something that would not work.

    Attributes:
        problem (str): What and why, one sentence.
        command (str): What mends it.
        explains (tuple[str]): Probes whose failure this accounts for.
    """
    problem: str
    command: str
    explains: Tuple[str, ...] = ()


# ------------------------------------------------------------- commands


def pip(facts: Facts) -> str:
    return f'{shlex.quote(facts.executable)} -m pip'


def pinned(name: str) -> str:
    """'name==version' as the requirement files pin it, else the bare name."""
    for path in sorted(REQUIREMENTS.glob('*.txt')):
        for line in path.read_text().splitlines():
            if line.split('==')[0].strip() == name:
                return line.split(';')[0].strip()
    return name


def requirement_file(name: str) -> str:
    """A requirement file, as short as the current directory allows."""
    path = REQUIREMENTS / f'{name}.txt'
    if Path.cwd() == REQUIREMENTS.parent:
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path))


def of_family(facts: Facts, name: str) -> str:
    """The distribution to install: the original's pin, or the fork.

    mmdet decides, because it asserts which mmcv it goes with.
    """
    if 'mmdet' in facts.distributions or name not in FORKS:
        return pinned(name)
    if not any(n.startswith('onedl-') for n in facts.distributions):
        return pinned(name)
    version = facts.distributions.get(FORKS[name])
    return f'{FORKS[name]}=={version}' if version else FORKS[name]


def rebuild_mmcv(facts: Facts, variables: str = '') -> str:
    """Command that compiles mmcv against the torch that is here.

    ``--no-cache-dir``: pip keeps the wheels it built and does not know which
    torch, or which operators, such a wheel was built for.
    """
    wanted = of_family(facts, 'mmcv')
    others = facts.providers('mmcv')
    steps = []
    if others and others != [wanted.split('==')[0]]:
        steps.append(f'{pip(facts)} uninstall -y {" ".join(others)}')
    steps.append(f'{pip(facts)} install "setuptools>=77.0.3,<81" wheel ninja '
                 'psutil')
    cuda = 'FORCE_CUDA=1 ' if facts.gpus else ''
    steps.append(f'{variables}{cuda}MMCV_WITH_OPS=1 {pip(facts)} install '
                 '--no-build-isolation --no-cache-dir --force-reinstall '
                 f'--no-deps {wanted}')
    return ' && '.join(steps)


def reinstall(facts: Facts, name: str) -> str:
    return (f'{pip(facts)} install --force-reinstall --no-deps '
            f'--no-cache-dir {name}')


# ------------------------------------------------ checks of an environment


def check_project(facts: Facts) -> Iterator[Finding]:
    """The packages of this repository, which tools and configs import."""
    if 'panoptic-fpn' not in facts.distributions:
        yield Finding(
            'panoptic_fpn is not installed in this environment.',
            f'{pip(facts)} install --no-deps -e {REQUIREMENTS.parent}')


def check_missing(facts: Facts) -> Iterator[Finding]:
    """Packages that are not installed at all."""
    if not facts.providers('torch'):
        yield Finding('torch is not installed.',
                      f'{pip(facts)} install {pinned("torch")}', ('torch', ))
    absent = [
        name for name in NEEDED
        if not facts.providers(IMPORT_NAMES.get(name, name))
    ]
    if absent:
        hint = ''
        if {'ftfy', 'regex'} & set(absent):
            hint = ' (mmseg imports ftfy and regex and does not ask for them)'
        wanted = ' '.join(of_family(facts, name) for name in absent)
        if 'numpy' in absent:  # nearly empty: its pin depends on the Python
            wanted = f'-r {requirement_file("runtime")}'
        yield Finding(f'Not installed: {", ".join(absent)}{hint}.',
                      f'{pip(facts)} install {wanted}',
                      tuple(NEEDED[name] for name in absent))
    if not facts.providers('mmcv'):
        yield Finding('mmcv is not installed.', rebuild_mmcv(facts),
                      ('mmcv', 'mmcv.ops'))


def check_pkg_resources(facts: Facts) -> Iterator[Finding]:
    """setuptools 82 removed pkg_resources; a 3.12 venv has no setuptools."""
    if not facts.pkg_resources:
        version = facts.distributions.get('setuptools')
        found = f'setuptools {version} has' if version else (
            'setuptools is not installed:')
        yield Finding(
            f'{found} no pkg_resources, which mmengine and the build of mmcv '
            'import.', f'{pip(facts)} install "setuptools>=77.0.3,<81"')


def check_duplicates(facts: Facts) -> Iterator[Finding]:
    """Two distributions that write the same files."""
    for name, probes in {
            'mmcv': ('mmcv', 'mmcv.ops'),
            'mmengine': ('mmengine', ),
            'mmdet': ('mmdet.models', ),
            'mmsegmentation': ('mmseg.models', ),
            'opencv-python': ('cv2', )
    }.items():
        module = IMPORT_NAMES.get(name, name)
        found = facts.providers(module)
        if len(found) < 2:
            continue
        if name == 'mmcv':
            command = rebuild_mmcv(facts)
        else:
            command = (f'{pip(facts)} uninstall -y {" ".join(found)} && '
                       f'{pip(facts)} install --no-deps '
                       f'{of_family(facts, name)}')
        yield Finding(
            f'{" and ".join(found)} are both installed; both are '
            f'imported as {module} and overwrite one another.', command,
            probes)


def check_mmcv_version(facts: Facts) -> Iterator[Finding]:
    """The original mmdet and mmsegmentation assert mmcv < 2.2.0."""
    version = facts.version('mmcv')
    originals = [
        n for n in ('mmdet', 'mmsegmentation') if n in facts.distributions
    ]
    if originals and release(version) >= (2, 2):
        yield Finding(
            f'{facts.providers("mmcv")[0]} {version} is too new: '
            f'{" and ".join(originals)} assert mmcv < 2.2.0.',
            rebuild_mmcv(facts), ('mmcv.ops', 'mmdet.models', 'mmseg.models'))


def check_mmcv_ops(facts: Facts) -> Iterator[Finding]:
    """Operators that are absent, or compiled for another torch."""
    error = facts.errors.get('mmcv.ops', '')
    problem = None
    if 'mmcv._ext' in error and 'No module' in error:
        name = (facts.providers('mmcv') or ['mmcv'])[0]
        problem = (f'{name} has no compiled operators (mmcv._ext); the models '
                   'need nms and RoIAlign.')
    elif any(sign in error for sign in TORCH_SIGNS):
        problem = ('mmcv was compiled for another torch than the installed '
                   f'{facts.version("torch")}: {error}')
    if problem:
        yield Finding(problem, rebuild_mmcv(facts), ('mmcv.ops', ))


def check_cuda_ops(facts: Facts) -> Iterator[Finding]:
    """A GPU that torch sees and mmcv cannot use."""
    probe = 'mmcv.ops on the GPU'
    if not facts.gpus or facts.mmcv_cuda is None:
        return
    if facts.mmcv_cuda == 'not available':
        toolkit = f'nvcc {facts.nvcc} is here' if facts.nvcc else (
            f'nvcc is not here: first install the CUDA toolkit '
            f'{facts.torch_cuda} that torch was built for')
        yield Finding(
            f'torch sees {facts.gpus[0]}, but mmcv was built without '
            f'CUDA operators ({toolkit}).', rebuild_mmcv(facts), (probe, ))
    elif probe in facts.errors:
        capability = ('TORCH_CUDA_ARCH_LIST="$(nvidia-smi --query-gpu='
                      'compute_cap --format=csv,noheader | head -n 1)" ')
        yield Finding(
            f'mmcv\'s CUDA operators do not run on {facts.gpus[0]}: '
            f'{facts.errors[probe]}', rebuild_mmcv(facts, capability),
            (probe, ))


def check_numpy(facts: Facts) -> Iterator[Finding]:
    """A package compiled for another numpy than the installed one."""
    names = {
        'cv2': 'opencv-python',
        'pycocotools.mask': 'pycocotools',
        'scipy.ndimage': 'scipy'
    }
    for probe, error in facts.errors.items():
        if not any(sign in error for sign in NUMPY_SIGNS):
            continue
        if probe == 'torch':  # torch < 2.3 knows numpy 1 alone
            command = f'{pip(facts)} install "numpy<2" "opencv-python<4.12"'
        elif probe.startswith('mmcv'):
            command = rebuild_mmcv(facts)
        else:
            name = names.get(probe, probe.split('.')[0])
            command = reinstall(facts, of_family(facts, name))
        yield Finding(
            f'{probe} was compiled for another numpy than '
            f'{facts.version("numpy")}: {error}', command, (probe, ))


def check_libraries(facts: Facts) -> Iterator[Finding]:
    """Shared libraries that opencv-python needs from the system."""
    match = re.search(r'(lib[\w.+-]+\.so[\d.]*): cannot open',
                      facts.errors.get('cv2', ''))
    if match:
        package = LIBRARIES.get(match.group(1), 'libgl1 libglib2.0-0')
        yield Finding(f'OpenCV does not load: {match.group(1)} is missing.',
                      f'apt-get install -y {package}', ('cv2', ))


def check_torchvision(facts: Facts) -> Iterator[Finding]:
    """mmengine imports torchvision when training starts, if it is there."""
    error = facts.errors.get('torchvision')
    if error:
        yield Finding(
            f'torchvision {facts.version("torchvision")} does not fit torch '
            f'{facts.version("torch")} and would stop training at its start; '
            f'this project does not need it: {error}',
            f'{pip(facts)} uninstall -y torchvision', ('torchvision', ))


#: Causes before their consequences.
CHECKS = (check_missing, check_pkg_resources, check_duplicates,
          check_libraries, check_numpy, check_mmcv_version, check_mmcv_ops,
          check_cuda_ops, check_torchvision, check_project)


def diagnose(facts: Facts) -> List[Finding]:
    """Everything that would not work, causes without their consequences."""
    findings, explained = [], set()
    for check in CHECKS:
        for finding in check(facts):
            if not finding.explains or set(finding.explains) - explained:
                findings.append(finding)
            explained.update(finding.explains)
    for probe, below in PROBES.items():
        if explained.intersection(below):
            explained.add(probe)
        elif probe in facts.errors and probe not in explained:
            explained.add(probe)
            findings.append(other_failure(facts, probe))
    return findings


def other_failure(facts: Facts, probe: str) -> Finding:
    """A package that fails in a way no check knows: install it again."""
    module = probe.split('.')[0]
    if module == 'mmcv':
        command = rebuild_mmcv(facts)
    else:
        name = (facts.providers(module) or [module])[0]
        version = facts.distributions.get(name)
        command = reinstall(facts, f'{name}=={version}' if version else name)
    return Finding(f'{probe} does not import: {facts.errors[probe]}', command,
                   (probe, ))


# ----------------------------------------------- checks before installing


def check_machine(facts: MachineFacts) -> List[Finding]:
    """What the system has to provide, in one command."""
    python = 'python3'
    if not facts.system_python:
        python = 'python{}.{}'.format(*facts.python)
    lacks = []
    if not facts.venv:
        lacks.append((f'{facts.executable} cannot make a virtual environment '
                      '(venv or ensurepip is missing)', f'{python}-venv'))
    if not facts.headers:
        lacks.append((f'Python.h of {facts.executable} is missing, which '
                      'compiling mmcv needs', f'{python}-dev'))
    if not facts.compiler:
        lacks.append(('g++ is missing, which compiling mmcv needs', 'g++'))
    for library in facts.missing_libraries:
        lacks.append(
            (f'{library} is missing, which OpenCV loads', LIBRARIES[library]))
    if not lacks:
        return []
    sudo = '' if facts.root else 'sudo '
    return [
        Finding('; '.join(problem for problem, _ in lacks) + '.',
                f'{sudo}apt-get install -y ' + ' '.join(p for _, p in lacks))
    ]


def check_cuda_toolkit(facts: Facts) -> List[Finding]:
    """With a GPU, compiling mmcv needs the CUDA toolkit of torch's CUDA."""
    if not facts.gpus:
        return []
    if facts.nvcc and release(facts.nvcc)[:1] == release(facts.torch_cuda)[:1]:
        return []
    found = f'nvcc is of CUDA {facts.nvcc}' if facts.nvcc else (
        'nvcc is not here')
    return [
        Finding(
            f'torch sees {facts.gpus[0]}, so mmcv is compiled with CUDA '
            f'operators, but {found} and torch is built for CUDA '
            f'{facts.torch_cuda}. Install that toolkit and set CUDA_HOME, or '
            'use an environment of your own (make ... PYTHON=PATH), or stay '
            'on the CPU:', 'CUDA_VISIBLE_DEVICES= make demo')
    ]
