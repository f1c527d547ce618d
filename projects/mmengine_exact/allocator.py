"""Keep freed memory and use it again.

glibc asks the system for each large block and gives it back when it is freed;
the system zeroes every page of the next one. That is half of the time of
decoding an image, and a third of that of a ResNet-50 on a CPU. torch's own
allocator keeps memory of GPUs in the same way.
"""
import ctypes
import functools
import mmap
import os
from math import prod
from typing import Any, Callable, Optional, Tuple

import numpy as np
from mmengine.hooks import Hook

# malloc.h
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_MMAP_MAX = -4
# glibc's own
_DEFAULT_MMAP_MAX = 65536
#: For training, which keeps blocks of many sizes: with all of them in one
#: heap, holes between them took 14 % more memory than without; with those
#: above this size (bytes) left to the system 2 %, for a tenth of the speed.
LARGEST_IN_TRAINING = 48 << 20
#: Growth of the process, over what it holds after a batch, at which memory is
#: given back.
GROWTH = 1.5
#: Batches after which the usual memory of one is known: they differ in size.
SETTLED = 10


def keep_freed_memory(largest: Optional[int] = None) -> bool:
    """Let malloc keep what this process frees, from now on.

    The process then holds the largest amount of memory that it needed, not
    what it needs at the moment. Processes that are forked do the same. The
    holes that :class:`KeptMemory` gives back keep their addresses, so nothing
    is kept where these are limited.

    Args:
        largest (int, optional): Bytes of the largest block that is kept. By
            default all are.

    Returns:
        bool: Whether the C library can, and addresses are not limited.
    """
    global _kept
    if limits_addresses():
        return False
    try:
        libc = ctypes.CDLL(None)
        mallopt, trim = libc.mallopt, libc.malloc_trim
    except (AttributeError, OSError, TypeError):
        return False  # macOS, Windows, musl
    _kept = _kept or KeptMemory(trim)
    if largest is None:
        done = mallopt(_MMAP_MAX, 0)
    else:
        done = mallopt(_MMAP_MAX, _DEFAULT_MMAP_MAX) and mallopt(
            _MMAP_THRESHOLD, largest)
    return bool(done and mallopt(_TRIM_THRESHOLD, -1))


class KeptMemory:
    """Bounds what the process holds where memory is kept.

    Small blocks that stay, such as the scores of an image, may come to lie in
    the place of a large one that was freed. The next large one does not fit
    there any more and the heap grows, in some runs by megabytes an image.

    Args:
        trim (Callable): ``malloc_trim``.
    """

    def __init__(self, trim: Callable[[int], int]) -> None:
        self._trim = trim
        self._usual = self._batches = 0

    def after_batch(self) -> bool:
        """Give the system all that is free once the process has grown.

        Returns:
            bool: Whether it was given.
        """
        held = resident_bytes()
        if self._batches < SETTLED:
            self._batches += 1
            self._usual = max(self._usual, held)
        elif held > GROWTH * self._usual:
            self._trim(0)
            self._usual = self._batches = 0
            return True
        return False


_kept: Optional[KeptMemory] = None


def bound_kept_memory() -> bool:
    """Bound the memory that :func:`keep_freed_memory` keeps, if it does; to
    be called after each batch.

    Returns:
        bool: Whether memory was given back to the system.
    """
    return _kept is not None and _kept.after_batch()


class KeptMemoryHook(Hook):
    """Bounds the memory that a run on a CPU keeps, after each iteration.

    :class:`ExactRunner` adds it.
    """

    priority = 'LOWEST'

    def _after_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        bound_kept_memory()


def limits_addresses() -> bool:
    """Whether memory that was given back still counts: by ``ulimit -v``, or
    where the system promises no more than it has (vm.overcommit_memory=2)."""
    try:
        import resource
        if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
            return True
        with open('/proc/sys/vm/overcommit_memory') as file:
            return file.read().strip() == '2'
    except (ImportError, AttributeError, OSError):
        return False  # Windows, macOS


def resident_bytes() -> int:
    """Memory of this process; 0 where there is no ``/proc``."""
    try:
        with open('/proc/self/statm') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except OSError:
        return 0


@functools.lru_cache(None)
def keep_freed_megabytes() -> None:
    """Let malloc keep up to 64 MB that this process frees, for image files.

    glibc maps large blocks one by one until it sees one freed: blocks of up
    to its size then come from a heap, of which it keeps twice as much. 32 MB
    is as far as it learns. Other allocators do nothing here.
    """
    np.empty(31 << 20, np.uint8)


def lazy_zeros(shape: Tuple[int, ...]) -> np.ndarray:
    """False everywhere, at no cost for pages that are never touched.

    ``np.zeros`` does the same where malloc asks the system, and writes zeros
    where memory is kept.

    Returns:
        np.ndarray: bool, private to this process.
    """
    size = prod(shape)
    private = getattr(mmap, 'MAP_PRIVATE', 0) | getattr(
        mmap, 'MAP_ANONYMOUS', 0)
    if not size or not private:  # Windows
        return np.zeros(shape, bool)
    pages = mmap.mmap(-1, size, flags=private)
    return np.frombuffer(pages, bool).reshape(shape)
