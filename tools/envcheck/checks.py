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

from .facts import LIBRARIES, PROBES, PROVIDERS, Facts, MachineFacts, release

REQUIREMENTS = Path(__file__).resolve().parents[2] / 'requirements'

#: What has to be there beside torch and mmcv, as it is imported.
NEEDED = ('numpy', 'cv2', 'mmengine', 'mmdet', 'mmseg', 'pycocotools',
          'cityscapesscripts', 'scipy', 'matplotlib', 'shapely',
          'terminaltables', 'ftfy', 'regex', 'kornia_rs', 'tabulate',
          'msgspec', 'filelock', 'jinja2', 'av')

#: Modules -> their distributions, where these are named otherwise.
DISTRIBUTIONS = {
    'cv2': 'opencv-python',
    'mmcv': 'mmcv-lite',
    'mmseg': 'mmsegmentation',
    'kornia_rs': 'kornia-rs',
}

#: Modules -> their maintained forks.
FORKS = {
    'mmengine': 'onedl-mmengine',
    'mmcv': 'onedl-mmcv',
    'mmdet': 'onedl-mmdetection',
    'mmseg': 'onedl-mmsegmentation',
}

NUMPY_SIGNS = ('dtype size changed', 'ufunc size changed',
               'multiarray failed to import', '_ARRAY_API not found',
               'compiled using NumPy 1', 'compiled against A',
               'Numpy is not available')

TORCH_SIGNS = ('undefined symbol', 'libtorch', 'libc10', 'libcudart')


@dataclass
class Finding:
    """Something that would not work."""
    problem: str  #: what and why, one sentence
    command: str  #: what mends it
    explains: Tuple[str, ...] = ()  #: probes whose failure it accounts for


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


def requirement(facts: Facts, module: str) -> str:
    """What to install for a module: the original's pin, or the fork.

    mmdet decides, because it asserts which mmcv it goes with.
    """
    if module not in FORKS or 'mmdet' in facts.distributions or \
            not any(n.startswith('onedl-') for n in facts.distributions):
        return pinned(DISTRIBUTIONS.get(module, module))
    version = facts.distributions.get(FORKS[module])
    return f'{FORKS[module]}=={version}' if version else FORKS[module]


def probes_of(*modules: str) -> Tuple[str, ...]:
    """Probes that import one of these; on the GPU, another reason counts."""
    pattern = re.compile(rf'({"|".join(modules)})(\.\w+)?')
    return tuple(filter(pattern.fullmatch, PROBES))


def install_mmcv(facts: Facts) -> str:
    """Command for an mmcv that needs no compiler; on GPUs, torchvision."""
    others = facts.providers('mmcv')
    # the cache may hold an onedl-mmcv that was compiled for another torch
    command = (f'{pip(facts)} install --no-deps --no-cache-dir '
               f'{requirement(facts, "mmcv")}')
    if others:
        command = f'{pip(facts)} uninstall -y {" ".join(others)} && {command}'
    if facts.gpus:
        command += f' && {install_torchvision(facts)}'
    return command


def install_torchvision(facts: Facts) -> str:
    """Command for the torchvision that goes with the torch that is here."""
    return (f'{pip(facts)} install torchvision '
            f'"torch=={facts.version("torch")}"')


def reinstall(facts: Facts, name: str) -> str:
    return (f'{pip(facts)} install --force-reinstall --no-deps '
            f'--no-cache-dir {name}')


# ------------------------------------------------ checks of an environment


def check_project(facts: Facts) -> Iterator[Finding]:
    """The packages of this repository, which tools and configs import."""
    if 'panoptic-fpn' not in facts.distributions:
        # its operators stand in for mmcv's
        explains = 'mmcv._ext' in facts.errors.get('mmcv.ops', '')
        yield Finding(
            'panoptic_fpn is not installed in this environment.',
            f'{pip(facts)} install --no-deps -e {REQUIREMENTS.parent}',
            ('mmcv.ops', ) * explains)


