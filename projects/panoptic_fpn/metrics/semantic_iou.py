"""mIoU and fIoU of the semantic branch, as Detectron2 counts them.

In    ground truth, map (h, w) of ``label + 1000 * number``, void = T + S;
      prediction, map (h, w) of channels of the semantic head; of a model
      without one (MaskFormer) the labels of its panoptic map
Row   of an image: intersection, prediction and ground truth area of each of
      the C channels, in pixels
Out   mIoU, fIoU, mIoU_stuff in percent

On COCO C = S + 1: the stuff classes, then 'other', which is the ground truth
of every thing, crowd too. Where the head predicts things as well (Cityscapes)
C = T + S. Void pixels are excluded. mIoU is the mean over the channels that
occur in the ground truth, fIoU weights them by their share of its pixels,
mIoU_stuff is the mean over those of them that are stuff classes. A pixel that
a panoptic map leaves void is wrong. With a single channel (things alone on
COCO) every prediction is right: there is no score.
"""
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from mmdet.registry import METRICS

from ..labels import IGNORE_LABEL, semantic_channels
from ..ops.run_length import index_values, joint_histogram, joint_runs
from ..ops.to_host import to_plane
from .base import (PerImageMetric, Row, check_labels, labels_of_codes,
                   mean_of_known, ratio)

#: What the table says of IoU where the model predicts no semantic map.
DERIVED = 'IoU (prediction derived from the panoptic map)'


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
    """
    (gt_runs, pred_runs), lengths = joint_runs(gt, pred)
    codes, index = index_values(gt_runs)
    check_labels(pred_runs, num_channels, 'channel')
    return codes, joint_histogram(index, pred_runs, lengths,
                                  (len(codes), num_channels))


def confusion_matrix(counts: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """Pixels (C, C) by channel of [ground truth, prediction], from counts
    (G, C) of segments whose channels (G, ) are negative for void."""
    known = channels >= 0
    matrix = np.zeros((counts.shape[1], counts.shape[1]), dtype=np.int64)
    np.add.at(matrix, channels[known], counts[known])
    return matrix


def semantic_areas(gt: np.ndarray, pred: np.ndarray, channels: np.ndarray,
                   num_channels: int) -> np.ndarray:
    """Areas that the IoU of one image is made of.

    The same counts as mmseg's ``IoUMetric.intersect_and_union``, from runs
    instead of three float32 histograms of all pixels.

    Args:
        gt, pred, num_channels: See :func:`code_counts`.
        channels (np.ndarray): (T + S + 1, ), channel of each label; the last
            entry, of void, is ``IGNORE_LABEL``.

    Returns:
        np.ndarray: int64 (3, C), pixels of the intersection, the prediction
        and the ground truth, void excluded.
    """
    codes, counts = code_counts(gt, pred, num_channels)
    matrix = confusion_matrix(counts, channels[labels_of_codes(codes)])
    return np.stack(
        [matrix.diagonal(),
         matrix.sum(axis=0),
         matrix.sum(axis=1)])


def frequency_weighted(iou: np.ndarray, truth: np.ndarray) -> float:
    """Mean of the IoU (C, ) of the classes in the ground truth, weighted by
    their pixels ``truth`` (C, ) in it; NaN without any."""
    present = truth > 0
    share = truth[present] / max(int(truth.sum()), 1)
    return float((share * iou[present]).sum()) if share.size else float('nan')


def semantic_scores(areas: np.ndarray, stuff: Sequence[int]) -> Dict[str, Any]:
    """Scores of areas (3, C) summed over images, in percent.

    Args:
        areas (np.ndarray): See :func:`semantic_areas`.
        stuff (Sequence[int]): Channels of the stuff classes.

    Returns:
        dict: ``IoU`` and ``Acc`` (C, ), NaN for channels that are not in the
        ground truth; ``mIoU``, ``fIoU``, ``mIoU_stuff``, NaN without any.
    """
    intersect, predicted, truth = areas
    iou = 100 * ratio(intersect, predicted + truth - intersect)
    iou[truth == 0] = np.nan
    return dict(
        IoU=iou,
        Acc=100 * ratio(intersect, truth),
        mIoU=mean_of_known(iou),
        fIoU=frequency_weighted(iou, truth),
        mIoU_stuff=mean_of_known(iou[list(stuff)]))


class SemanticMapMetric(PerImageMetric):
    """Base of metrics of ``pred_sem_seg``: C channels.

    For a model that predicts none, such as MaskFormer, it is derived from the
    labels of ``pred_panoptic_seg``; channel C stands for void there.
    """
    default_prefix = ''
    prediction = 'pred_sem_seg'
    predict_things: Optional[bool] = None
    #: Line below the table of scores.
    note: Optional[str] = None

    def process(self, data_batch: Any, data_samples: Sequence[Dict]) -> None:
        """Add one row for each data sample to ``self.results``."""
        super().process(data_batch, [self._complete(s) for s in data_samples])

    def note_derived(self, predicted: int, channels: int) -> None:
        """Set the note, from the number of predicted channels: where they are
        derived, void is one more. Workers may have judged the images."""
        self.note = DERIVED if predicted > channels else None

    def num_channels(self, predict_things: bool) -> int:
        """C, of the data set's classes."""
        return self.space.num_stuff + (
            self.space.num_things if predict_things else 1)

    def _complete(self, sample: Dict) -> Dict:
        """The sample with a semantic map, where it can be derived."""
        panoptic = sample.get('pred_panoptic_seg')
        # 'instance_indices': merged from branches, of which a model may lack
        # the semantic one
        if (panoptic is None or self.prediction in sample
                or 'instance_indices' in panoptic):
            return sample
        space, predict_things = self.space, bool(self.predict_things)
        plane = to_plane(panoptic['sem_seg'])
        (codes, ), lengths = joint_runs(plane)
        labels = labels_of_codes(codes)
        check_labels(labels, space.void + 1)
        table = np.append(
            semantic_channels(space.num_things,
                              space.num_stuff, predict_things),
            self.num_channels(predict_things))
        derived = dict(
            sem_seg=np.repeat(table.astype(np.int32)[labels],
                              lengths).reshape(plane.shape),
            has_void=True)
        return {**sample, self.prediction: derived}


