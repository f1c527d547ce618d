"""Measures beside PQ, from the same matching of segments.

Each counts one image, class by class; counts add up over images, and scores
are read off the sum:

``boundary``  PQ where the IoU of a pair is the lower of its mask IoU and its
              boundary IoU (Cheng et al., 'Boundary IoU', 2021)
``dagger``    of stuff the mean IoU of the true segments, without a threshold
              and without false positives; things as in PQ (Porzi et al.,
              'Seamless Scene Segmentation', 2019)
``size``      PQ of small, medium and large things (COCO's areas): tp and fn by
              the area of the true segment, fp by their own
"""
from typing import Dict, List, Tuple

import numpy as np

from ..ops.boundaries import boundary_distance, boundary_regions
from .base import labels_of_codes, mean_of_known, ratio
from .panoptic_quality import (Matching, Scene, class_quality, count_segments,
                               segment_overlaps)

#: Areas in pixels at which medium and large segments begin, as in COCO.
AREAS = (32**2, 96**2)


class PlainQuality:
    """PQ, SQ and RQ themselves, and the interface of the others."""

    #: Columns of the counts of a class.
    columns = 4
    #: Scores of a class; their means have each of the suffixes.
    names: Tuple[str, ...] = ('PQ', 'SQ', 'RQ')
    suffixes: Tuple[str, ...] = ('', '_th', '_st')

    @property
    def keys(self) -> Tuple[str, ...]:
        """Names of the means."""
        return tuple(n + s for s in self.suffixes for n in self.names)

    def iou(self, scene: Scene, found: Matching) -> np.ndarray:
        """IoU of each matched pair, float64 (tp, )."""
        return found.iou

    def count(self, scene: Scene, found: Matching) -> np.ndarray:
        """Counts of an image, float64 (C, columns)."""
        return count_segments(found, scene.gt_labels,
                              labels_of_codes(found.pred_codes),
                              scene.num_classes, self.iou(scene, found))

    def quality(self, counts: np.ndarray, plain: np.ndarray,
                num_things: int) -> np.ndarray:
        """Scores, fractions (C, names), NaN where there is nothing to judge.

        Args:
            counts (np.ndarray): (C, columns), of all images.
            plain (np.ndarray): (C, 3) PQ, SQ and RQ.
            num_things (int): Classes that are things, the first ones.
        """
        return class_quality(counts)


class BoundaryQuality(PlainQuality):
    """PQ, SQ and RQ by the lower one of mask IoU and boundary IoU.

    The boundary IoU compares the boundary regions of two segments, without
    what the predicted one has of its own on void. Void and crowd forgive the
    same false positives as in PQ.
    """
    names = ('PQ_boundary', 'SQ_boundary', 'RQ_boundary')

    def iou(self, scene: Scene, found: Matching) -> np.ndarray:
        return np.minimum(found.iou, boundary_iou(scene, found.pairs))


def boundary_iou(scene: Scene, pairs: Tuple[np.ndarray,
                                            np.ndarray]) -> np.ndarray:
    """Boundary IoU, float64 (n, ), of n pairs of segments: indices of true
    and of predicted ones, see :class:`Matching`."""
    true, predicted = pairs
    if not len(true):
        return np.zeros(0)
    distance = boundary_distance(*scene.gt.shape)
    marks = boundary_regions(scene.gt, distance)
    marks |= boundary_regions(scene.pred, distance) << 1
    overlaps, _ = segment_overlaps(scene.gt, scene.gt_codes, scene.pred,
                                   scene.void, marks)
    both = overlaps[3][pairs]
    of_true = (overlaps[1] + overlaps[3]).sum(axis=1)
    of_predicted = overlaps[2] + overlaps[3]
    outside_void = of_predicted[:-1].sum(axis=0)
    return both / (of_true[true] + outside_void[predicted] - both)


