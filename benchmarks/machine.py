"""What figures were measured on: machine, versions, date, revision."""
import platform
import time

import psutil

from mmengine_exact.record import revision, versions

_PACKAGES = ('torch', 'mmdet', 'mmcv', 'numpy', 'opencv', 'pycocotools')


def num_cores() -> int:
    """Cores that this process may use."""
    return len(psutil.Process().cpu_affinity())


def describe_machine() -> dict:
    """CPU, memory in bytes, system and versions.

    Returns:
        dict: cpu, cores, memory, system, python, gpu (None without) and the
        packages' versions by name (None where absent).
    """
    return dict(
        cpu=_cpu_model(),
        cores=num_cores(),
        memory=psutil.virtual_memory().total,
        system=_system(),
        python=platform.python_version(),
        gpu=_gpu(),
        **{name: versions()[name]
           for name in _PACKAGES})


def has_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16 itself (x86's AVX-512 or AMX,
    Arm's); without, a training step takes minutes and measures nothing that
    one would use."""
    flags = set(_cpuinfo('flags', 'Features').split())
    return bool(flags & {'avx512_bf16', 'amx_bf16', 'bf16'})


def when() -> dict:
    """Date, and the revision of git where there is one ('-dirty': with
    changes that are not committed)."""
    return dict(date=time.strftime('%Y-%m-%d'), revision=revision())


def one_line(machine: dict) -> str:
    """Machine and versions in a sentence's worth of text."""
    device = machine['gpu'] or 'no GPU'
    packages = ', '.join(f'{name} {machine[name]}' for name in _PACKAGES
                         if machine.get(name))
    cores = f'{machine["cores"]} core' + 's' * (machine['cores'] != 1)
    return (f'{cores} of {machine["cpu"]}, {machine["memory"] / 1e9:.0f} GB, '
            f'{device}, {machine["system"]}, Python {machine["python"]}, '
            f'{packages}')


def _gpu():
    import torch
    if not torch.cuda.is_available():
        return None
    return f'{torch.cuda.device_count()} x {torch.cuda.get_device_name()}'


def _cpu_model():
    return (_cpuinfo('model name') or platform.processor()
            or platform.machine())


def _cpuinfo(*names: str) -> str:
    """The first such entry that Linux gives of the CPU, '' without."""
    try:
        with open('/proc/cpuinfo') as f:
            for line in f:
                if line.startswith(names):
                    return line.split(':', 1)[1].strip()
    except OSError:
        pass
    return ''


def _system():
    try:
        return platform.freedesktop_os_release()['PRETTY_NAME']
    except (OSError, KeyError):
        return f'{platform.system()} {platform.release()}'
