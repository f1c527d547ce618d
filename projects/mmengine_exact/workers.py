"""Jobs on several processes that end with whoever started them."""
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Callable, Generator, Iterator, List, Optional, Sequence

import cv2

from .errors import InputError


def default_workers() -> int:
    """As many as this process has cores, at most 8: the disk is next."""
    return min(8, len(os.sched_getaffinity(0)))


def run_jobs(function: Callable[[Any], Any],
             jobs: Sequence,
             num_workers: int,
             start_method: Optional[str] = None,
             in_order: bool = False) -> Generator[Any, None, None]:
    """Results of ``function`` on each job, in the order they are finished.

    Args:
        function (Callable): Of a module, so that any process can find it.
        jobs (Sequence): Its arguments, one for each call.
        num_workers (int): Processes; with 1 all is done in this one.
        start_method (str, optional): 'fork', 'spawn', ...; by default the
            system's.
        in_order (bool): In the order of the jobs instead.

    Raises:
        InputError: A process was killed. What ``function`` raises passes
            through; jobs that were not begun are dropped.
    """
    if min(num_workers, len(jobs)) < 2:
        for job in jobs:
            yield function(job)
        return
    with _without_opencv_threads():
        pool = ProcessPoolExecutor(
            min(num_workers, len(jobs)),
            mp_context=multiprocessing.get_context(start_method),
            initializer=_begin_worker)
        try:
            futures = _submit(pool, function, jobs)
            finished = _each(futures) if in_order else as_completed(futures)
            for future in finished:
                yield future.result()
        except BrokenProcessPool:
            raise InputError(
                f'One of {num_workers} processes was killed, most likely for '
                'want of memory. Run again with fewer '
                '--num-workers.') from None
        finally:
            pool.shutdown(cancel_futures=True)


def _each(futures: List[Future]) -> Iterator[Future]:
    """One by one, and not held any longer: results may be large."""
    futures.reverse()
    while futures:
        yield futures.pop()


@contextmanager
def _without_opencv_threads() -> Iterator[None]:
    """A forked child waits forever for threads that its parent had. One
    thread for each process is also what many processes want."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _submit(pool: ProcessPoolExecutor, function: Callable,
            jobs: Sequence) -> List[Future]:
    # Ctrl-C goes to the whole group of processes; it is for this one alone
    # to end the others. They inherit that the signal is held back.
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return [pool.submit(function, job) for job in jobs]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def _begin_worker() -> None:
    # without effect where it was inherited, needed where it was not (spawn)
    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for jobs forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
