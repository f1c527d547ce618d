"""Merge of instances and semantic map into one panoptic map (section 3.2).

The paper's post-processing has three steps, one function each:

1. overlaps between instances go to the more confident one,
   :func:`paste_instances`, before which :func:`class_agnostic_nms` can drop
   instances whose boxes repeat another one;
2. overlaps between instances and stuff go to the instances,
3. stuff labelled 'other' or below an area threshold is removed,
   both in :func:`fill_stuff`.

All maps are (h, w), all boxes (x1, y1, x2, y2) in pixels of those maps. A
panoptic map holds ``label + 1000 * number``; see ``labels.py``. The cost is
linear in the pixels of the map plus those of the instances' boxes; nothing of
the size of the map is allocated per instance.

Imports torch and labels alone.
"""
from typing import List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .labels import INSTANCE_OFFSET


def box_windows(boxes: Tensor, shape: Tuple[int, int]) -> List[List[int]]:
    """Integer windows (y1, x1, y2, x2) that contain boxes, inside the map.

    Args:
        boxes (Tensor): (n, 4), x1, y1, x2, y2 in pixels; any order of
            magnitude, also empty, outside or not finite.
        shape (tuple[int, int]): (h, w) of the map.

    Returns:
        list[list[int]]: Half open windows; an empty one has y2 <= y1 or
        x2 <= x1.
    """
    h, w = shape
    limit = boxes.new_tensor([w, h, w, h])
    low = boxes[:, :2].floor()
    high = boxes[:, 2:].ceil()
    corners = torch.cat([low, high], dim=1).nan_to_num(nan=0)
    corners = corners.clamp(min=0).minimum(limit)
    return corners[:, [1, 0, 3, 2]].long().tolist()