def check_missing(facts: Facts) -> Iterator[Finding]:
    """Packages that are not installed at all."""
    if not facts.providers('torch'):
        yield Finding('torch is not installed.',
                      f'{pip(facts)} install {pinned("torch")}', ('torch', ))
    absent = [module for module in NEEDED if not facts.providers(module)]
    if absent:
        names = ', '.join(DISTRIBUTIONS.get(name, name) for name in absent)
        if {'ftfy', 'regex'} & set(absent):
            names += ' (mmseg imports ftfy and regex, does not ask for them)'
        wanted = ' '.join(requirement(facts, name) for name in absent)
        if 'numpy' in absent:  # nearly empty: its pin depends on the Python
            wanted = f'-r {shlex.quote(str(REQUIREMENTS / "runtime.txt"))}'
        yield Finding(f'Not installed: {names}.',
                      f'{pip(facts)} install {wanted}', probes_of(*absent))
    if not facts.providers('mmcv'):
        yield Finding('mmcv is not installed.', install_mmcv(facts),
                      probes_of('mmcv'))


def check_pkg_resources(facts: Facts) -> Iterator[Finding]:
    """setuptools 82 removed pkg_resources; a 3.12 venv has no setuptools."""
    if not facts.pkg_resources:
        version = facts.distributions.get('setuptools')
        found = f'setuptools {version} has' if version else (
            'setuptools is not installed:')
        yield Finding(f'{found} no pkg_resources, which mmengine imports.',
                      f'{pip(facts)} install "setuptools>=77.0.3,<81"')


def check_duplicates(facts: Facts) -> Iterator[Finding]:
    """Two distributions that write the same files."""
    for module in PROVIDERS:
        found = facts.providers(module)
        if len(found) > 1:
            yield Finding(
                f'{" and ".join(found)} are both installed; both are '
                f'imported as {module} and overwrite one another.',
                f'{pip(facts)} uninstall -y {" ".join(found)} && {pip(facts)} '
                f'install --no-deps {requirement(facts, module)}',
                probes_of(module))


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
            install_mmcv(facts), ('mmcv.ops', 'mmdet.models', 'mmseg.models'))


def check_mmcv_ops(facts: Facts) -> Iterator[Finding]:
    """Operators that were compiled for another torch."""
    error = facts.errors.get('mmcv.ops', '')
    if any(sign in error for sign in TORCH_SIGNS):
        yield Finding(
            'mmcv was compiled for another torch than the installed '
            f'{facts.version("torch")}: {error}', install_mmcv(facts),
            ('mmcv.ops', ))


def check_cuda_ops(facts: Facts) -> Iterator[Finding]:
    """A GPU that torch sees and mmcv's operators do not run on."""
    probe = 'mmcv.ops on the GPU'
    if not facts.gpus or facts.mmcv_cuda is None:
        return
    error = facts.errors.get(probe)
    if facts.mmcv_cuda == 'not available':
        error = f'they are built without CUDA ({facts.operators})'
    if error:
        yield Finding(
            f'NMS and RoIAlign do not run on {facts.gpus[0]}: {error}',
            install_mmcv(facts), (probe, ))


def check_numpy(facts: Facts) -> Iterator[Finding]:
    """A package compiled for another numpy than the installed one."""
    for probe, error in facts.errors.items():
        if not any(sign in error for sign in NUMPY_SIGNS):
            continue
        if probe == 'torch':  # torch < 2.3 knows numpy 1 alone
            command = f'{pip(facts)} install "numpy<2" "opencv-python<4.12"'
        elif probe.startswith('mmcv'):
            command = install_mmcv(facts)
        else:
            command = reinstall(facts, requirement(facts, probe.split('.')[0]))
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
        command = f'{pip(facts)} uninstall -y torchvision'
        if facts.gpus:
            command += f' && {install_torchvision(facts)}'
        yield Finding(
            f'torchvision {facts.version("torchvision")} does not fit torch '
            f'{facts.version("torch")} and would stop training at its start; '
            f'on CPUs nothing needs it: {error}', command, ('torchvision', ))


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
        command = install_mmcv(facts)
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
    if facts.compiles and not facts.headers:
        lacks.append((f'Python.h of {facts.executable} is missing, which '
                      'compiling mmcv needs', f'{python}-dev'))
    if facts.compiles and not facts.compiler:
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