@METRICS.register_module()
class SemanticIoUMetric(SemanticMapMetric):
    """mIoU, fIoU and mIoU_stuff of ``pred_sem_seg``.

    The ground truth is ``gt_panoptic_seg`` of the data samples.

    Args:
        predict_things (bool, optional): Whether the semantic head has a
            channel for each thing class (Cityscapes) instead of one 'other'
            (COCO). Only asked where the model says nothing about it in
            ``pred_sem_seg``, or predicts none.
        classwise (bool): Whether to log a line for each class.
        prefix (str, optional): First part of the keys. Defaults to none.
    """
    keys = ('mIoU', 'fIoU', 'mIoU_stuff')

    def __init__(self,
                 predict_things: Optional[bool] = None,
                 classwise: bool = False,
                 prefix: Optional[str] = None) -> None:
        super().__init__(prefix=prefix)
        self.predict_things = predict_things
        self.classwise = classwise

    def image_row(self, sample: Dict) -> Tuple[bool, np.ndarray]:
        """Whether things have channels, and int32 areas of an image, (3, C),
        or (3, C + 1) where channel C is void."""
        space, field = self.space, sample[self.prediction]
        predict_things = field.get('predict_things')
        if predict_things is None:
            predict_things = bool(self.predict_things)
        pred = to_plane(field['sem_seg'])
        gt = self.ground_truth(sample, shape=pred.shape)[0]
        channels = semantic_channels(space.num_things, space.num_stuff,
                                     predict_things)
        num_channels = self.num_channels(predict_things) + field.get(
            'has_void', False)
        areas = semantic_areas(gt, pred, np.append(channels, IGNORE_LABEL),
                               num_channels)
        return predict_things, areas.astype(np.int32)

    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """Scores of the summed areas."""
        space = self.space
        predict_things = rows[0][1][0]
        areas = sum(areas.astype(np.int64) for _, (_, areas) in rows)
        num_channels = self.num_channels(predict_things)
        self.note_derived(areas.shape[1], num_channels)
        areas = areas[:, :num_channels]
        if areas.shape[1] < 2:
            return dict.fromkeys(self.keys, float('nan'))
        first = space.num_things if predict_things else 0
        scores = semantic_scores(areas, range(first, first + space.num_stuff))
        other = 'other' if 'other' not in space.names else 'other (things)'
        names = (
            space.names if predict_things else (*space.stuff_names, other))
        self.report_classes(
            'Semantic IoU by class',
            names,
            dict(IoU=scores['IoU']),
            more=dict(Acc=scores['Acc']))
        return {key: scores[key] for key in self.keys}
