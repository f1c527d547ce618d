"""Panoptic quality (Kirillov et al., 'Panoptic Segmentation', section 4).

In    ground truth and prediction, maps (h, w) of ``label + 1000 * number``,
      void = number of classes
Row   of an image: tp, fp, fn and the sum of the IoUs of the tp, by class
Out   PQ, SQ, RQ of all classes, things (_th) and stuff (_st), in percent

The numbers are those of panopticapi, its peculiarities included:

- the union of an IoU leaves out the part of the predicted segment on void;
- a prediction with more than half of its pixels on void or on crowd of its
  class is not an fp, but of several crowd segments of a class only the LAST
  one in the order of the annotation counts for that;
- a class without tp, fp and fn is left out of the means, a class without tp
  has SQ = 0.

Areas are counted in the map, never read from the JSON.
"""
from typing import Dict, NamedTuple, Sequence, Tuple

import numpy as np

from ..ops.run_length import index_values, joint_histogram, joint_runs
from .base import check_labels, labels_of_codes, mean_of_known

#: Columns of the counts of a class.
TP, FP, FN, IOU = range(4)


class Scene(NamedTuple):
    """Ground truth and prediction of one image: arguments of
    :func:`match_segments`, in their order."""
    gt: np.ndarray
    gt_codes: np.ndarray
    gt_labels: np.ndarray
    crowd: np.ndarray
    pred: np.ndarray
    void: int
    num_classes: int


def segment_overlaps(gt: np.ndarray, gt_codes: np.ndarray, pred: np.ndarray,
                     void: int) -> Tuple[np.ndarray, np.ndarray]:
    """Pixels that each pair of segments has in common.

    Args:
        gt, pred (np.ndarray): (h, w) codes.
        gt_codes (np.ndarray): (G, ), different codes of the ground truth.
        void (int): Label of void pixels, whatever their number.

    Returns:
        tuple[np.ndarray, np.ndarray]: int64 (G + 1, P), the last row being
        void ground truth; (P, ) codes of the prediction, void included,
        ascending.
    """
    (gt_runs, pred_runs), lengths = joint_runs(gt, pred)
    codes, gt_index = index_values(gt_runs)
    row_of = {int(code): i for i, code in enumerate(gt_codes)}
    rows = np.array([
        len(row_of) if label == void else row_of[int(code)]
        for code, label in zip(codes, labels_of_codes(codes))
    ])
    pred_codes, pred_index = index_values(pred_runs)
    shape = (len(row_of) + 1, len(pred_codes))
    overlaps = joint_histogram(rows[gt_index], pred_index, lengths, shape)
    return overlaps, pred_codes


class Matching(NamedTuple):
    """Segments of one image that belong together, and those left over."""

    #: (P, ) codes of the prediction, void included, ascending.
    pred_codes: np.ndarray
    #: int64 (P, ) their pixels.
    areas: np.ndarray
    #: (G, P) pixels in common, int64, and IoU, of any two classes.
    inside: np.ndarray
    iou: np.ndarray
    #: Indices (tp, ) of ground truth and prediction that match.
    pairs: Tuple[np.ndarray, np.ndarray]
    #: bool (G, ) and bool (P, ).
    false_negatives: np.ndarray
    false_positives: np.ndarray
    #: bool (P, ), whether a segment is no fp where nothing matches it.
    forgiven: np.ndarray


def match_segments(gt: np.ndarray, gt_codes: np.ndarray, gt_labels: np.ndarray,
                   crowd: np.ndarray, pred: np.ndarray, void: int,
                   num_classes: int) -> Matching:
    """Match the segments of one image.

    Args:
        gt, pred (np.ndarray): (h, w) of ``label + 1000 * number``.
        gt_codes (np.ndarray): (G, ), codes of the ground truth's segments in
            the order of the annotation; one without a pixel is a fn.
        gt_labels (np.ndarray): (G, ), their labels.
        crowd (np.ndarray): bool (G, ), whether they are crowd.
        void (int): Label of void pixels in both maps.
        num_classes (int): C.

    Raises:
        CodeError: A predicted label is neither void nor a class.
    """
    overlaps, pred_codes = segment_overlaps(gt, gt_codes, pred, void)
    labels = labels_of_codes(pred_codes)
    real = labels != void
    check_labels(labels[real], num_classes)

    inside, on_void = overlaps[:-1], overlaps[-1]
    areas = overlaps.sum(axis=0)
    union = areas + inside.sum(axis=1)[:, None] - inside - on_void
    iou = inside / np.maximum(union, 1)
    comparable = real & ~crowd[:, None] & (gt_labels[:, None] == labels)
    true, predicted = np.nonzero(comparable & (iou > 0.5))

    false_negatives = ~crowd
    false_negatives[true] = False

    # Later crowd segments of a label replace earlier ones, as in panopticapi.
    last_crowd = {int(gt_labels[g]): g for g in np.flatnonzero(crowd)}
    ignored = on_void.copy()
    for label, g in last_crowd.items():
        ignored += np.where(labels == label, inside[g], 0)
    forgiven = ignored / areas > 0.5
    false_positives = real & ~forgiven
    false_positives[predicted] = False
    return Matching(pred_codes, areas, inside, iou, (true, predicted),
                    false_negatives, false_positives, forgiven)