def class_agnostic_nms(boxes: Tensor, iou_thr: float) -> List[int]:
    """Greedy NMS over boxes of all classes.

    Args:
        boxes (Tensor): (n, 4), x1, y1, x2, y2; the most confident first.
        iou_thr (float): Most intersection over union with a box that was
            kept before; a box with more is dropped.

    Returns:
        list[int]: Indices of the boxes that are kept, ascending.
    """
    boxes = boxes.float()
    low = torch.max(boxes[:, None, :2], boxes[:, :2])
    high = torch.min(boxes[:, None, 2:], boxes[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    near = (shared / (areas[:, None] + areas - shared) > iou_thr).tolist()
    kept: List[int] = []
    for index, row in enumerate(near):
        if not any(row[other] for other in kept):
            kept.append(index)
    return kept


def paste_order(boxes: Tensor, scores: Tensor, score_thr: float,
                nms_iou_thr: Optional[float]) -> Tensor:
    """Indices of the instances to paste, int64 (k, ), the most confident
    first; see :func:`paste_instances`."""
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[scores[order] >= score_thr]
    if nms_iou_thr is not None:
        order = order[class_agnostic_nms(boxes[order], nms_iou_thr)]
    return order


def is_hidden(area: int, left: int, overlap_thr: float) -> bool:
    """Whether an instance of ``area`` pixels, ``left`` of them free, is
    dropped; see :func:`paste_instances`."""
    return left == 0 or area - left > overlap_thr * area


def paste_instances(
        masks: Tensor,
        boxes: Tensor,
        scores: Tensor,
        labels: Tensor,
        score_thr: float,
        overlap_thr: float,
        void: int,
        nms_iou_thr: Optional[float] = None) -> Tuple[Tensor, Tensor]:
    """Paste instances on an empty panoptic map, the most confident first.

    An instance is dropped when its score is below ``score_thr``, when it has
    no pixel, or when more than ``overlap_thr`` of its pixels belong to
    instances pasted before. Equal scores keep their order.

    Args:
        masks (Tensor): bool, (n, h, w). Pixels outside an instance's box
            do not count.
        boxes (Tensor): (n, 4), x1, y1, x2, y2 in pixels.
        scores (Tensor): (n, ).
        labels (Tensor): (n, ), thing labels.
        score_thr (float): Least score.
        overlap_thr (float): Largest overlapped fraction, in 0..1.
        void (int): Value of a free pixel.
        nms_iou_thr (float, optional): Largest IoU of boxes, of any classes,
            in 0..1; an instance whose box repeats a better one is dropped.

    Returns:
        tuple[Tensor, Tensor]: The map, int32 (h, w), things numbered from 1
        in the order they were pasted, and the indices of the instances that
        are on it, in this order, int64 (k, ).
    """
    shape = tuple(masks.shape[-2:])
    panoptic = torch.full(shape, void, dtype=torch.int32, device=masks.device)
    free = torch.ones(shape, dtype=torch.bool, device=masks.device)
    order = paste_order(boxes, scores, score_thr, nms_iou_thr)
    windows = box_windows(boxes[order], shape)
    kept = []
    for index, label, (y1, x1, y2, x2) in zip(order.tolist(),
                                              labels[order].tolist(), windows):
        if y2 <= y1 or x2 <= x1:
            continue
        part = slice(y1, y2), slice(x1, x2)
        mask = masks[index][part]
        own = mask & free[part]
        area, left = torch.stack([mask.sum(), own.sum()]).tolist()
        if is_hidden(area, left, overlap_thr):
            continue
        kept.append(index)
        panoptic[part].masked_fill_(own, label + INSTANCE_OFFSET * len(kept))
        free[part].logical_xor_(own)
    return panoptic, torch.as_tensor(kept, dtype=torch.long)


def fill_stuff(panoptic: Tensor,
               semantic: Tensor,
               channel_labels: Tensor,
               stuff_area: int,
               void: int,
               counts: Optional[Tensor] = None) -> Tensor:
    """Fill the free pixels of a panoptic map with stuff, in place.

    Args:
        panoptic (Tensor): int32, (h, w); ``void`` where free.
        semantic (Tensor): Integers, (h, w): the semantic branch's channel of
            each pixel.
        channel_labels (Tensor): int64, (channels, ): stuff label of each
            channel, ``void`` for channels that paint nothing ('other',
            things).
        stuff_area (int): A stuff class that is left with fewer pixels on the
            whole image is dropped.
        void (int): Value of a free pixel, one more than the largest label.
        counts (Tensor, optional): (h * w, ), how many pixels an entry of the
            maps stands for, if not one.

    Returns:
        Tensor: ``panoptic``.
    """
    labels = channel_labels.to(semantic.device)
    num = len(labels)
    # one more channel: pixels of instances
    channels = torch.where(panoptic == void, semantic.long(), num).view(-1)
    area = torch.bincount(channels, counts, minlength=num + 1)[:num]
    # several channels may have a label, void at least
    areas = area.new_zeros(void + 1).index_add_(0, labels, area)
    painted = labels.where(areas[labels] >= stuff_area, void)
    # what a pixel of each channel gets on top of void, or of an instance
    change = F.pad(painted - void, (0, 1)).to(panoptic.dtype)
    return panoptic.add_(change.index_select(0, channels).view_as(panoptic))


def fuse(masks: Tensor,
         boxes: Tensor,
         scores: Tensor,
         labels: Tensor,
         semantic: Optional[Tensor],
         channel_labels: Tensor,
         score_thr: float,
         overlap_thr: float,
         stuff_area: int,
         void: int,
         nms_iou_thr: Optional[float] = None) -> Tuple[Tensor, Tensor]:
    """Instances over stuff: the whole merge. See the two steps for shapes;
    without a semantic map free pixels stay void.

    Returns:
        tuple[Tensor, Tensor]: Panoptic map, int32 (h, w), and the indices of
        the instances on it; number ``i + 1`` in the map is entry ``i``.
    """
    panoptic, kept = paste_instances(masks, boxes, scores, labels, score_thr,
                                     overlap_thr, void, nms_iou_thr)
    if semantic is not None:
        fill_stuff(panoptic, semantic, channel_labels, stuff_area, void)
    return panoptic, kept
