"""Threads of torch on a CPU: as many as other processes leave cores free.

OpenMP's threads wait for each other after every operator, in a loop that keeps
their cores. One that shares its core with another process holds up all: beside
one busy process on 2 cores an iteration took 3.0 times as long as alone, with
one thread 1.2 times. Waiting asleep (``GOMP_SPINCOUNT``) took 1.5 times alone.

And threads of process groups, before workers of a loader are forked.
"""
import os
import sys
import time
from typing import Optional

import psutil
import torch
from mmengine.dist import is_distributed
from mmengine.logging import print_log

#: Seconds for which the load is measured.
_SAMPLE = 0.5
#: Seconds after which the threads of a process group have dropped the tensors
#: of the last collective: at once with gloo, NCCL's look each 0.1 s.
_DROPPED = 0.1


def fit_threads(number: Optional[int] = None) -> None:
    """Set the number of threads, unless ``OMP_NUM_THREADS`` does. Sums depend
    on it in their last bits.

    Args:
        number (int, optional): That of a run that is continued. By default
            the number of free cores, of those that this process may use.
    """
    if 'OMP_NUM_THREADS' in os.environ:
        return
    threads = torch.get_num_threads()
    reason = 'as in the run that is continued'
    if number is None:
        reason = 'for the cores that were free at the start'
        loads = psutil.cpu_percent(_SAMPLE, percpu=True)
        if hasattr(os, 'sched_getaffinity'):  # not on macOS
            allowed = os.sched_getaffinity(0)
            loads = [load for i, load in enumerate(loads) if i in allowed]
        number = max(1, round(len(loads) - sum(loads) / 100))
    if number < threads:
        print_log(
            f'Threads: {number} instead of {threads}, {reason}. '
            'OMP_NUM_THREADS sets another number.', 'current')
        torch.set_num_threads(number)


def _wait_for_group() -> None:
    """Let the threads of a process group drop tensors, for which they take
    the GIL. A child that is forked meanwhile waits forever for a lock of the
    interpreter that such a thread holds."""
    if is_distributed():
        time.sleep(_DROPPED)


if sys.version_info < (3, 12):  # since then a child renews its locks first
    os.register_at_fork(before=_wait_for_group)
