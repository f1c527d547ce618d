"""What figures were measured on: machine, versions, date, revision."""
import importlib
import importlib.metadata
import os
import platform
import subprocess
import time

from .harness import ROOT

_PACKAGES = dict(
    torch='torch',
    mmdet='mmdet',
    mmcv='mmcv',
    numpy='numpy',
    opencv='cv2',
    pycocotools='pycocotools')


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_machine() -> dict:
    """CPU, memory in bytes, system and versions.

    Returns:
        dict: cpu, cores, memory, system, python, gpu (None without) and the
        packages' versions by name (None where absent).
    """
    versions = {name: _version(name) for name in _PACKAGES}
    return dict(
        cpu=_cpu_model(),
        cores=num_cores(),
        memory=os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'),
        system=_system(),
        python=platform.python_version(),
        gpu=_gpu(),
        **versions)


def when() -> dict:
    """Date, and the revision of git where there is one ('-dirty': with
    changes that are not committed)."""
    try:
        git = subprocess.run(['git', 'describe', '--always', '--dirty'],
                             cwd=ROOT,
                             capture_output=True,
                             text=True)
        revision = git.stdout.strip() if git.returncode == 0 else None
    except OSError:
        revision = None
    return dict(date=time.strftime('%Y-%m-%d'), revision=revision or None)


def one_line(machine: dict) -> str:
    """Machine and versions in a sentence's worth of text."""
    device = machine['gpu'] or 'no GPU'
    packages = ', '.join(f'{name} {machine[name]}' for name in _PACKAGES
                         if machine.get(name))
    cores = f'{machine["cores"]} core' + 's' * (machine['cores'] != 1)
    return (f'{cores} of {machine["cpu"]}, {machine["memory"] / 1e9:.0f} GB, '
            f'{device}, {machine["system"]}, Python {machine["python"]}, '
            f'{packages}')


def _version(name):
    try:
        module = importlib.import_module(_PACKAGES[name])
    except ImportError:
        return None
    if hasattr(module, '__version__'):
        return str(module.__version__)
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _gpu():
    import torch
    if not torch.cuda.is_available():
        return None
    return f'{torch.cuda.device_count()} x {torch.cuda.get_device_name()}'


def _cpu_model():
    try:
        with open('/proc/cpuinfo') as f:
            for line in f:
                if line.startswith('model name'):
                    return line.split(':', 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _system():
    try:
        return platform.freedesktop_os_release()['PRETTY_NAME']
    except (OSError, KeyError):
        return f'{platform.system()} {platform.release()}'
