"""Runs of equal pixels: what all three metrics count with.

A map of segments has few runs (tens of thousands in 2048x1024 pixels), so
areas, joint histograms, boxes and COCO's run-length encoding (RLE) are taken
from runs instead of from one comparison of the whole map per segment.

Maps are (h, w) integers and are never written to. Boxes are
(x, y, width, height) in pixels, as COCO JSON has them. RLE goes column by
column.
"""
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
from pycocotools import mask as mask_util


def run_starts(*maps: np.ndarray, by_row: bool = False) -> np.ndarray:
    """Flat positions where a run of equal pixels begins.

    Args:
        maps (np.ndarray): One or more maps of the same shape (h, w); a run
            ends where any of them changes.
        by_row (bool): Whether a run also ends with its row.

    Returns:
        np.ndarray: int64 of shape (runs, ), ascending from 0.
    """
    width = maps[0].shape[1]
    flat = [m.reshape(-1) for m in maps]
    change = flat[0][1:] != flat[0][:-1]
    for values in flat[1:]:
        change |= values[1:] != values[:-1]
    if by_row:
        change[width - 1::width] = True
    return np.concatenate([[0], np.flatnonzero(change) + 1])


def joint_runs(*maps: np.ndarray) -> Tuple[List[np.ndarray], np.ndarray]:
    """Values of several maps on their common runs, and the runs' lengths.

    Args:
        maps (np.ndarray): Maps of the same shape (h, w).

    Returns:
        tuple[list[np.ndarray], np.ndarray]: One array (runs, ) for each map;
        int64 (runs, ) lengths in pixels, which add up to h * w.
    """
    starts = run_starts(*maps)
    lengths = np.diff(starts, append=maps[0].size)
    return [m.reshape(-1)[starts] for m in maps], lengths


def joint_histogram(rows: np.ndarray, cols: np.ndarray, lengths: np.ndarray,
                    shape: Tuple[int, int]) -> np.ndarray:
    """Pixels by (row index, column index) of runs.

    Args:
        rows (np.ndarray): (runs, ), 0..shape[0] - 1.
        cols (np.ndarray): (runs, ), 0..shape[1] - 1.
        lengths (np.ndarray): (runs, ) in pixels.
        shape (tuple[int, int]): Of the result.

    Returns:
        np.ndarray: int64 of ``shape``. Exact: bincount adds in float64.
    """
    counts = np.bincount(
        rows.astype(np.int64) * shape[1] + cols,
        weights=lengths,
        minlength=shape[0] * shape[1])
    return counts.astype(np.int64).reshape(shape)


def segment_boxes(
        segments: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Area and box of every segment of a map.

    Args:
        segments (np.ndarray): (h, w) codes.

    Returns:
        tuple[np.ndarray, np.ndarray, np.ndarray]: The n codes that occur,
        ascending; areas (n, ) in pixels; boxes (n, 4).
    """
    starts = run_starts(segments, by_row=True)
    lengths = np.diff(starts, append=segments.size)
    codes, index = np.unique(segments.reshape(-1)[starts], return_inverse=True)
    y, x = np.divmod(starts, segments.shape[1])
    order = np.argsort(index, kind='stable')
    first = np.searchsorted(index[order], np.arange(len(codes)))
    areas = np.add.reduceat(lengths[order], first)
    low_x = np.minimum.reduceat(x[order], first)
    low_y = np.minimum.reduceat(y[order], first)
    high_x = np.maximum.reduceat((x + lengths)[order], first)
    high_y = np.maximum.reduceat(y[order], first) + 1
    return codes, areas, np.stack(
        [low_x, low_y, high_x - low_x, high_y - low_y], axis=1)


def rle_of_intervals(starts: np.ndarray, ends: np.ndarray,
                     shape: Tuple[int, int]) -> Dict:
    """COCO's compressed RLE of a set of pixels.

    Args:
        starts (np.ndarray): Ascending positions ``x * h + y`` of the first
            pixel of each interval.
        ends (np.ndarray): One past the last pixel; no two intervals touch.
        shape (tuple[int, int]): (h, w).

    Returns:
        dict: ``size`` [h, w] and ``counts`` (bytes), as pycocotools encodes.
    """
    h, w = shape
    borders = np.empty(2 * len(starts) + 2, dtype=np.int64)
    borders[0], borders[-1] = 0, h * w
    borders[1:-1:2], borders[2:-1:2] = starts, ends
    counts = np.diff(borders).tolist()
    if len(counts) > 1 and counts[-1] == 0:
        counts.pop()
    return mask_util.frPyObjects(dict(size=[h, w], counts=counts), h, w)


def encode_segments(segments: np.ndarray, codes: Sequence[int]) -> List[Dict]:
    """RLE of some segments of a map.

    Args:
        segments (np.ndarray): (h, w) codes.
        codes (Sequence[int]): n of them; one that does not occur is empty.

    Returns:
        list[dict]: n RLEs.
    """
    columns = np.ascontiguousarray(segments.T)
    starts = run_starts(columns)
    values = columns.reshape(-1)[starts]
    ends = np.append(starts[1:], columns.size)
    rles = []
    for code in codes:
        runs = np.flatnonzero(values == code)
        rles.append(rle_of_intervals(starts[runs], ends[runs], segments.shape))
    return rles


def mask_window(mask: np.ndarray) -> Optional[Tuple[int, int, int, int]]:
    """Smallest window (y1, x1, y2, x2), half open, or None without pixel."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    y1, y2 = int(rows[0]), int(rows[-1]) + 1
    cols = np.flatnonzero(mask[y1:y2].any(axis=0))
    return y1, int(cols[0]), y2, int(cols[-1]) + 1


def encode_mask(mask: np.ndarray) -> Dict:
    """RLE of one bitmap; looks column by column at its window only.

    pycocotools walks through all h * w pixels in column order, which is most
    of the cost of mask AP on large images.

    Args:
        mask (np.ndarray): (h, w) bool, or integers where 0 is outside.

    Returns:
        dict: As ``pycocotools.mask.encode``.
    """
    mask = mask.astype(bool, copy=False)
    h = mask.shape[0]
    none = np.zeros(0, dtype=np.int64)
    window = mask_window(mask)
    if window is None:
        return rle_of_intervals(none, none, mask.shape)
    y1, x1, y2, x2 = window
    # A row of zeros above and below keeps the runs of each column apart.
    columns = np.zeros((x2 - x1, y2 - y1 + 2), dtype=np.int8)
    columns[:, 1:-1] = mask[y1:y2, x1:x2].T
    steps = np.diff(columns, axis=1)
    col, row = np.nonzero(steps > 0)
    starts = (col + x1) * h + row + y1
    col, row = np.nonzero(steps < 0)
    ends = (col + x1) * h + row + y1
    # Full-height columns touch: the last pixel of one, the first of the next.
    apart = starts[1:] != ends[:-1]
    return rle_of_intervals(starts[np.append(True, apart)],
                            ends[np.append(apart, True)], mask.shape)
