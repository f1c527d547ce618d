"""What one process tells the others of a run before it ends.

A process that fails while others wait for it in a collective leaves them
there: gloo notices a closed connection, NCCL waits for its timeout (10
minutes), and a process that hangs while it ends is noticed by neither. So the
one that fails leaves its message in the store through which the processes
found each other, and each has a thread that looks there.
"""
import datetime
import os
import sys
import threading
import time
from typing import Optional

from mmengine.dist import get_rank, get_world_size, is_distributed
from torch.distributed import TCPStore

#: Seconds between two looks.
_INTERVAL = 0.5

#: Seconds that a process has to end by itself once another one has failed.
GRACE = 20.

#: Seconds that a failing process waits for the others to have looked.
_PATIENCE = 3.


class PeerWatch:
    """One process's view of the failures of all.

    Args:
        store (Store): Shared by the processes, used by this object alone.
        rank (int): Of this process.
        world_size (int): Number of processes.
        grace (float): Seconds after which this process is ended.
    """

    def __init__(self,
                 store: TCPStore,
                 rank: int,
                 world_size: int,
                 grace: float = GRACE) -> None:
        self._store, self._rank, self._size = store, rank, world_size
        self._grace = grace
        # torch's launcher may start all processes again, with this counted up
        attempt = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
        self._failed = f'panoptic_fpn/failed/{attempt}'
        self._seen = f'panoptic_fpn/seen/{attempt}'
        self._stop = threading.Event()
        self._text: Optional[str] = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def tell(self, text: str) -> None:
        """Leave a message, where there is none yet, and wait until all other
        processes have seen it, a few seconds at most."""
        if self._text is not None:
            return
        end = time.monotonic() + _PATIENCE
        try:
            with self._lock:
                self._store.compare_set(self._failed, '',
                                        f'rank {self._rank}: {text}')
            while time.monotonic() < end:
                with self._lock:
                    if self._store.add(self._seen, 0) >= self._size:
                        return
                time.sleep(_INTERVAL / 5)
        except RuntimeError:
            return  # the process that keeps the store is gone

    def told(self, seconds: float) -> Optional[str]:
        """The first message, for which it waits so long."""
        end = time.monotonic() + seconds
        while self._text is None and time.monotonic() < end and \
                self._thread.is_alive():
            time.sleep(_INTERVAL / 5)
        return self._text

    def stop(self) -> None:
        """End the thread: this process is done."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(2)

    def _look(self) -> None:
        try:
            while self._text is None:
                if self._stop.wait(_INTERVAL):
                    return
                with self._lock:
                    if self._store.check([self._failed]):
                        self._text = self._store.get(self._failed).decode()
                        self._store.add(self._seen, 1)
        except RuntimeError:
            return  # the process that keeps the store is gone
        if not self._stop.wait(self._grace):
            print(
                f'[rank {self._rank}] error: {self._text} This process did '
                f'not end by itself within {self._grace:g} s.',
                file=sys.stderr,
                flush=True)
            os._exit(1)


_watch: Optional[PeerWatch] = None


def watch_peers() -> None:
    """Begin to look for failures of other processes; once."""
    global _watch
    environ = os.environ
    if _watch is not None or not is_distributed() or not {
            'MASTER_ADDR', 'MASTER_PORT'
    } <= set(environ):
        return
    try:
        store = TCPStore(
            environ['MASTER_ADDR'],
            int(environ['MASTER_PORT']),
            is_master=False,
            timeout=datetime.timedelta(seconds=30),
            wait_for_workers=False)
    except (RuntimeError, ValueError):  # another kind of store
        return
    _watch = PeerWatch(store, get_rank(), get_world_size())


def tell_peers(text: str) -> None:
    """Tell the other processes why this one ends; nothing without any."""
    if _watch is not None:
        _watch.tell(text)


def told_by_peers(seconds: float = 3.) -> Optional[str]:
    """Why another process ended; None where it has not said so."""
    return None if _watch is None else _watch.told(seconds)


def stop_watching() -> None:
    """This process is done, whatever the others do."""
    global _watch
    if _watch is not None:
        _watch.stop()
        _watch = None
