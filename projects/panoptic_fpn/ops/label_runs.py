"""Runs of equal pixels: what all three metrics count with.

A map of segments has few runs (tens of thousands in 2048x1024 pixels), so
areas, joint histograms, boxes and COCO's run-length encoding (RLE) are taken
from runs instead of from one comparison of the whole map per segment.

Maps are (h, w) integers and are never written to. Boxes are
(x, y, width, height) in pixels, as COCO JSON has them. RLE goes column by
column.
"""
from typing import Dict, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
from pycocotools import mask as mask_util

from .runs import run_starts

#: Values from 0 to below this are looked up in a table; others are sorted.
TABLE_SIZE = 1 << 22


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
    return [m.reshape(-1).take(starts) for m in maps], lengths


def index_values(values: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Different values, and the place of each entry among them.

    What ``np.unique`` with ``return_inverse`` finds, without sorting the
    runs, which took most of the time of all counting.

    Args:
        values (np.ndarray): Integers (n, ), n > 0.

    Returns:
        tuple[np.ndarray, np.ndarray]: int64 (k, ), ascending; indices into
        it, (n, ).
    """
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= TABLE_SIZE:
        found, index = np.unique(values, return_inverse=True)
        return found.astype(np.int64), index.reshape(-1)
    seen = np.zeros(high + 1, dtype=bool)
    seen[values] = True
    found = np.flatnonzero(seen)
    place = np.empty(high + 1, dtype=np.int64)
    place[found] = np.arange(len(found))
    return found, place.take(values)


def index_map(
        segments: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A map of segments with its codes numbered through.

    Args:
        segments (np.ndarray): (h, w) codes.

    Returns:
        tuple[np.ndarray, np.ndarray, np.ndarray]: int64 (n, ), the codes
        that occur, ascending; int64 (n, ), their areas in pixels; int32
        (h, w), the index of each pixel's code.
    """
    (values, ), lengths = joint_runs(segments)
    codes, index = index_values(values)
    areas = np.bincount(index, weights=lengths).astype(np.int64)
    pixels = np.repeat(index.astype(np.int32), lengths)
    return codes, areas, pixels.reshape(segments.shape)


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


def by_value(index: np.ndarray, size: int) -> Tuple[np.ndarray, np.ndarray]:
    """Entries grouped by their value, in their order within each group.

    Args:
        index (np.ndarray): (n, ), 0..size - 1.
        size (int): k.

    Returns:
        tuple[np.ndarray, np.ndarray]: int64 (n, ), the entries, group after
        group; int64 (k + 1, ), where each group begins, and n.
    """
    if size <= 1 << 16:
        # numpy sorts 16 bits by radix, in linear time
        index = index.astype(np.uint16)
    borders = np.cumsum(np.bincount(index, minlength=size))
    return np.argsort(index, kind='stable'), np.append(0, borders)


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
    codes, index = index_values(segments.reshape(-1).take(starts))
    order, borders = by_value(index, len(codes))
    first, last = borders[:-1], borders[1:] - 1
    starts, lengths = starts[order], lengths[order]
    y, x = np.divmod(starts, segments.shape[1])
    low_x = np.minimum.reduceat(x, first)
    high_x = np.maximum.reduceat(x + lengths, first)
    # runs of a group go from top to bottom
    low_y, high_y = y[first], y[last] + 1
    return codes, np.add.reduceat(lengths, first), np.stack(
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
    counts = np.diff(borders)
    if counts[-1] == 0:
        counts = counts[:-1]
    return mask_util.frPyObjects(dict(size=[h, w], counts=counts), h, w)


def encode_segments(segments: np.ndarray,
                    codes: Union[np.ndarray, Sequence[int]]) -> List[Dict]:
    """RLE of some segments of a map.

    Args:
        segments (np.ndarray): (h, w) codes.
        codes (np.ndarray | Sequence[int]): n of them; one that does not occur
            is empty.

    Returns:
        list[dict]: n RLEs.
    """
    columns = transposed(segments)
    starts = run_starts(columns)
    found, index = index_values(columns.reshape(-1).take(starts))
    order, borders = by_value(index, len(found))
    ends = np.append(starts[1:], columns.size)[order]
    starts = starts[order]
    place = {code: i for i, code in enumerate(found.tolist())}
    rles = []
    for code in codes:
        i = place.get(int(code))
        runs = slice(0) if i is None else slice(borders[i], borders[i + 1])
        rles.append(rle_of_intervals(starts[runs], ends[runs], segments.shape))
    return rles


def transposed(array: np.ndarray) -> np.ndarray:
    """(w, h) copy of (h, w); OpenCV goes through it in blocks."""
    if array.dtype not in (np.uint8, np.int32):
        return np.ascontiguousarray(array.T)
    return cv2.transpose(array)


def mask_window(mask: np.ndarray) -> Optional[Tuple[int, int, int, int]]:
    """Smallest window (y1, x1, y2, x2), half open, or None without pixel."""
    # By the width: the stride of a single row may be any.
    if mask.flags.c_contiguous and mask.shape[1] * mask.itemsize % 8 == 0:
        # Eight pixels at once: most of the time goes into empty rows.
        held = np.bitwise_or.reduce(mask.view(np.uint64), axis=1)
    else:
        held = mask.any(axis=1)
    rows = np.flatnonzero(held)
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
    window = mask_window(mask)
    if window is None:
        none = np.zeros(0, dtype=np.int64)
        return rle_of_intervals(none, none, mask.shape)
    y1, x1, y2, x2 = window
    # A pixel of zero below each column keeps the runs of columns apart.
    columns = np.zeros((x2 - x1, y2 - y1 + 1), dtype=np.uint8)
    columns[:, :-1] = transposed(mask[y1:y2, x1:x2].view(np.uint8))
    steps = run_starts(columns)
    # Runs of ones and zeros in turn; the last one is of zeros.
    steps = steps if columns[0, 0] else steps[1:]
    col, row = np.divmod(steps, columns.shape[1])
    borders = (col + x1) * mask.shape[0] + row + y1
    starts, ends = borders[::2], borders[1::2]
    # Full-height columns touch: the last pixel of one, the first of the next.
    apart = starts[1:] != ends[:-1]
    return rle_of_intervals(starts[np.append(True, apart)],
                            ends[np.append(apart, True)], mask.shape)
