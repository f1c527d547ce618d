"""Batches of a loader whose workers may die at any moment."""
import signal
import threading
import time
from contextlib import contextmanager
from typing import Any, Callable, Iterable, Iterator, Optional


class WatchedBatches:
    """Iterator over a loader; the death of a worker is an error of its own
    :meth:`__next__`.

    torch raises it from a signal handler, wherever the training is: in the
    middle of an optimizer step, while a checkpoint is being written, or while
    another worker hands over a file, of which it then prints a traceback.

    Args:
        loader (Iterable): Its workers start here.
    """

    def __init__(self, loader: Iterable) -> None:
        self._batches = iter(loader)
        self._busy = self._died = False
        self._theirs: Optional[Callable] = None
        handler = getattr(signal, 'SIGCHLD', None) and signal.getsignal(
            signal.SIGCHLD)
        if callable(handler) and \
                threading.current_thread() is threading.main_thread():
            self._theirs = handler
            signal.signal(signal.SIGCHLD, self._receive)

    def __next__(self) -> Any:
        if self._died:
            self._died = False
            self._tell()
        try:
            with self.undisturbed():
                return next(self._batches)  # looks for dead workers each 5 s
        except (OSError, EOFError, RuntimeError):
            # tensors that a worker sent before it died go with it, perhaps
            # before the signal arrives
            if self._theirs is not None:
                time.sleep(0.5)
            self._tell()
            raise

    def _tell(self) -> None:
        if self._theirs is not None:
            self._theirs(signal.SIGCHLD, None)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Inside, a worker that dies is not told."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def close(self) -> None:
        """Give torch its handler back."""
        if self._theirs is not None:
            signal.signal(signal.SIGCHLD, self._theirs)
            self._theirs = None

    def _receive(self, number: int, frame: Any) -> None:
        if self._busy:
            self._died = True
        elif self._theirs is not None:
            self._theirs(number, frame)
