"""Maps at the size of the original image: semantic, masks, and their merge.

All maps and shapes are (h, w), boxes (n, 4) x1, y1, x2, y2 in pixels of those
maps, masks bool (n, h, w). A panoptic map holds ``label + 1000 * number``,
void = number of classes.
"""
from typing import List, Optional, Sequence, Tuple

import cv2
import numpy as np

from .boxes import class_agnostic_nms

INSTANCE_OFFSET = 1000


def upsampled_argmax(logits: np.ndarray, padded: Tuple[int, int],
                     shape: Tuple[int, int],
                     original: Tuple[int, int]) -> np.ndarray:
    """Channel, uint16, with the largest logit at each pixel of the image; the
    first of equal ones.

    One channel at a time: all of them at the size of a photograph would take
    gigabytes.

    Args:
        logits (np.ndarray): (K, h, w), of the padded input at stride 4.
        padded, shape, original (tuple[int, int]): Shapes of the network's
            input, of that without padding, and of the image.
    """
    best = np.full(original, -np.inf, np.float32)
    channels = np.zeros(original, np.uint16)
    for channel, values in enumerate(logits):
        values = cv2.resize(values, padded[::-1])[:shape[0], :shape[1]]
        values = cv2.resize(values, original[::-1])
        larger = values > best
        np.copyto(best, values, where=larger)
        channels[larger] = channel
    return channels


def paste_masks(probabilities: np.ndarray, boxes: np.ndarray,
                shape: Tuple[int, int], threshold: float) -> np.ndarray:
    """Masks on an image, sampled bilinearly from probabilities (n, m, m) in
    boxes (Mask R-CNN, 3.1)."""
    masks = np.zeros((len(boxes), *shape), bool)
    # a sample up to half a pixel of the mask outside its box counts, too
    margin = np.array([-1, -1, 1, 1], np.float32)
    for i, (y1, x1, y2, x2) in enumerate(box_windows(boxes + margin, shape)):
        if y1 >= y2 or x1 >= x2:
            continue
        left, top, right, bottom = boxes[i]
        rows = _weights(y1, y2, top, bottom, probabilities.shape[1])
        columns = _weights(x1, x2, left, right, probabilities.shape[2])
        sampled = rows @ probabilities[i] @ columns.T
        np.greater_equal(sampled, threshold, out=masks[i, y1:y2, x1:x2])
    return masks


def _weights(begin: int, end: int, low: float, high: float,
             size: int) -> np.ndarray:
    """Bilinear weights (end - begin, size) of a mask's pixels in the pixels
    begin..end of an axis; the mask lies from ``low`` to ``high``."""
    centres = np.arange(begin, end, dtype=np.float32) + np.float32(0.5)
    with np.errstate(divide='ignore', invalid='ignore'):
        positions = (centres - low) / (high - low)
    # the middle of a box without extent
    positions[np.isinf(positions)] = 0.5
    positions = positions * size - np.float32(0.5)
    distance = np.abs(positions[:, None] - np.arange(size, dtype=np.float32))
    return np.maximum(1 - distance, 0)


def box_windows(boxes: np.ndarray, shape: Tuple[int, int]) -> List[List[int]]:
    """Integer windows (y1, x1, y2, x2), half open, that contain boxes, inside
    the map; empty where y2 <= y1 or x2 <= x1."""
    limit = np.array([*shape[::-1], *shape[::-1]], np.float32)
    corners = np.concatenate(
        [np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1)
    corners = np.nan_to_num(corners).clip(0, limit).astype(np.int64)
    return corners[:, [1, 0, 3, 2]].tolist()


def paste_instances(
        masks: np.ndarray,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        score_thr: float,
        overlap_thr: float,
        void: int,
        nms_iou_thr: Optional[float] = None) -> Tuple[np.ndarray, List[int]]:
    """Paste instances on an empty panoptic map, the most confident first.

    Dropped are instances with a score below ``score_thr``, those whose box
    overlaps that of a more confident one of any class by an IoU above
    ``nms_iou_thr``, and those of which more than ``overlap_thr`` is covered.

    Returns:
        tuple[np.ndarray, list[int]]: int32 map (h, w), things numbered from
        1 in the order they were pasted, and the indices of those, in this
        order.
    """
    shape = (masks.shape[1], masks.shape[2])
    panoptic = np.full(shape, void, np.int32)
    order = np.argsort(-scores, kind='stable')
    order = order[scores[order] >= score_thr]
    if nms_iou_thr is not None:
        order = order[class_agnostic_nms(boxes[order], nms_iou_thr)]
    kept = []
    windows = box_windows(boxes[order], shape)
    for index, (y1, x1, y2, x2) in zip(order.tolist(), windows):
        part = slice(y1, y2), slice(x1, x2)
        own = masks[index][part] & (panoptic[part] == void)
        area, left = (np.count_nonzero(m) for m in (masks[index][part], own))
        if left == 0 or area - left > overlap_thr * area:
            continue
        kept.append(index)
        panoptic[part][own] = labels[index] + INSTANCE_OFFSET * len(kept)
    return panoptic, kept


def fill_stuff(panoptic: np.ndarray, semantic: np.ndarray,
               channel_labels: Sequence[int], stuff_area: float,
               void: int) -> None:
    """Fill the free pixels of a panoptic map with stuff, in place.

    ``semantic`` holds the channel of each pixel, ``channel_labels`` the stuff
    label of each channel, ``void`` for those that paint nothing ('other',
    things). A class that is left with fewer pixels than ``stuff_area`` on the
    whole image is dropped.
    """
    labels = np.asarray(channel_labels)
    free = panoptic == void
    channels = semantic[free]
    area = np.bincount(channels, minlength=len(labels))
    areas = np.bincount(labels, weights=area, minlength=void + 1)
    painted = np.where(areas[labels] >= stuff_area, labels, void)
    panoptic[free] = painted[channels]
