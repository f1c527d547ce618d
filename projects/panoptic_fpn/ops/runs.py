"""Where the runs of equal values of a map begin.

A map of segments has few runs (some ten thousand in two megapixels), so what
is asked of every pixel is asked of every run instead.
"""
import numpy as np


def run_starts(*maps: np.ndarray, by_row: bool = False) -> np.ndarray:
    """Flat positions where a run of equal pixels begins.

    Args:
        maps (np.ndarray): One or more maps of the same shape (h, w); a run
            ends where any of them changes.
        by_row (bool): Whether a run also ends with its row.

    Returns:
        np.ndarray: int64 of shape (runs, ), ascending from 0.
    """
    change = np.empty(maps[0].size, dtype=bool)
    change[0] = True
    first, *others = [m.reshape(-1) for m in maps]
    np.not_equal(first[1:], first[:-1], out=change[1:])
    for values in others:
        change[1:] |= values[1:] != values[:-1]
    if by_row:
        change[::maps[0].shape[1]] = True
    return np.flatnonzero(change)
