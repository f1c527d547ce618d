"""Anchors, boxes from deltas, non-maximum suppression and FPN levels.

Boxes are (n, 4) float32, x1, y1, x2, y2 in pixels of the network's input;
shapes are (h, w). The same operations in the same order as in mmdet and mmcv
give the same boxes up to rounding.
"""
from typing import List, Sequence, Tuple

import numpy as np

#: Largest |log| of a box's side over its anchor's, mmdet's ``wh_ratio_clip``.
MAX_LOG_RATIO = np.float32(abs(np.log(16 / 1000)))
#: Boxes whose overlaps with all others are computed at once.
_BLOCK = 256


def grid_anchors(base: np.ndarray, stride: Sequence[int],
                 shape: Tuple[int, int]) -> np.ndarray:
    """Anchors (h * w * A, 4) of an FPN level, row by row.

    ``base`` (A, 4) are those of the level's first pixel, ``stride`` the pixels
    (w, h) of the input between two of the level, ``shape`` is the level's.
    """
    x = np.arange(shape[1], dtype=np.float32) * stride[0]
    y = np.arange(shape[0], dtype=np.float32) * stride[1]
    grid_x, grid_y = np.meshgrid(x, y)
    shifts = np.stack([grid_x, grid_y, grid_x, grid_y], axis=-1)
    return (shifts.reshape(-1, 1, 4) + base).reshape(-1, 4)


def decode(boxes: np.ndarray, deltas: np.ndarray, means: Sequence[float],
           stds: Sequence[float], shape: Tuple[int, int]) -> np.ndarray:
    """Boxes (n, 4) from anchors or proposals and their deltas.

    ``deltas`` (n, 4) are of x, y, log w and log h, normalized with four
    ``means`` and ``stds``; boxes are clipped to an image of ``shape``.
    """
    deltas = deltas * np.asarray(stds, np.float32) + np.asarray(
        means, np.float32)
    centres = (boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5)
    sizes = boxes[:, 2:] - boxes[:, :2]
    centres = centres + sizes * deltas[:, :2]
    logs = deltas[:, 2:].clip(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    half = sizes * np.exp(logs) * np.float32(0.5)
    corners = np.concatenate([centres - half, centres + half], axis=1)
    return corners.clip(0, np.asarray([*shape[::-1], *shape[::-1]],
                                      np.float32))


def batched_nms(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray,
                iou_thr: float) -> np.ndarray:
    """Greedy non-maximum suppression within groups (classes, levels).

    A box whose intersection over union with a more confident one of its group
    is above ``iou_thr`` is dropped.

    Returns:
        np.ndarray: Indices of those that stay, the most confident first.
    """
    if not len(boxes):
        return np.zeros(0, np.int64)
    order = np.argsort(-scores, kind='stable')
    # mmcv moves groups apart and suppresses all at once: the moved
    # coordinates have fewer bits, which decides IoUs at the threshold
    offsets = groups.astype(np.float32) * (boxes.max() + np.float32(1))
    moved = (boxes + offsets[:, None])[order]
    ordered = groups[order]
    kept = []
    for group in np.unique(groups):
        members = np.flatnonzero(ordered == group)
        kept.append(members[class_agnostic_nms(moved[members], iou_thr)])
    return order[np.sort(np.concatenate(kept))]


def class_agnostic_nms(boxes: np.ndarray, iou_thr: float) -> List[int]:
    """Indices, ascending, of boxes that greedy non-maximum suppression over
    all classes keeps; ``boxes`` come the most confident first."""
    kept = []
    rest = np.arange(len(boxes))
    while len(rest):
        block = rest[:_BLOCK]
        near = _overlaps(boxes[block], boxes[rest]) > iou_thr
        dropped = np.zeros(len(rest), bool)
        for row, index in enumerate(block.tolist()):
            if not dropped[row]:
                kept.append(index)
                dropped |= near[row]
        rest = rest[len(block):][~dropped[len(block):]]
    return kept


def _overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union (n, m); NaN of two boxes without area."""
    low = np.maximum(first[:, None, :2], second[:, :2])
    high = np.minimum(first[:, None, 2:], second[:, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
             for boxes in (first, second)]
    with np.errstate(invalid='ignore', divide='ignore'):
        return shared / (areas[0][:, None] + areas[1] - shared)


def roi_levels(boxes: np.ndarray, finest_scale: float,
               num_levels: int) -> np.ndarray:
    """FPN level, int64 (n, ), whose features describe a box, from its size;
    boxes of up to twice the side ``finest_scale`` are of level 0."""
    side = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    levels = np.log2(side / np.float32(finest_scale) + np.float32(1e-6))
    return np.floor(levels).clip(0, num_levels - 1).astype(np.int64)
