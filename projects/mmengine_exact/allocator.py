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
import resource
from math import prod
from typing import Callable, Optional, Tuple

import numpy as np

# malloc.h
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_MMAP_MAX = -4
# glibc's own
_DEFAULT_MMAP_MAX = 65536
#: Largest block (bytes) kept in training, where sizes vary: with all of them
#: in one heap, holes between them took 14 % more memory; with larger ones left
#: to the system, 2 %, at a tenth of the speed.
LARGEST_IN_TRAINING = 48 << 20
#: Growth of the process, over what it holds after a batch, at which memory is
#: given back.
GROWTH = 1.5
#: Batches until the usual memory of one is known, since they differ in size.
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
        bool: Whether the C library can do so, and addresses are not limited.
    """
    libc = ctypes.CDLL(None)
    mallopt = getattr(libc, 'mallopt', None)  # not on macOS, not in musl
    if mallopt is None or limits_addresses():
        return False
    _kept.trim = libc.malloc_trim
    mallopt(_MMAP_MAX, 0 if largest is None else _DEFAULT_MMAP_MAX)
    if largest is not None:
        mallopt(_MMAP_THRESHOLD, largest)
    return bool(mallopt(_TRIM_THRESHOLD, -1))


class KeptMemory:
    """Bounds what the process holds where memory is kept.

    Small blocks that stay, such as the scores of an image, may come to lie in
    the place of a large one that was freed. The next large one does not fit
    there any more and the heap grows, in some runs by megabytes an image.

    Attributes:
        trim (Callable): ``malloc_trim``; None where nothing is kept.
    """

    trim: Optional[Callable[[int], int]] = None
    _usual = _batches = 0

    def after_batch(self) -> bool:
        """Return free memory to the system once the process has grown.

        Returns:
            bool: Whether memory was returned.
        """
        if self.trim is None:
            return False
        held = resident_bytes()
        if self._batches < SETTLED:
            self._batches += 1
            self._usual = max(self._usual, held)
        elif held > GROWTH * self._usual:
            self.trim(0)
            self._usual = self._batches = 0
            return True
        return False


_kept = KeptMemory()
#: Bounds the memory that :func:`keep_freed_memory` keeps, if it does; to be
#: called after each batch.
bound_kept_memory = _kept.after_batch


def limits_addresses() -> bool:
    """Whether returned memory still counts towards a limit: ``ulimit -v``, or
    a system that promises no more than it has (vm.overcommit_memory=2)."""
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return True
    with open('/proc/sys/vm/overcommit_memory') as file:
        return file.read().strip() == '2'


def resident_bytes() -> int:
    """Resident memory of this process."""
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


@functools.lru_cache(None)
def keep_freed_megabytes() -> None:
    """Let malloc keep up to 64 MB that this process frees, for image files.

    glibc maps large blocks one by one until it sees one freed: blocks of up
    to its size then come from a heap, of which it keeps twice as much. 32 MB
    is as far as it learns. Other allocators do nothing here.
    """
    np.empty(31 << 20, np.uint8)


def lazy_zeros(shape: Tuple[int, ...]) -> np.ndarray:
    """Array of False; pages that are never touched cost nothing.

    ``np.zeros`` does the same where malloc asks the system, and writes zeros
    where memory is kept.

    Returns:
        np.ndarray: bool, private to this process.
    """
    size = prod(shape)
    if not size:
        return np.zeros(shape, bool)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, bool).reshape(shape)
