"""How commands are started on this machine, locked out and ended.

Cores, GPUs and ports of the processes; locks beside their logs; why they
failed.
"""
import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterator, Optional, Sequence, Tuple

from .rows import PaperError

#: Seconds that an interrupted process has to end before it is killed.
GRACE = 30
_PACKAGES = ('torch', 'mmengine', 'mmcv', 'mmdet')
#: Starts (command, log file, slot, descriptors to inherit); gives a Popen.
Starter = Callable[[Sequence[str], IO, int, Sequence[int]], Any]


@dataclass(frozen=True)
class Machine:
    """What the processes of each slot get: cores without a GPU, GPUs else.

    Attributes:
        jobs (int): Slots.
        gpus (int): Of each slot; 0: on a CPU, also where GPUs are.
        visible (Sequence[str]): GPUs as CUDA_VISIBLE_DEVICES names them.
    """

    jobs: int = 1
    gpus: int = 0
    visible: Sequence[str] = ()

    def environ(self, slot: int) -> Dict[str, str]:
        """Variables of a process that are not this one's.

        Args:
            slot (int): From 0 to ``jobs - 1``.

        Returns:
            dict[str, str]: To be added to ``os.environ``.
        """
        extra = dict(PYTHON=sys.executable)
        if not self.gpus:
            cores = len(os.sched_getaffinity(0))
            extra['OMP_NUM_THREADS'] = os.environ.get(
                'OMP_NUM_THREADS', str(max(1, cores // self.jobs)))
            extra['CUDA_VISIBLE_DEVICES'] = ''
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
        """Start a command in a session of its own; a :data:`Starter`.

        Args:
            command (Sequence[str]): Program and arguments.
            log (IO): Takes what it prints.
            slot (int): See :meth:`environ`.
            inherited (Sequence[int]): Descriptors that it keeps.

        Returns:
            subprocess.Popen: It.

        Raises:
            OSError: There is no such program.
        """
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
    """Slots for runs side by side.

    Args:
        jobs (int): Runs at a time.
        gpus (int): GPUs of each.
        device_count (int): GPUs that are visible.

    Returns:
        Machine: With a slot for each job.

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
    """Versions of what trains, as far as they are installed by that name.

    Args:
        packages (tuple[str]): Names of distributions.

    Returns:
        dict[str, str]: By name; forks of the mm packages have others.
    """
    found: Dict[str, str] = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def last_line(log: Path) -> str:
    """What a log says of a failure.

    Args:
        log (Path): Of a process.

    Returns:
        str: Its last error, or else its last line.
    """
    try:
        with open(log, 'rb') as file:
            file.seek(max(0, log.stat().st_size - 20000))
            lines = file.read().decode(errors='replace').splitlines()
    except OSError as error:
        return f'no log ({error.strerror})'
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if line.startswith('error:')]
    return (errors or said or ['the log is empty'])[-1]


def lock_beside(log: Path) -> Optional[IO]:
    """Take the lock of a log.

    Args:
        log (Path): Its folder exists.

    Returns:
        IO | None: Holds the lock until it is closed, also in processes that
        inherit it; None where another process has it.
    """
    file = open(log.parent / f'.{log.stem}.lock', 'ab')
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends this process as Ctrl-C does: after its children."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    try:
        old = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def end(processes: Sequence[Any]) -> None:
    """End processes with all that they started.

    Args:
        processes (Sequence[Popen]): Each leads its own group.
    """
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(0.1, deadline - time.monotonic()))
    for process in processes:
        if process.poll() is None:
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: Any, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
