"""mIoU and fIoU of the semantic branch, as Detectron2 counts them.

In    ground truth, map (h, w) of ``label + 1000 * number``, void = T + S;
      prediction, map (h, w) of channels of the semantic head
Row   of an image: intersection, prediction and ground truth area of each of
      the C channels, in pixels
Out   mIoU, fIoU, mIoU_stuff in percent

On COCO C = S + 1: the stuff classes, then 'other', which is the ground truth
of every thing, crowd too. Where the head predicts things as well (Cityscapes)
C = T + S. Void pixels are excluded. mIoU is the mean over the channels that
occur in the ground truth, fIoU weights them by their share of its pixels,
mIoU_stuff is the mean over those of them that are stuff classes.
"""
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmdet.registry import METRICS
from mmseg.evaluation import IoUMetric

from ..labels import IGNORE_LABEL, semantic_channels
from ..ops.run_length import index_values, joint_histogram, joint_runs
from .base import (PerImageMetric, Row, check_labels, check_same_shape,
                   labels_of_codes, log_classes, mean_of_known,
                   scores_by_class, to_plane)


def code_counts(gt: np.ndarray, pred: np.ndarray,
                num_channels: int) -> Tuple[np.ndarray, np.ndarray]:
    """Pixels by segment of the ground truth and predicted channel.

    Args:
        gt (np.ndarray): (h, w) of ``label + 1000 * number``.
        pred (np.ndarray): (h, w) of channels, 0..C-1.
        num_channels (int): C.

    Returns:
        tuple[np.ndarray, np.ndarray]: The G codes that occur, ascending;
        int64 (G, C), pixels.

    Raises:
        CodeError: A predicted channel is out of range.
    """
    (gt_runs, pred_runs), lengths = joint_runs(gt, pred)
    codes, index = index_values(gt_runs)
    check_labels(pred_runs, num_channels, 'channel')
    return codes, joint_histogram(index, pred_runs, lengths,
                                  (len(codes), num_channels))


def sum_rows(counts: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    """Add up rows of a matrix that have the same target.

    Args:
        counts (np.ndarray): int64 (G, C).
        rows (np.ndarray): (G, ), row of the result, or ``IGNORE_LABEL``.
        size (int): R.

    Returns:
        np.ndarray: int64 (R, C).
    """
    known = rows != IGNORE_LABEL
    matrix = np.zeros((size, counts.shape[1]), dtype=np.int64)
    np.add.at(matrix, rows[known], counts[known])
    return matrix


def semantic_areas(gt: np.ndarray, pred: np.ndarray, channels: np.ndarray,
                   num_channels: int) -> np.ndarray:
    """Areas that the IoU of one image is made of.

    The same counts as mmseg's ``IoUMetric.intersect_and_union``, from runs
    instead of three float32 histograms of all pixels.

    Args:
        gt (np.ndarray): (h, w) of ``label + 1000 * number``.
        pred (np.ndarray): (h, w) of channels, 0..C-1.
        channels (np.ndarray): (T + S + 1, ), channel of each label; the last
            entry, of void, is ``IGNORE_LABEL``.
        num_channels (int): C.

    Returns:
        np.ndarray: int64 (3, C), pixels of the intersection, the prediction
        and the ground truth, void excluded.

    Raises:
        CodeError: A predicted channel is out of range.
    """
    codes, counts = code_counts(gt, pred, num_channels)
    matrix = sum_rows(counts, channels[labels_of_codes(codes)], num_channels)
    return np.stack(
        [matrix.diagonal(),
         matrix.sum(axis=0),
         matrix.sum(axis=1)])


def semantic_scores(areas: np.ndarray, stuff: Sequence[int]) -> Dict[str, Any]:
    """Scores of areas summed over images.

    Args:
        areas (np.ndarray): (3, C), see :func:`semantic_areas`.
        stuff (Sequence[int]): Channels of the stuff classes.

    Returns:
        dict: ``IoU`` and ``Acc`` (C, ), NaN for channels that are not in the
        ground truth; ``mIoU``, ``fIoU``, ``mIoU_stuff``, NaN without any.
        All in percent.
    """
    intersect, predicted, truth = torch.from_numpy(areas).double()
    by_class = IoUMetric.total_area_to_metrics(intersect,
                                               predicted + truth - intersect,
                                               predicted, truth)
    present = areas[2] > 0
    iou = np.where(present, by_class['IoU'], np.nan)
    share = areas[2] / max(int(areas[2].sum()), 1)
    fiou = (share * iou)[present].sum() if present.any() else np.nan
    stuff_iou = iou[np.asarray(stuff, dtype=np.int64)]
    return dict(
        IoU=100 * iou,
        Acc=100 * np.where(present, by_class['Acc'], np.nan),
        mIoU=100 * mean_of_known(iou),
        fIoU=100 * float(fiou),
        mIoU_stuff=100 * mean_of_known(stuff_iou))


@METRICS.register_module()
class SemanticIoUMetric(PerImageMetric):
    """mIoU, fIoU and mIoU_stuff of ``pred_sem_seg``.

    The ground truth is ``gt_panoptic_seg`` of the data samples.

    Args:
        predict_things (bool, optional): Whether the semantic head has a
            channel for each thing class (Cityscapes) instead of one 'other'
            (COCO). Only asked where the model says nothing about it in
            ``pred_sem_seg``.
        classwise (bool): Whether to print a line for each class.
        prefix (str, optional): First part of the keys. Defaults to none.
    """
    default_prefix = ''
    prediction = 'pred_sem_seg'
    keys = ('mIoU', 'fIoU', 'mIoU_stuff')

    def __init__(self,
                 predict_things: Optional[bool] = None,
                 classwise: bool = False,
                 prefix: Optional[str] = None) -> None:
        super().__init__(prefix=prefix)
        self.predict_things = predict_things
        self.classwise = classwise

    def image_row(self, sample: Dict) -> Tuple[bool, np.ndarray]:
        """Whether things have channels, and int32 (3, C) areas of an image.
        """
        space, field = self.space, sample[self.prediction]
        predict_things = field.get('predict_things')
        if predict_things is None:
            predict_things = bool(self.predict_things)
        pred = to_plane(field['sem_seg'])
        gt = self.ground_truth(
            sample, 'Give the dataset its annotation file, or leave this '
            'metric out.')[0]
        check_same_shape(sample, self.prediction, pred.shape, gt.shape)
        channels = semantic_channels(space.num_things, space.num_stuff,
                                     predict_things)
        num_channels = space.num_stuff + (
            space.num_things if predict_things else 1)
        areas = semantic_areas(gt, pred, np.append(channels, IGNORE_LABEL),
                               num_channels)
        return predict_things, areas.astype(np.int32)

    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """Scores of the summed areas."""
        space = self.space
        predict_things = rows[0][1][0]
        areas = sum(areas.astype(np.int64) for _, (_, areas) in rows)
        first = space.num_things if predict_things else 0
        scores = semantic_scores(areas, range(first, first + space.num_stuff))
        other = 'other' if 'other' not in space.names else 'other (things)'
        names = (
            space.names if predict_things else (*space.stuff_names, other))
        self.by_class = scores_by_class(names, dict(IoU=scores['IoU']))
        if self.classwise:
            columns = {key: scores[key] for key in ('IoU', 'Acc')}
            log_classes('Semantic IoU by class', names, columns)
        return {key: scores[key] for key in self.keys}
