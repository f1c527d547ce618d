"""The merge in three waits for the device, for up to 56 instances.

``fusion.fuse`` looks at one instance after the other, and the host waits for
the areas of each. Here a pixel becomes a word: its semantic channel and a bit
for each instance that covers it. Pixels of one word get one value, and an
image has few words, so the host merges the words instead of the pixels. It
waits for boxes and scores, for the number of words, and for the words.

Memory, in bytes a pixel: one for each instance above the score threshold, and
about 60 for the words and their sorting.
"""
from typing import List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from ..fusion import box_windows, fill_stuff, fuse, is_hidden, paste_order
from ..labels import INSTANCE_OFFSET

# A word has 8 bytes: one for the channel, the others for instances.
MAX_CHANNELS, MAX_INSTANCES = 256, 56


def merge_patterns(
        masks: Tensor,
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
    """Same as :func:`panoptic_fpn.fusion.fuse`, which it leaves images to that
    have too many instances above the score threshold, or too many channels.
    ``channel_labels`` are on the CPU."""
    columns = (boxes, scores[:, None], labels[:, None])
    table = torch.cat([c.double() for c in columns], dim=1).cpu()
    known = table[:, :4].to(boxes.dtype)
    order = paste_order(known, table[:, 4].to(scores.dtype), score_thr,
                        nms_iou_thr)
    if len(order) > MAX_INSTANCES or len(channel_labels) > MAX_CHANNELS:
        return fuse(masks, boxes, scores, labels, semantic, channel_labels,
                    score_thr, overlap_thr, stuff_area, void, nms_iou_thr)
    words, pixels, areas = torch.unique(
        _words(masks, known, order, semantic),
        return_inverse=True,
        return_counts=True)
    words, areas = torch.stack([words, areas]).cpu()
    parts = words.numpy().view(np.uint8).reshape(-1, 8)
    covered = np.unpackbits(parts[:, 1:], axis=1, bitorder='little') > 0
    values = torch.full(words.shape, void, dtype=torch.int32)
    kept = _paste(values.numpy(), covered, areas.numpy(),
                  table[order, 5].int().tolist(), overlap_thr)
    if semantic is not None:
        fill_stuff(values[None], torch.from_numpy(parts[None, :, 0]),
                   channel_labels, stuff_area, void, areas)
    on_device = values.to(masks.device, non_blocking=True)
    panoptic = on_device.index_select(0, pixels.view(-1))
    return panoptic.view(masks.shape[-2:]), order[kept]


def _words(masks: Tensor, boxes: Tensor, order: Tensor,
           semantic: Optional[Tensor]) -> Tensor:
    """int64 (h, w): the channel in the first byte, instance ``order[i]`` in
    bit ``i`` of the others. Boxes and order are on the CPU."""
    height, width = masks.shape[-2:]
    windows = torch.tensor(box_windows(boxes[order], (height, width)))
    top, left, bottom, right = windows.view(-1, 4).T[..., None]
    y, x = torch.arange(height), torch.arange(width)
    bits = (1 << torch.arange(len(windows)) % 8)[:, None]
    rows = ((top <= y) & (y < bottom)) * bits
    columns = (left <= x) & (x < right)
    inside = torch.cat([rows, columns], dim=1).byte()
    chosen, inside = (
        t.to(masks.device, non_blocking=True) for t in (order, inside))
    covered = masks.index_select(0, chosen).view(torch.uint8)
    covered *= inside[:, :height, None]
    covered *= inside[:, None, height:]
    words = covered.new_zeros((height, width, 8))
    if semantic is not None:
        words[..., 0] = semantic
    for byte, group in enumerate(covered.split(8), 1):
        words[..., byte] = group.sum(dim=0, dtype=torch.uint8)
    return words.view(torch.int64)[..., 0]


def _paste(values: np.ndarray, covered: np.ndarray, areas: np.ndarray,
           labels: List[int], overlap_thr: float) -> List[int]:
    """Give words (W, ) the values of instances, in place; see
    ``paste_instances``. ``covered`` is bool (W, at least k); of the k
    instances, in the order of pasting, the kept ones are returned."""
    free = np.ones(len(values), bool)
    kept: List[int] = []
    for index, (label, mask) in enumerate(zip(labels, covered.T)):
        own = mask & free
        if is_hidden(areas[mask].sum(), areas[own].sum(), overlap_thr):
            continue
        kept.append(index)
        values[own] = label + INSTANCE_OFFSET * len(kept)
        free ^= own
    return kept