def count_segments(found: Matching, gt_labels: np.ndarray,
                   pred_labels: np.ndarray, num_classes: int,
                   iou: np.ndarray) -> np.ndarray:
    """Counts of a matching.

    Args:
        found (Matching): Its segments and pairs.
        gt_labels (np.ndarray): (G, ), classes to count the tp and fn by.
        pred_labels (np.ndarray): (P, ), classes to count the fp by.
        num_classes (int): C.
        iou (np.ndarray): (tp, ), of each pair, at most that of the matching.
            A pair of no more than 0.5 is a fn and a fp.

    Returns:
        np.ndarray: float64 (C, 4): tp, fp, fn, sum of the IoUs of the tp.
    """
    true, predicted = found.pairs
    tp, lost = iou > 0.5, predicted[iou <= 0.5]
    fp = np.append(
        np.flatnonzero(found.false_positives), lost[~found.forgiven[lost]])
    fn = np.append(np.flatnonzero(found.false_negatives), true[~tp])
    counts = np.zeros((num_classes, 4))
    np.add.at(counts, (gt_labels[true[tp]], TP), 1)
    np.add.at(counts, (gt_labels[true[tp]], IOU), iou[tp])
    np.add.at(counts, (gt_labels[fn], FN), 1)
    np.add.at(counts, (pred_labels[fp], FP), 1)
    return counts


def panoptic_counts(gt: np.ndarray, gt_codes: np.ndarray,
                    gt_labels: np.ndarray, crowd: np.ndarray, pred: np.ndarray,
                    void: int, num_classes: int) -> np.ndarray:
    """Counts of one image, float64 (C, 4): tp, fp, fn, sum of the IoUs of the
    tp; arguments as for :func:`match_segments`."""
    found = match_segments(gt, gt_codes, gt_labels, crowd, pred, void,
                           num_classes)
    return count_segments(found, gt_labels, labels_of_codes(found.pred_codes),
                          num_classes, found.iou[found.pairs])


def class_quality(counts: np.ndarray) -> np.ndarray:
    """PQ, SQ and RQ of each class, float64 (C, 3), from counts (C, 4).

    Fractions; NaN for a class that occurs neither in the ground truth nor, as
    a fp, in the prediction.
    """
    tp, fp, fn, iou = counts.T
    size = tp + 0.5 * fp + 0.5 * fn
    some = np.maximum(size, 0.5)
    quality = np.stack([iou / some, iou / np.maximum(tp, 1), tp / some], 1)
    quality[size == 0] = np.nan
    return quality


def mean_quality(counts: np.ndarray) -> float:
    """PQ of counts (C, 4) in percent, the mean over the classes that occur;
    NaN without any."""
    return 100 * mean_of_known(class_quality(counts)[:, 0])


def group_quality(
    quality: np.ndarray,
    num_things: int,
    names: Sequence[str] = ('PQ', 'SQ', 'RQ')
) -> Dict[str, float]:
    """Means of scores over all classes, things (``_th``) and stuff (``_st``),
    in percent.

    Args:
        quality (np.ndarray): (C, n) fractions, see :func:`class_quality`; NaN
            is left out, a group without any other value is NaN.
        num_things (int): Classes that are things, the first ones.
        names (Sequence[str]): Names of the n scores.
    """
    scores = {}
    for suffix, rows in (('', quality), ('_th', quality[:num_things]),
                         ('_st', quality[num_things:])):
        for name, values in zip(names, rows.T):
            scores[name + suffix] = 100 * mean_of_known(values)
    return scores
