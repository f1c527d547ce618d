"""How a command is started on this machine: cores, GPUs, ports."""
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import IO, Any, Callable, Dict, List, Sequence, Tuple

from .errors import PaperError

_PACKAGES = ('torch', 'mmengine', 'mmcv', 'mmdet')
#: Starts (command, log file, slot, descriptors to inherit); gives a Popen.
Starter = Callable[[Sequence[str], IO, int, Sequence[int]], Any]


@dataclass(frozen=True)
class Machine:
    """What the processes of each slot get: cores without a GPU, GPUs else.

    ``visible`` are the GPUs as CUDA_VISIBLE_DEVICES names them.
    """

    jobs: int = 1
    gpus: int = 0
    visible: Sequence[str] = ()

    def environ(self, slot: int) -> Dict[str, str]:
        """Variables of a process that are not this one's."""
        extra = dict(PYTHON=sys.executable)
        if not self.gpus:
            cores = len(os.sched_getaffinity(0))
            extra['OMP_NUM_THREADS'] = os.environ.get(
                'OMP_NUM_THREADS', str(max(1, cores // self.jobs)))
        elif self.jobs > 1:
            first = slot * self.gpus
            # where none is visible, the processes share the CPU
            chosen = self.visible[first:first + self.gpus]
            if chosen:
                extra['CUDA_VISIBLE_DEVICES'] = ','.join(chosen)
            port = int(os.environ.get('PORT', 29500))
            extra['PORT'] = str(port + slot)
        return extra

    def start(self, command: Sequence[str], log: IO, slot: int,
              inherited: Sequence[int]) -> subprocess.Popen:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                **self.environ(slot)
            },
            pass_fds=inherited,
            # Ctrl-C is for this process, which ends the others
            start_new_session=True)


def machine(jobs: int, gpus: int, device_count: int) -> Machine:
    """Slots for ``jobs`` runs of ``gpus`` GPUs each.

    Raises:
        PaperError: There are fewer GPUs.
    """
    if device_count and jobs * gpus > device_count:
        raise PaperError(f'--jobs {jobs} of --gpus {gpus}: {jobs * gpus} GPUs,'
                         f' but {device_count} are visible. Lower one.')
    named = os.environ.get('CUDA_VISIBLE_DEVICES')
    visible = named.split(',') if named else map(str, range(device_count))
    return Machine(jobs, gpus, tuple(visible) if device_count else ())


def versions(packages: Tuple[str, ...] = _PACKAGES) -> Dict[str, str]:
    """Versions of what trains, as far as they are installed by that name."""
    found: List[Tuple[str, str]] = []
    for name in packages:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:  # as the forks of the mm packages
            continue
    return dict(found)
