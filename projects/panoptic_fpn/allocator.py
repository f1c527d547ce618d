"""Freed memory is kept and used again.

glibc asks the system for each large block and gives it back when it is freed;
the system zeroes every page of the next one. That is half of the time of
decoding an image, and a third of that of a ResNet-50 on a CPU. torch's own
allocator keeps memory of GPUs in the same way.
"""
import ctypes
import functools
import mmap
from math import prod
from typing import Optional, Tuple

import numpy as np

# Of malloc.h
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_MMAP_MAX = -4
# glibc's own
_DEFAULT_MMAP_MAX = 65536
#: For training, which keeps blocks of many sizes: with all of them in one
#: heap, holes between them took 14 % more memory than without; with those
#: above this size (bytes) left to the system 2 %, for a tenth of the speed.
LARGEST_IN_TRAINING = 48 << 20


def keep_freed_memory(largest: Optional[int] = None) -> bool:
    """Let malloc keep what this process frees, from now on.

    The process then holds the largest amount of memory that it needed, not
    what it needs at the moment. Processes that are forked do the same.

    Args:
        largest (int, optional): Bytes of the largest block that is kept. By
            default all are.

    Returns:
        bool: Whether the C library can.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False  # macOS, Windows, musl
    if largest is None:
        done = mallopt(_MMAP_MAX, 0)
    else:
        done = mallopt(_MMAP_MAX, _DEFAULT_MMAP_MAX) and mallopt(
            _MMAP_THRESHOLD, largest)
    return bool(done and mallopt(_TRIM_THRESHOLD, -1))


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

    Args:
        shape (tuple[int, ...]): Of the array.

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
