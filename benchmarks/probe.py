"""What a process and its children hold: memory, objects, descriptors."""
import ctypes
import gc
import math
from typing import Dict, NamedTuple, Sequence

import psutil


def memory_of(pid: int) -> Dict[str, int]:
    """Bytes of memory of a process: ``rss``, resident pages; ``pss``, with
    those that n processes share counted as one nth; ``uss``, those of this
    process alone. Empty where the process is gone."""
    try:
        found = psutil.Process(pid).memory_full_info()
    except psutil.NoSuchProcess:
        return {}
    return dict(rss=found.rss, pss=found.pss, uss=found.uss)


def snapshot() -> Dict[str, int]:
    """What this process holds, after garbage was collected: ``rss``, ``pss``,
    ``uss``, ``heap`` in bytes; ``workers_pss`` and ``workers_uss`` of all its
    children; numbers of ``objects`` that Python's garbage collector knows, of
    ``descriptors``, ``threads``, ``children``."""
    gc.collect()
    process = psutil.Process()
    children = process.children()
    workers = [memory_of(child.pid) for child in children]
    return dict(
        memory_of(process.pid),
        heap=heap(),
        workers_pss=sum(w.get('pss', 0) for w in workers),
        workers_uss=sum(w.get('uss', 0) for w in workers),
        objects=len(gc.get_objects()),
        descriptors=process.num_fds(),
        threads=process.num_threads(),
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
    """Least squares line through at least 3 points; the margin supposes
    residuals that are independent of each other and normal."""
    from scipy.stats import linregress, t
    fit = linregress(x, y)
    quantile = t.ppf(0.975, len(x) - 2)
    margin = quantile * fit.stderr
    return Slope(float(fit.slope), 0. if math.isnan(margin) else float(margin))
