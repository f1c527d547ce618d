"""How well an exported model agrees with the one in PyTorch, on an image.

Detections with nearly the same score may come in another order; a detection
is compared with the nearest one of its class.
"""
from dataclasses import dataclass
from typing import Tuple

import numpy as np
from mmdet.structures import DetDataSample

from panoptic_fpn.labels import INSTANCE_OFFSET
from panoptic_onnx.session import Result

#: Least share of pixels with the same segment, and largest distance of boxes
#: in pixels, of an export that agrees.
SAME_PIXELS = 0.999
BOX_PIXELS = 1e-2


@dataclass(frozen=True)
class Agreement:
    """Differences of two results of an image.

    panoptic     share of the pixels with the same segment in both maps
    semantic     share with the same channel; 1 without the branch
    detections   how many PyTorch has, and ONNX
    box_pixels   largest difference of a coordinate of two detections;
                 infinite where one has no counterpart
    scores       largest difference of their scores
    masks        least IoU of their masks
    """

    panoptic: float
    semantic: float
    detections: Tuple[int, int]
    box_pixels: float
    scores: float
    masks: float

    @property
    def holds(self) -> bool:
        """Whether maps and boxes are the same but for rounding."""
        return self.panoptic >= SAME_PIXELS and self.box_pixels <= BOX_PIXELS

    def __str__(self) -> str:
        return (f'panoptic map: {100 * self.panoptic:.3f} % of the pixels the '
                f'same, semantic map: {100 * self.semantic:.3f} %; '
                f'{self.detections[0]} detections in PyTorch, '
                f'{self.detections[1]} in ONNX: boxes within '
                f'{self.box_pixels:.2g} pixels, scores within '
                f'{self.scores:.2g}, IoU of masks {self.masks:.4f} or more')


def compare(sample: DetDataSample, result: Result) -> Agreement:
    """Compare the result of PyTorch with that of onnxruntime."""
    semantic = 1.0
    if result.semantic is not None:
        channels = sample.pred_sem_seg.sem_seg[0].numpy()
        semantic = float(np.mean(channels == result.semantic))
    count, partners = 0, np.zeros(0, np.int64)
    boxes, scores, masks = 0.0, [0.0], [1.0]
    instances = sample.get('pred_instances')
    if instances is not None and len(instances):
        found = instances.numpy()
        count = len(found)
        partners, boxes = _match(found.bboxes, found.labels, result)
        pairs = [(i, j) for i, j in enumerate(partners) if j >= 0]
        scores += [abs(found.scores[i] - result.scores[j]) for i, j in pairs]
        masks += [_iou(found.masks[i], result.masks[j]) for i, j in pairs]
    if count != len(result.labels):
        boxes = float('inf')
    panoptic = sample.pred_panoptic_seg
    renamed = _renumbered(panoptic.sem_seg[0].numpy(),
                          panoptic.instance_indices, partners, result)
    return Agreement(
        float(np.mean(renamed == result.panoptic)), semantic,
        (count, len(result.labels)), boxes, float(max(scores)),
        float(min(masks)))


def _match(boxes: np.ndarray, labels: np.ndarray,
           result: Result) -> Tuple[np.ndarray, float]:
    """For each detection the index of its counterpart, -1 where there is
    none; and the largest distance of a pair, infinite without any."""
    distances = np.abs(boxes[:, None] - result.boxes).max(axis=2, initial=0)
    distances[labels[:, None] != result.labels] = np.inf
    partners = np.full(len(boxes), -1)
    largest = 0.0
    for i, row in enumerate(distances):
        nearest = row.min(initial=np.inf)
        largest = max(largest, float(nearest))
        if np.isfinite(nearest):
            partners[i] = row.argmin()
            # each is the counterpart of one
            distances[:, partners[i]] = np.inf
    return partners, largest


def _renumbered(panoptic: np.ndarray, indices: list, partners: np.ndarray,
                result: Result) -> np.ndarray:
    """PyTorch's map with the numbers that counterparts have in the other;
    negative where they are not on it."""
    new = {index: i + 1 for i, index in enumerate(result.kept)}
    numbers = [0] + [new.get(int(partners[i]), -1) for i in indices]
    labels = panoptic % INSTANCE_OFFSET
    return labels + INSTANCE_OFFSET * np.array(numbers)[panoptic //
                                                        INSTANCE_OFFSET]


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0
