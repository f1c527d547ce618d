"""The mathematics of AP in Cityscapes' instance task.

In    overlaps of predicted masks and instances of the ground truth
Out   AP (T, 10) by thing class and overlap, fractions

The numbers are those of ``evalInstanceLevelSemanticLabeling`` without depth,
its peculiarities included (U is the overlap, from 0.5 to 0.95):

- instances below 100 pixels and groups need not be found;
- a prediction with a larger share than U of its pixels on void, on groups and
  on small instances of its class is no false positive; what lies on a small
  group counts twice;
- of several predictions that match one instance the best is right, the
  others are false positives;
- precision is a step function of recall, one step for each different
  score, and ends at precision 1, recall 0.

In one case the script stops with an IndexError: a class with instances, none
of them found, whose predictions are all ignored. Its AP is 0 here.
"""
from dataclasses import dataclass, fields
from typing import Sequence, Union

import numpy as np

from ..ops.run_length import index_map, mask_window
from .base import labels_of_codes

#: IoU that a match has to exceed, with the rounding of the official script.
OVERLAPS = np.arange(0.5, 1., 0.05)
#: Instances with fewer pixels need not be found.
MIN_PIXELS = 100


@dataclass
class InstanceOverlaps:
    """Predictions and instances of one image or of many.

    ``labels``, ``scores``, ``pixels`` (n, ) of the predictions with at least
    one pixel, ``void`` (n, ) pixels of them on void; ``gt_labels``,
    ``gt_pixels``, ``gt_group`` (m, ) of the instances; ``pred``, ``gt`` (k, )
    rows of the pairs of the same label that share ``common`` (k, ) > 0
    pixels.
    """

    labels: np.ndarray
    scores: np.ndarray
    pixels: np.ndarray
    void: np.ndarray
    gt_labels: np.ndarray
    gt_pixels: np.ndarray
    gt_group: np.ndarray
    pred: np.ndarray
    gt: np.ndarray
    common: np.ndarray


def image_overlaps(
        gt: np.ndarray, groups: Union[np.ndarray, Sequence[int]],
        num_things: int, void: int, labels: np.ndarray, scores: np.ndarray,
        masks: Union[np.ndarray, Sequence[np.ndarray]]) -> InstanceOverlaps:
    """Overlaps in one image; looks at each mask's window only.

    Args:
        gt (np.ndarray): (h, w) of ``label + 1000 * number``.
        groups (np.ndarray | Sequence[int]): Codes of groups (crowd).
        num_things (int): T; labels below it are things.
        void (int): Code of void. The label with a number is an instance of a
            class that is not evaluated; predictions on it are not ignored.
        labels (np.ndarray): (n, ), 0..T-1.
        scores (np.ndarray): (n, ).
        masks (np.ndarray | Sequence[np.ndarray]): n masks (h, w); they may
            overlap.
    """
    codes, areas, index = index_map(gt)
    common = np.zeros((len(masks), len(codes)), dtype=np.int64)
    for row, mask in zip(common, masks):
        window = mask_window(mask)
        if window is None:
            continue
        y1, x1, y2, x2 = window
        inside = mask[y1:y2, x1:x2].astype(bool, copy=False)
        row += np.bincount(index[y1:y2, x1:x2][inside], minlength=len(codes))

    gt_labels = labels_of_codes(codes)
    is_thing = gt_labels < num_things
    pixels = common.sum(axis=1)
    kept = pixels > 0
    common, labels = common[kept], np.asarray(labels, np.int64)[kept]
    on_things = common[:, is_thing]
    same = labels[:, None] == gt_labels[is_thing]
    pred, instance = np.nonzero(same & (on_things > 0))
    return InstanceOverlaps(
        labels=labels,
        scores=np.asarray(scores, np.float64)[kept],
        pixels=pixels[kept],
        void=common[:, codes == void].sum(axis=1),
        gt_labels=gt_labels[is_thing].astype(np.int64),
        gt_pixels=areas[is_thing],
        gt_group=np.isin(codes[is_thing], groups),
        pred=pred,
        gt=instance,
        common=on_things[pred, instance])


def join_overlaps(images: Sequence[InstanceOverlaps]) -> InstanceOverlaps:
    """Overlaps of several images as one, rows numbered through."""
    columns = {
        field.name: [getattr(image, field.name) for image in images]
        for field in fields(InstanceOverlaps)
    }
    for name, owner in (('pred', 'labels'), ('gt', 'gt_labels')):
        sizes = [len(values) for values in columns[owner]]
        firsts = np.cumsum([0, *sizes[:-1]])
        columns[name] = [
            rows + first for rows, first in zip(columns[name], firsts)
        ]
    return InstanceOverlaps(**{
        name: np.concatenate(values)
        for name, values in columns.items()
    })


def class_overlaps(found: InstanceOverlaps, label: int) -> InstanceOverlaps:
    """The part of one class."""
    preds, gts = found.labels == label, found.gt_labels == label
    pairs = preds[found.pred]
    return InstanceOverlaps(
        labels=found.labels[preds],
        scores=found.scores[preds],
        pixels=found.pixels[preds],
        void=found.void[preds],
        gt_labels=found.gt_labels[gts],
        gt_pixels=found.gt_pixels[gts],
        gt_group=found.gt_group[gts],
        pred=(np.cumsum(preds) - 1)[found.pred[pairs]],
        gt=(np.cumsum(gts) - 1)[found.gt[pairs]],
        common=found.common[pairs])


def instance_ap(found: InstanceOverlaps, num_things: int) -> np.ndarray:
    """AP of each thing class at each overlap.

    Args:
        found (InstanceOverlaps): Of all images.
        num_things (int): T.

    Returns:
        np.ndarray: float64 (T, 10), fractions; NaN for a class without an
        instance that has to be found.
    """
    return np.array(
        [class_ap(class_overlaps(found, t)) for t in range(num_things)],
        dtype=np.float64).reshape(num_things, len(OVERLAPS))


def class_ap(found: InstanceOverlaps) -> np.ndarray:
    """AP of one class, float64 (10, ), see :func:`instance_ap`."""
    small = found.gt_pixels < MIN_PIXELS
    wanted = ~(small | found.gt_group)
    if not wanted.any():
        return np.full(len(OVERLAPS), np.nan)
    union = (
        found.pixels[found.pred] + found.gt_pixels[found.gt] - found.common)
    iou = found.common / union
    # Once for being a group and once for being small, as the official sum.
    times = small[found.gt].astype(np.int64) + found.gt_group[found.gt]
    ignored = found.void + np.bincount(
        found.pred, weights=times * found.common, minlength=len(found.void))
    ignored = ignored / found.pixels

    scores = []
    for overlap in OVERLAPS:
        match = iou > overlap
        # also with a group or a small instance: then ignored > overlap, too
        matched = np.zeros(len(found.labels), dtype=bool)
        matched[found.pred[match]] = True
        false_positives = found.scores[~matched & (ignored <= overlap)]
        pairs = np.flatnonzero(match & wanted[found.gt])
        pairs = pairs[np.lexsort(
            (found.scores[found.pred[pairs]], found.gt[pairs]))]
        # The last of each instance has its best score.
        best = np.diff(found.gt[pairs], append=-1) != 0
        scores.append(
            average_precision(
                np.append(found.scores[found.pred[pairs]], false_positives),
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

    Returns:
        float: 0..1; 0 without any prediction.
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
