"""COCO's segmentations, checked before pycocotools reads them: it accepts
counts that do not fill the image, and draws polygons of any length.
"""
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np
from pycocotools import mask as mask_util

from .faults import is_whole, short

#: No image is as long, see ``cv2.resize``; polygons may lie outside of it.
_FARTHEST = 2.**20
#: First character of a compressed RLE, and the bit that says that a number
#: goes on.
_FIRST, _MORE = 48, 0x20

Size = Tuple[Optional[int], Optional[int]]


def find_segmentation_fault(segmentation: Any, size: Size) -> Optional[str]:
    """Why a segmentation does not describe pixels of an image, or None.

    Args:
        segmentation (Any): A list of polygons [x1, y1, x2, y2, ...] or an
            RLE, compressed or not, if it is one of COCO's.
        size (tuple[int | None, int | None]): (h, w) of the image, None where
            unknown.
    """
    if isinstance(segmentation, list):
        for polygon in segmentation:
            if not _is_polygon(polygon):
                return (f'{short(polygon)} is not a polygon [x1, y1, x2, y2, '
                        '...] in pixels')
        return None
    found = segmentation.get('size') if isinstance(segmentation,
                                                   dict) else None
    if not isinstance(found, list) or len(found) != 2 or not all(
            is_whole(a) and a > 0 and b in (a, None)
            for a, b in zip(found, size)):
        return (f'{short(segmentation)} is neither a list of polygons nor an '
                f'RLE of {size} (h, w)')
    pixels, counts = found[0] * found[1], rle_counts(
        segmentation.get('counts'))
    if not counts or min(counts) < 0 or sum(counts) != pixels:
        return f'the counts of its RLE do not fill {pixels} pixels'
    return None


def _is_polygon(polygon: Any) -> bool:
    return (isinstance(polygon, list) and len(polygon) % 2 == 0
            and len(polygon) >= 4 and {*map(type, polygon)} <= {int, float}
            and all(map(_FARTHEST.__ge__, map(abs, polygon))))


def rle_counts(counts: Any) -> Optional[Sequence[int]]:
    """Lengths of the runs of an RLE, background first; None where they cannot
    be read.

    A compressed one writes numbers with 5 bits in a character (48 + bits, 32
    more where another follows), low bits first, with a sign; from the fourth
    on as the difference to the one before the last.
    """
    if isinstance(counts, list):
        return counts if all(map(is_whole, counts)) else None
    if not isinstance(counts, str) or not counts.isascii():
        return None
    digits = np.frombuffer(counts.encode(), np.uint8).astype(np.int64) - _FIRST
    last = np.flatnonzero(digits & _MORE == 0)
    if not len(last) or last[-1] != len(digits) - 1 or digits.min(
    ) < 0 or digits.max() > 63:
        return None
    first = np.append(0, last[:-1] + 1)
    digit = np.arange(len(digits)) - np.repeat(first, last - first + 1)
    if digit.max() > 6:  # beyond 32 bits, which pycocotools holds
        return None
    values = np.add.reduceat((digits & 31) << (5 * digit), first)
    negative = digits[last] & 16 != 0
    values[negative] -= 1 << (5 * (digit[last][negative] + 1))
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values.tolist()


def to_rle(segmentation: Any, shape: Tuple[int, int]) -> Dict:
    """Compressed RLE of polygons or an RLE, in an image of (h, w) pixels."""
    if isinstance(segmentation, list):
        segmentation = mask_util.merge(
            mask_util.frPyObjects(segmentation, *shape))
    elif isinstance(segmentation['counts'], list):
        segmentation = mask_util.frPyObjects(segmentation, *shape)
    counts = segmentation['counts']
    return dict(
        size=list(segmentation['size']),
        counts=counts.decode() if isinstance(counts, bytes) else counts)
