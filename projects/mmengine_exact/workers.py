"""Jobs in several processes, which end with the process that started them."""
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import (Any, Callable, Deque, Generator, Iterator, Optional,
                    Sequence)

import cv2

from .errors import InputError


def run_jobs(function: Callable[[Any], Any],
             jobs: Sequence,
             num_workers: Optional[int],
             in_order: bool = False) -> Generator[Any, None, None]:
    """Results of ``function`` on each job, in the order they are finished.

    Args:
        function (Callable): Defined in a module, so any process can find it.
        jobs (Sequence): Its arguments, one for each call.
        num_workers (int, optional): Processes; with 1 all is done in this
            one. By default one for each core, at most 8.
        in_order (bool): In the order of the jobs instead.

    Raises:
        InputError: A process was killed. What ``function`` raises passes
            through; jobs that were not begun are dropped.
    """
    if not num_workers:  # with more than 8 the disk limits
        num_workers = min(8, len(os.sched_getaffinity(0)))
    if min(num_workers, len(jobs)) < 2:
        for job in jobs:
            yield function(job)
        return
    with _without_opencv_threads():
        pool = ProcessPoolExecutor(
            min(num_workers, len(jobs)), initializer=_begin_worker)
        try:
            futures = _submit(pool, function, jobs)
            if not in_order:
                for future in as_completed(futures):
                    yield future.result()
            while in_order and futures:  # released at once: may be large
                yield futures.popleft().result()
        except BrokenProcessPool:
            raise InputError(
                f'One of {num_workers} processes was killed, most likely for '
                'want of memory. Run again with fewer '
                '--num-workers.') from None
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _without_opencv_threads() -> Iterator[None]:
    """Use one thread: a forked child would wait forever for threads of its
    parent, and many processes should have no more than one each."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _submit(pool: ProcessPoolExecutor, function: Callable,
            jobs: Sequence) -> Deque[Future]:
    # Ctrl-C goes to the whole group of processes, but only this one may end
    # the others. They inherit that the signal is blocked.
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return deque(pool.submit(function, job) for job in jobs)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def _begin_worker() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End with the parent: a worker would wait for its jobs forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
