"""Maps by their runs: stretches of pixels that hold one value.

A map of segments has some ten thousand runs in two megapixels. So areas, joint
histograms, boxes and COCO's run-length encoding (RLE) take time per run, not
per pixel. A map of pure noise costs more than pixel by pixel, but stays
correct.

Maps are (h, w) integers and are never written to. Boxes are
(x, y, width, height) in pixels, as COCO JSON has them. RLE goes column by
column.
"""
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
from pycocotools import mask as mask_util

#: Values from 0 to below this are looked up in a table; others are sorted.
TABLE_SIZE = 1 << 22

_FLIPPED_BY_OPENCV = (np.uint8, np.uint16, np.int16, np.int32, np.float32)


def run_starts(*maps: np.ndarray, by_row: bool = False) -> np.ndarray:
    """Flat positions, int64 (runs, ) and ascending from 0, where any of
    several maps (h, w) changes; with ``by_row`` also where a row begins."""
    change = np.empty(maps[0].size, dtype=bool)
    change[0] = True
    first, *others = [m.reshape(-1) for m in maps]
    np.not_equal(first[1:], first[:-1], out=change[1:])
    for values in others:
        change[1:] |= values[1:] != values[:-1]
    if by_row:
        change[::maps[0].shape[1]] = True
    return np.flatnonzero(change)


class RowRuns(NamedTuple):
    """Runs of a map (h, w) in reading order, int64 (n, ) but ``values``.

    Columns ``begins <= x < ends`` of row ``rows`` hold ``values``; neighbours
    in a row differ.
    """
    values: np.ndarray
    rows: np.ndarray
    begins: np.ndarray
    ends: np.ndarray


def row_runs(index_map: np.ndarray) -> RowRuns:
    """Runs of a map (h, w) with at least one pixel, row by row."""
    flat, width = contiguous(index_map).reshape(-1), index_map.shape[1]
    starts = run_starts(flat.reshape(index_map.shape), by_row=True)
    rows = starts // width
    ends = np.append(starts[1:], flat.size) - rows * width
    return RowRuns(flat[starts], rows, starts - rows * width, ends)


def joint_runs(*maps: np.ndarray) -> Tuple[List[np.ndarray], np.ndarray]:
    """Values (runs, ) of each of several maps (h, w) on their common runs, and
    the runs' lengths, int64 (runs, ) in pixels."""
    starts = run_starts(*maps)
    lengths = np.diff(starts, append=maps[0].size)
    return [m.reshape(-1).take(starts) for m in maps], lengths