class DaggerQuality(PlainQuality):
    """PQ-dagger; counts are the true segments and the sum of their IoUs."""

    columns = 2
    names = ('PQ_dagger', )

    def count(self, scene: Scene, found: Matching) -> np.ndarray:
        labels = scene.gt_labels[~scene.crowd]
        inside, union = found.inside[~scene.crowd], found.union[~scene.crowd]
        same = labels[:, None] == labels_of_codes(found.pred_codes)
        iou = np.divide(
            inside,
            union,
            out=np.zeros(inside.shape),
            where=same & (inside > 0))
        counts = np.zeros((scene.num_classes, 2))
        np.add.at(counts, labels,
                  np.stack(
                      [np.ones(len(labels)), iou.sum(1)], 1))
        return counts

    def quality(self, counts: np.ndarray, plain: np.ndarray,
                num_things: int) -> np.ndarray:
        stuff = ratio(counts[num_things:, 1], counts[num_things:, 0])
        return np.append(plain[:num_things, 0], stuff)[:, None]


class SizeQuality(PlainQuality):
    """PQ of small, medium and large things; four counts for each size."""

    columns = 12
    names = ('PQ_small', 'PQ_medium', 'PQ_large')
    suffixes = ('', )

    def count(self, scene: Scene, found: Matching) -> np.ndarray:
        true_size = np.digitize(found.inside.sum(axis=1), AREAS)
        labels = labels_of_codes(found.pred_codes)
        counts = count_segments(found, scene.gt_labels * 3 + true_size,
                                labels * 3 + np.digitize(found.areas, AREAS),
                                scene.num_classes * 3, found.iou)
        return counts.reshape(scene.num_classes, 12)

    def quality(self, counts: np.ndarray, plain: np.ndarray,
                num_things: int) -> np.ndarray:
        quality = class_quality(counts.reshape(-1, 4))[:, 0].reshape(-1, 3)
        quality[num_things:] = np.nan
        return quality


MEASURES: Dict[str, PlainQuality] = dict(
    boundary=BoundaryQuality(), dagger=DaggerQuality(), size=SizeQuality())
#: What may be asked for; the last two concern single images.
EXTRA = (*MEASURES, 'images', 'interval')


def resampled_quality(rows: List[Tuple[np.ndarray, np.ndarray]],
                      num_classes: int,
                      resamples: int = 1000,
                      seed: int = 0) -> np.ndarray:
    """PQ of each class in data sets of as many images, drawn with replacement.

    Args:
        rows (list): Labels (k, ) and counts (k, 4 or more) of each image.
        num_classes (int): C.
        resamples (int): R.
        seed (int): The same images are drawn for as many ``rows``.

    Returns:
        np.ndarray: float64 (R, C) fractions, NaN for a class without tp, fp
        and fn.
    """
    image = np.repeat(
        np.arange(len(rows)), [len(labels) for labels, _ in rows])
    labels = np.concatenate([labels for labels, _ in rows])
    counts = np.concatenate([counts[:, :4] for _, counts in rows]).T
    rng = np.random.default_rng(seed)
    quality = np.empty((resamples, num_classes))
    for i in range(resamples):
        drawn = rng.integers(len(rows), size=len(rows))
        times = np.bincount(drawn, minlength=len(rows))[image]
        total = [
            np.bincount(labels, weights=times * of, minlength=num_classes)
            for of in counts
        ]
        quality[i] = class_quality(np.stack(total, axis=1))[:, 0]
    return quality


def percentile_interval(quality: np.ndarray) -> Tuple[float, float]:
    """Bounds of the 95 % interval of PQ in percent, from PQ of each class
    (R, C) in R resampled data sets; NaN where there is nothing to judge."""
    means = np.array([mean_of_known(row) for row in quality])
    known = means[~np.isnan(means)]
    if not known.size:
        return float('nan'), float('nan')
    low, high = np.percentile(known, [2.5, 97.5])
    return 100 * float(low), 100 * float(high)
