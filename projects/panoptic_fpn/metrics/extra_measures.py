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
from .base import labels_of_codes, ratio
from .panoptic_quality import (Matching, Scene, class_quality, count_segments,
                               group_quality, segment_overlaps)

#: Areas in pixels at which medium and large segments begin, as in COCO.
AREAS = (32**2, 96**2)
#: Percentiles that bound a 95 % interval.
INTERVAL = (2.5, 97.5)


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
        return found.iou[found.pairs]

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
        true, predicted = found.pairs
        if not len(true):
            return np.zeros(0)
        distance = boundary_distance(*scene.gt.shape)
        marks = boundary_regions(scene.gt, distance)
        marks |= boundary_regions(scene.pred, distance) << 1
        # segments of the prediction in four parts: (4, G + 1, P)
        marks = marks + np.multiply(scene.pred, 4, dtype=np.int32)
        counts, codes = segment_overlaps(scene.gt, scene.gt_codes, marks,
                                         scene.void)
        parts = np.zeros((4, len(counts), len(found.pred_codes)), np.int64)
        segment = np.searchsorted(found.pred_codes, codes // 4)
        parts[codes % 4, :, segment] = counts.T

        both = parts[3][found.pairs]
        of_true = (parts[1] + parts[3]).sum(axis=1)[true]
        # without void
        of_predicted = (parts[2] + parts[3])[:-1].sum(axis=0)[predicted]
        return np.minimum(found.iou[found.pairs],
                          both / (of_true + of_predicted - both))


class DaggerQuality(PlainQuality):
    """PQ-dagger; counts are the true segments and the sum of their IoUs."""

    columns = 2
    names = ('PQ_dagger', )

    def count(self, scene: Scene, found: Matching) -> np.ndarray:
        labels = scene.gt_labels[~scene.crowd]
        same = labels[:, None] == labels_of_codes(found.pred_codes)
        iou = (found.iou[~scene.crowd] * same).sum(axis=1)
        return np.stack([
            np.bincount(labels, weights=of, minlength=scene.num_classes)
            for of in (None, iou)
        ], 1)

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
                                scene.num_classes * 3, self.iou(scene, found))
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
                      num_things: int,
                      resamples: int = 1000,
                      seed: int = 0) -> np.ndarray:
    """PQ in data sets of as many images, drawn with replacement.

    Args:
        rows (list): Labels (k, ) and counts (k, 4 or more) of each image.
        num_classes (int): C.
        num_things (int): Classes that are things, the first ones.
        resamples (int): R.
        seed (int): The same images are drawn for as many ``rows``.

    Returns:
        np.ndarray: float64 (R, 3 + C), see :func:`quality_with_means`.
    """
    image = np.repeat(
        np.arange(len(rows)), [len(labels) for labels, _ in rows])
    labels = np.concatenate([labels for labels, _ in rows])
    counts = np.concatenate([counts[:, :4] for _, counts in rows]).T
    rng = np.random.default_rng(seed)
    quality = []
    for _ in range(resamples):
        drawn = rng.integers(len(rows), size=len(rows))
        times = np.bincount(drawn, minlength=len(rows))[image]
        total = [
            np.bincount(labels, weights=times * of, minlength=num_classes)
            for of in counts
        ]
        quality.append(quality_with_means(np.stack(total, 1), num_things))
    return np.stack(quality)


def quality_with_means(counts: np.ndarray, num_things: int) -> np.ndarray:
    """PQ of counts (C, 4) in percent, float64 (3 + C, ): means over all
    classes, things and stuff, then each class; NaN where there is nothing."""
    quality = class_quality(counts)[:, :1]
    means = group_quality(quality, num_things, ['PQ'])
    return np.append([*means.values()], 100 * quality)
