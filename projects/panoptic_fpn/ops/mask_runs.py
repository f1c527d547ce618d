"""Maps by their runs: stretches of a row that hold one value.

A label map of two megapixels has some ten thousand runs, so what is asked of
every pixel is asked of every run instead. A map of pure noise costs more than
pixel by pixel, but stays correct.
"""
from typing import NamedTuple, Tuple

import cv2
import numpy as np

from .runs import run_starts

FLIPPED_BY_OPENCV = (np.uint8, np.uint16, np.int16, np.int32, np.float32)


class Runs(NamedTuple):
    """Runs of a map (h, w) in reading order, int64 (n, ) but ``values``.

    Columns ``begins <= x < ends`` of row ``rows`` hold ``values``; neighbours
    in a row differ.
    """
    values: np.ndarray
    rows: np.ndarray
    begins: np.ndarray
    ends: np.ndarray


def runs_of(index_map: np.ndarray) -> Runs:
    """Runs of a map (h, w), C-contiguous, with at least one pixel."""
    width = index_map.shape[1]
    flat = index_map.reshape(-1)
    starts = run_starts(index_map, by_row=True)
    rows = starts // width
    ends = np.append(starts[1:], flat.size) - rows * width
    return Runs(flat[starts], rows, starts - rows * width, ends)


def map_boxes(index_map: np.ndarray,
              num_values: int) -> Tuple[np.ndarray, np.ndarray]:
    """Boxes and areas of all values of a map.

    Args:
        index_map (np.ndarray): Integers (h, w), 0 <= value < num_values.
        num_values (int): n.

    Returns:
        tuple[np.ndarray, np.ndarray]: Boxes int64 (n, 4), x1, y1, x2, y2 with
        x2 and y2 one past the last pixel, meaningless where the area is 0;
        and areas int64 (n, ).
    """
    runs = runs_of(contiguous(index_map))
    areas = np.bincount(
        runs.values, weights=runs.ends - runs.begins,
        minlength=num_values).astype(np.int64)
    # runs of one value side by side, still from top to bottom
    order = np.argsort(runs.values, kind='stable')
    values, rows = runs.values[order], runs.rows[order]
    first = run_starts(values)
    last = np.append(first[1:], len(values)) - 1
    boxes = np.zeros((num_values, 4), np.int64)
    boxes[values[first]] = np.stack([
        np.minimum.reduceat(runs.begins[order], first), rows[first],
        np.maximum.reduceat(runs.ends[order], first), rows[last] + 1
    ], 1)
    return boxes, areas


def look_up(table: np.ndarray, index_map: np.ndarray) -> np.ndarray:
    """``table[index_map]``; a table of 256 values goes through OpenCV, whose
    look-up does not widen the indices first."""
    if index_map.dtype == np.uint8 and len(table) == 256:
        return cv2.LUT(index_map, table)
    return table[index_map]


def contiguous(array: np.ndarray) -> np.ndarray:
    """The same (h, w, ...) in C order: RandomFlip leaves a view, whose copy
    takes numpy ten times as long as flipping takes OpenCV."""
    if array.flags.c_contiguous:
        return array
    mirrored = array[:, ::-1]
    if mirrored.flags.c_contiguous and array.dtype in FLIPPED_BY_OPENCV:
        return cv2.flip(mirrored, 1).reshape(array.shape)
    return np.ascontiguousarray(array)
