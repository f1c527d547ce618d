"""A window of a resized image or map, without the rest of it.

Sizes are (h, w), windows (y, x, h, w) of the resized image, in its pixels.
"""
from typing import Tuple

import cv2
import numpy as np

from . import use_fast

#: Shift in source pixels, along each axis, that is allowed to a window of an
#: image. Between neighbours of 0 and 255 two such shifts change a pixel by
#: 2/3 of a grey level; OpenCV rounds weights to 1/2048, which makes 1/4 more.
TOLERANCE = 1 / 768


def resize_window(image: np.ndarray, size: Tuple[int, int],
                  window: Tuple[int, int, int, int]) -> np.ndarray:
    """``cv2.resize(image, size)`` (bilinear) inside a window, within one
    grey level.

    OpenCV puts the first pixel of what it resizes at a fixed fraction of a
    source pixel, and a window may begin at any. So more is resized, from the
    nearest pixel before the window whose fraction is that one, up to
    ``TOLERANCE``: some hundred columns and rows.

    Args:
        image (np.ndarray): (h, w) or (h, w, channels).
        size (tuple[int, int]): Size of the whole resized image.
        window (tuple[int, int, int, int]): y, x, h, w, inside it.

    Returns:
        np.ndarray: (h, w, ...), C-contiguous, a copy.
    """
    height, width = window[2:]
    if (height, width) == tuple(size) or not use_fast():
        top, left = window[:2]
        resized = cv2.resize(image, size[::-1])
        return resized[top:top + height, left:left + width].copy()
    row, y = _anchor(image.shape[0], size[0], window[0])
    col, x = _anchor(image.shape[1], size[1], window[1])
    part = image[row:_last(image.shape[0], size[0], window[0] + height),
                 col:_last(image.shape[1], size[1], window[1] + width)]
    # by factor and not by size, so that the scale is that of the whole image
    resized = cv2.resize(
        part,
        None,
        fx=size[1] / image.shape[1],
        fy=size[0] / image.shape[0],
        interpolation=cv2.INTER_LINEAR)
    if resized.shape[:2] == part.shape[:2] and size != image.shape[:2]:
        # at a scale so near to 1 OpenCV makes a copy
        resized, y, x = cv2.resize(image, size[::-1]), 0, 0
    y, x = window[0] - y, window[1] - x
    return resized[y:y + height, x:x + width].copy()


def _anchor(source: int, resized: int, begin: int) -> Tuple[int, int]:
    """Where to begin along one axis: a source pixel, and the resized one
    whose border coincides with its border."""
    step = source / resized
    # the first pixel needs its left neighbour, unless there is none
    latest = begin - max(0, int(np.ceil(0.5 / step - 0.5)))
    pixels = np.arange(latest, 0, -1)
    borders = pixels * step
    near = np.abs(borders - np.rint(borders)) <= TOLERANCE
    if not near.any():
        return 0, 0
    nearest = int(near.argmax())
    return int(np.rint(borders[nearest])), int(pixels[nearest])


def _last(source: int, resized: int, end: int) -> int:
    """One past the last source pixel that resized ones before ``end`` need,
    and one more, which keeps OpenCV from rounding their number down."""
    return min(source, int(np.ceil((end + 0.5) * source / resized)) + 2)


def nearest_pixels(source: int, resized: int) -> np.ndarray:
    """Source pixel of each resized one by ``cv2.INTER_NEAREST_EXACT``."""
    ruler = np.arange(source, dtype=np.float32)[None]
    return cv2.resize(
        ruler, (resized, 1),
        interpolation=cv2.INTER_NEAREST_EXACT)[0].astype(np.int64)


def take_pixels(index_map: np.ndarray, rows: np.ndarray,
                cols: np.ndarray) -> np.ndarray:
    """``index_map[rows][:, cols]``, a copy; both ascend."""
    band = index_map[rows[0]:rows[-1] + 1]
    if len(rows) > len(band):
        return band.take(cols, axis=1).take(rows - rows[0], axis=0)
    return band.take(rows - rows[0], axis=0).take(cols, axis=1)