def index_values(values: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """``np.unique(values, return_inverse=True)`` of integers (n, ), n > 0,
    without sorting; the different values as int64."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= TABLE_SIZE:
        found, index = np.unique(values, return_inverse=True)
        return found.astype(np.int64), index.reshape(-1)
    seen = np.zeros(high + 1, dtype=bool)
    seen[values] = True
    found = np.flatnonzero(seen)
    index_of = np.empty(high + 1, dtype=np.int64)
    index_of[found] = np.arange(len(found))
    return found, index_of.take(values)


def index_map(
        segments: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A map (h, w) of segments with its codes replaced by 0, 1, 2, ...

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
    """Pixels, int64 of ``shape``, by the row index, 0..shape[0] - 1, and the
    column index, 0..shape[1] - 1, of runs. Exact: bincount adds in float64."""
    counts = np.bincount(
        rows.astype(np.int64) * shape[1] + cols,
        weights=lengths,
        minlength=shape[0] * shape[1])
    return counts.astype(np.int64).reshape(shape)


def group_by_value(index: np.ndarray,
                   size: int) -> Tuple[np.ndarray, np.ndarray]:
    """Entries of (n, ), each 0..size - 1, grouped by their value.

    Returns:
        tuple[np.ndarray, np.ndarray]: int64 (n, ), the entries, group after
        group, each in its order; int64 (size + 1, ), where each group begins,
        and n.
    """
    if size <= 1 << 16:
        # numpy sorts 16 bits by radix, in linear time
        index = index.astype(np.uint16)
    borders = np.cumsum(np.bincount(index, minlength=size))
    return np.argsort(index, kind='stable'), np.append(0, borders)


def segment_boxes(
        segments: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Area and box of every segment of a map (h, w).

    Returns:
        tuple[np.ndarray, np.ndarray, np.ndarray]: The n codes that occur,
        ascending; areas (n, ) in pixels; boxes (n, 4).
    """
    runs = row_runs(segments)
    codes, index = index_values(runs.values)
    order, borders = group_by_value(index, len(codes))
    _, y, begins, ends = (values[order] for values in runs)
    first, last = borders[:-1], borders[1:] - 1
    low_x = np.minimum.reduceat(begins, first)
    high_x = np.maximum.reduceat(ends, first)
    # runs of a group go from top to bottom
    low_y, high_y = y[first], y[last] + 1
    return codes, np.add.reduceat(ends - begins, first), np.stack(
        [low_x, low_y, high_x - low_x, high_y - low_y], axis=1)


def rle_of_intervals(starts: np.ndarray, ends: np.ndarray,
                     shape: Tuple[int, int]) -> Dict:
    """COCO's compressed RLE of a set of pixels: ``size`` [h, w] and
    ``counts`` (bytes).

    Args:
        starts (np.ndarray): Ascending positions ``x * h + y`` of the first
            pixel of each interval.
        ends (np.ndarray): One past the last pixel; no two intervals touch.
        shape (tuple[int, int]): (h, w).
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
    """RLE of each of some codes of a map (h, w); empty where one does not
    occur."""
    columns = _transposed(segments)
    starts = run_starts(columns)
    found, index = index_values(columns.reshape(-1).take(starts))
    order, borders = group_by_value(index, len(found))
    ends = np.append(starts[1:], columns.size)[order]
    starts = starts[order]
    parts = {
        code: slice(*borders[i:i + 2])
        for i, code in enumerate(found.tolist())
    }
    rles = []
    for code in codes:
        part = parts.get(int(code), slice(0))
        rles.append(rle_of_intervals(starts[part], ends[part], segments.shape))
    return rles


def mask_window(mask: np.ndarray) -> Optional[Tuple[int, int, int, int]]:
    """Smallest window (y1, x1, y2, x2), half open, or None without pixel."""
    # by the width: the stride of a single row may be any
    if mask.flags.c_contiguous and mask.shape[1] * mask.itemsize % 8 == 0:
        # eight pixels at once: most of the time goes into empty rows
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
    """``pycocotools.mask.encode`` of one bitmap (h, w), bool, or integers
    where 0 is outside; only its window is read column by column.

    pycocotools reads all h * w pixels in column order, which is most of the
    cost of mask AP on large images.
    """
    mask = mask.astype(bool, copy=False)
    window = mask_window(mask)
    if window is None:
        none = np.zeros(0, dtype=np.int64)
        return rle_of_intervals(none, none, mask.shape)
    y1, x1, y2, x2 = window
    # a pixel of zero below each column keeps the runs of columns apart
    columns = np.zeros((x2 - x1, y2 - y1 + 1), dtype=np.uint8)
    columns[:, :-1] = _transposed(mask[y1:y2, x1:x2].view(np.uint8))
    steps = run_starts(columns)
    # runs of ones and zeros in turn; the last one is of zeros
    steps = steps if columns[0, 0] else steps[1:]
    col, row = np.divmod(steps, columns.shape[1])
    borders = (col + x1) * mask.shape[0] + row + y1
    starts, ends = borders[::2], borders[1::2]
    # full-height columns touch: the last pixel of one, the first of the next
    apart = starts[1:] != ends[:-1]
    return rle_of_intervals(starts[np.append(True, apart)],
                            ends[np.append(apart, True)], mask.shape)


def values_inside(index_map: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Values (pixels, ) of a map (h, w) where a bitmap (h, w) is not 0; in
    reading order."""
    window = mask_window(mask)
    if window is None:
        return index_map[:0, 0]
    y1, x1, y2, x2 = window
    inside = mask[y1:y2, x1:x2].astype(bool, copy=False)
    return index_map[y1:y2, x1:x2][inside]


def _transposed(array: np.ndarray) -> np.ndarray:
    """(w, h) copy of (h, w); OpenCV goes through it in blocks."""
    if array.dtype not in (np.uint8, np.int32):
        return np.ascontiguousarray(array.T)
    return cv2.transpose(array)


def look_up(table: np.ndarray, index_map: np.ndarray) -> np.ndarray:
    """``table[index_map]``; OpenCV, for 256 values, does not widen the
    indices first."""
    if index_map.dtype == np.uint8 and len(table) == 256:
        return cv2.LUT(index_map, table)
    return table[index_map]


def contiguous(array: np.ndarray) -> np.ndarray:
    """The same (h, w, ...) in C order: RandomFlip leaves a view, which numpy
    copies in ten times the time in which OpenCV flips."""
    if array.flags.c_contiguous:
        return array
    mirrored = array[:, ::-1]
    if mirrored.flags.c_contiguous and array.dtype in _FLIPPED_BY_OPENCV:
        return cv2.flip(mirrored, 1).reshape(array.shape)
    return np.ascontiguousarray(array)
