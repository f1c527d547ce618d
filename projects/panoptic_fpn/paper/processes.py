"""Processes that are locked out, ended and asked why they failed."""
import fcntl
import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Iterator, Optional, Sequence

#: Seconds that an interrupted process has to end before it is killed.
GRACE = 30


def last_line(log: Path) -> str:
    """What a log says of a failure: its last error, or its last line."""
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
    """The lock of a log; None where another process has it."""
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
    """End processes with all that they started."""
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
