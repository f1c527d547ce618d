"""The mathematics of AP in Cityscapes' instance task.

In    overlaps of predicted masks and instances of the ground truth
Out   AP (T, 10) by thing class and overlap, fractions

The numbers are those of ``evalInstanceLevelSemanticLabeling`` without depth,
its peculiarities included (U is the overlap, from 0.5 to 0.95):

- instances below 100 pixels and groups need not be found;
- a prediction with more than the share U of its pixels on void, on groups and
  on small instances of its class is not a false positive; what lies on a small
  group counts twice;
- of several predictions that match one instance the best is right, the
  others are false positives;
- precision is a step function of recall, one step for each different
  score, and ends at precision 1, recall 0.

In one case the script stops with an IndexError: a class with instances, none
of them found, whose predictions are all ignored. Its AP is 0 here.
"""
from typing import NamedTuple, Sequence, Union

import numpy as np

from ..ops.run_length import index_map, values_inside
from .base import labels_of_codes

#: IoU that a match has to exceed, with the rounding of the official script.
OVERLAPS = np.arange(0.5, 1., 0.05)
#: Instances with fewer pixels need not be found.
MIN_PIXELS = 100

_PREDICTIONS = np.dtype([('label', np.int64), ('score', np.float64),
                         ('pixels', np.int64), ('void', np.int64)])
_INSTANCES = np.dtype([('label', np.int64), ('pixels', np.int64),
                       ('group', np.bool_)])
_PAIRS = np.dtype([('pred', np.int64), ('gt', np.int64), ('common', np.int64)])


class InstanceOverlaps(NamedTuple):
    """Predictions and instances of one image or of many."""

    #: (n, ) with at least one pixel: label, score, pixels, pixels on void.
    preds: np.ndarray
    #: (m, ) label, pixels, and whether it is a group.
    gts: np.ndarray
    #: (k, ) rows ``pred`` and ``gt`` of the same label that share pixels, and
    #: how many.
    pairs: np.ndarray


def image_overlaps(gt: np.ndarray, groups: Union[np.ndarray, Sequence[int]],
                   num_things: int, void: int, labels: np.ndarray,
                   scores: np.ndarray, masks: np.ndarray) -> InstanceOverlaps:
    """Overlaps in one image; looks at each mask's window only.

    Args:
        gt (np.ndarray): (h, w) of ``label + 1000 * number``.
        groups (Sequence[int]): Codes of groups (crowd).
        num_things (int): T; labels below it are things.
        void (int): Code of void. The label with a number is an instance of a
            class that is not evaluated; predictions on it are not ignored.
        labels (np.ndarray): (n, ), 0..T-1.
        scores (np.ndarray): (n, ).
        masks (np.ndarray): (n, h, w); they may overlap.
    """
    codes, areas, index = index_map(gt)
    common = np.zeros((len(masks), len(codes)), dtype=np.int64)
    for row, mask in zip(common, masks):
        row += np.bincount(values_inside(index, mask), minlength=len(codes))

    pixels = common.sum(axis=1)
    preds = np.rec.fromarrays(
        [labels, scores, pixels, common[:, codes == void].sum(axis=1)],
        _PREDICTIONS)[pixels > 0]
    gt_labels = labels_of_codes(codes)
    is_thing = gt_labels < num_things
    gts = np.rec.fromarrays(
        [gt_labels, areas, np.isin(codes, groups)], _INSTANCES)[is_thing]
    common = common[pixels > 0][:, is_thing]
    pred, instance = np.nonzero((preds['label'][:, None] == gts['label'])
                                & (common > 0))
    return InstanceOverlaps(
        preds, gts,
        np.rec.fromarrays([pred, instance, common[pred, instance]], _PAIRS))


def join_overlaps(images: Sequence[InstanceOverlaps]) -> InstanceOverlaps:
    """Overlaps of several images as one, with rows renumbered."""
    preds, gts, pairs = (np.concatenate(part) for part in zip(*images))
    lengths = np.array([[len(part) for part in image] for image in images])
    firsts = np.cumsum(lengths, axis=0) - lengths
    pairs['pred'] += np.repeat(firsts[:, 0], lengths[:, 2])
    pairs['gt'] += np.repeat(firsts[:, 1], lengths[:, 2])
    return InstanceOverlaps(preds, gts, pairs)


def instance_ap(images: Sequence[InstanceOverlaps],
                num_things: int) -> np.ndarray:
    """AP of T thing classes at each overlap, float64 (T, 10), fractions; NaN
    for a class without an instance that has to be found."""
    found = join_overlaps(images)
    return np.array([class_ap(found, t) for t in range(num_things)],
                    dtype=np.float64).reshape(num_things, len(OVERLAPS))


def class_ap(found: InstanceOverlaps, label: int) -> np.ndarray:
    """AP of one class at each overlap, float64 (10, )."""
    is_pred, is_gt = found.preds['label'] == label, found.gts['label'] == label
    preds, gts = found.preds[is_pred], found.gts[is_gt]
    pairs = found.pairs[is_pred[found.pairs['pred']]]
    pred = (np.cumsum(is_pred) - 1)[pairs['pred']]
    gt, common = (np.cumsum(is_gt) - 1)[pairs['gt']], pairs['common']
    small = gts['pixels'] < MIN_PIXELS
    wanted = ~(small | gts['group'])
    if not wanted.any():
        return np.full(len(OVERLAPS), np.nan)
    iou = common / (preds['pixels'][pred] + gts['pixels'][gt] - common)
    # Once for being a group and once for being small, as in the official sum.
    times = small[gt].astype(np.int64) + gts['group'][gt]
    ignored = preds['void'] + np.bincount(
        pred, weights=times * common, minlength=len(preds))
    ignored = ignored / preds['pixels']

    scores = []
    for overlap in OVERLAPS:
        match = iou > overlap
        # also with a group or a small instance: then ignored > overlap, too
        matched = np.zeros(len(preds), dtype=bool)
        matched[pred[match]] = True
        false_positives = preds['score'][~matched & (ignored <= overlap)]
        right = np.flatnonzero(match & wanted[gt])
        right = right[np.lexsort((preds['score'][pred[right]], gt[right]))]
        # The last of each instance has its best score.
        best = np.diff(gt[right], append=-1) != 0
        scores.append(
            average_precision(
                np.append(preds['score'][pred[right]], false_positives),
                np.append(best, np.zeros(len(false_positives), dtype=bool)),
                int(wanted.sum())))
    return np.array(scores)


def average_precision(scores: np.ndarray, right: np.ndarray,
                      wanted: int) -> float:
    """Area below precision over recall, as the official script integrates.

    Args:
        scores (np.ndarray): (n, ) of the predictions that count.
        right (np.ndarray): bool (n, ), the true ones.
        wanted (int): Instances to be found, > 0.
    """
    if not len(scores):
        return 0.
    order = np.argsort(scores, kind='stable')
    _, first = np.unique(scores[order], return_index=True)
    below = np.append(0, np.cumsum(right[order]))[first]
    true = right.sum() - below
    precision = np.append(true / (len(scores) - first), 1.)
    recall = np.append(true / wanted, 0.)
    padded = np.concatenate([recall[:1], recall, [0.]])
    return float(precision @ (padded[:-2] - padded[2:]) / 2)
