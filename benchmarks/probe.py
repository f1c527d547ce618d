"""What a process and its children hold: memory, objects, descriptors.

Linux only: the figures are those of ``/proc``.
"""
import ctypes
import gc
import math
import os
from typing import Dict, List, NamedTuple, Sequence


def memory_of(pid: int) -> Dict[str, int]:
    """Bytes of memory of a process.

    Returns:
        dict: ``rss``, resident pages; ``pss``, with those that n processes
        share counted as one nth; ``uss``, those of this process alone. Empty
        where the process is gone.
    """
    try:
        with open(f'/proc/{pid}/smaps_rollup') as f:
            lines = [line.split() for line in f]
    except OSError:
        return {}
    found = {
        line[0]: int(line[1]) * 1024
        for line in lines if line[-1] == 'kB'
    }
    return dict(
        rss=found['Rss:'],
        pss=found['Pss:'],
        uss=found['Private_Clean:'] + found['Private_Dirty:'])


def children_of(pid: int) -> List[int]:
    """Processes that a process has started, by all of its threads."""
    found = []
    for task in os.listdir(f'/proc/{pid}/task'):
        try:
            with open(f'/proc/{pid}/task/{task}/children') as f:
                found += map(int, f.read().split())
        except OSError:  # the thread has ended
            continue
    return found


def snapshot() -> Dict[str, int]:
    """What this process holds, after garbage was collected.

    Returns:
        dict: ``rss``, ``pss``, ``uss``, ``heap`` in bytes; ``workers_pss`` and
        ``workers_uss``, those of its children together; ``objects`` that
        Python's garbage collector knows, ``descriptors``, ``threads``,
        ``children``.
    """
    gc.collect()
    pid = os.getpid()
    children = children_of(pid)
    workers = [memory_of(child) for child in children]
    return dict(
        memory_of(pid),
        heap=heap(),
        workers_pss=sum(w.get('pss', 0) for w in workers),
        workers_uss=sum(w.get('uss', 0) for w in workers),
        objects=len(gc.get_objects()),
        descriptors=len(os.listdir(f'/proc/{pid}/fd')),
        threads=len(os.listdir(f'/proc/{pid}/task')),
        children=len(children))


class _Mallinfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""
    _fields_ = [(name, ctypes.c_size_t)
                for name in ('arena', 'ordblks', 'smblks', 'hblks', 'hblkhd',
                             'usmblks', 'fsmblks', 'uordblks', 'fordblks',
                             'keepcost')]


def heap() -> int:
    """Bytes that malloc has handed out and not got back; 0 where glibc (2.33
    and later) is not there to ask.

    What was freed and is kept for the next image, and the holes between
    blocks, are memory of the process and not in this number.
    """
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return 0
    function.restype = _Mallinfo
    found = function()
    return int(found.uordblks + found.hblkhd)


class Slope(NamedTuple):
    """Growth for each unit of x, and half the width of its 95 % interval."""
    value: float
    margin: float

    @property
    def flat(self) -> bool:
        """Whether 0 lies in the interval, or what is below it."""
        return self.value <= self.margin


def slope(x: Sequence[float], y: Sequence[float]) -> Slope:
    """Least squares line through points; the margin supposes residuals that
    are independent of each other and normal.

    Args:
        x, y (Sequence[float]): At least 3 points.
    """
    from scipy.stats import linregress, t
    fit = linregress(x, y)
    quantile = t.ppf(0.975, len(x) - 2)
    margin = quantile * fit.stderr
    return Slope(float(fit.slope), 0. if math.isnan(margin) else float(margin))
