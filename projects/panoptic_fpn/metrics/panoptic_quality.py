"""Panoptic quality (Kirillov et al., 'Panoptic Segmentation', section 4).

In    ground truth and prediction, maps (h, w) of ``label + 1000 * number``,
      void = number of classes
Row   of an image: tp, fp, fn and the sum of the IoUs of the tp, by class
Out   PQ, SQ, RQ of all classes, things (_th) and stuff (_st), in percent

The numbers are those of panopticapi, its peculiarities included:

- the union of an IoU leaves out the part of the predicted segment on void;
- a prediction with more than half of its pixels on void or on crowd of its
  class is no fp, but of several crowd segments of a class only the LAST one in
  the order of the annotation counts for that;
- a class without tp, fp and fn is left out of the means, a class without tp
  has SQ = 0.

Areas are counted in the map, never read from the JSON.
"""
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from mmdet.registry import METRICS
from mmengine.logging import print_log
from torch import nn

from ..coco_format.results import write_json, write_png
from ..ops.run_length import index_values, joint_histogram, joint_runs
from .base import (NO_TRUTH, Row, WritingMetric, check_labels,
                   check_same_shape, labels_of_codes, log_classes,
                   scores_by_class, to_plane)

#: Columns of the counts of a class.
TP, FP, FN, IOU = range(4)


def segment_overlaps(gt: np.ndarray, gt_codes: np.ndarray, pred: np.ndarray,
                     void: int) -> Tuple[np.ndarray, np.ndarray]:
    """Pixels that each pair of segments has in common.

    Args:
        gt (np.ndarray): (h, w) codes.
        gt_codes (np.ndarray): (G, ), different codes of its segments.
        pred (np.ndarray): (h, w) codes.
        void (int): Label of void pixels, whatever their number.

    Returns:
        tuple[np.ndarray, np.ndarray]: int64 (G + 1, P), the last row being
        void ground truth; (P, ) codes of the prediction, void included.
    """
    (gt_runs, pred_runs), lengths = joint_runs(gt, pred)
    codes, gt_index = index_values(gt_runs)
    row_of = {int(code): i for i, code in enumerate(gt_codes)}
    rows = np.array([
        len(row_of) if label == void else row_of[int(code)]
        for code, label in zip(codes, labels_of_codes(codes))
    ])
    pred_codes, pred_index = index_values(pred_runs)
    overlaps = joint_histogram(rows[gt_index], pred_index, lengths,
                               (len(row_of) + 1, len(pred_codes)))
    return overlaps, pred_codes


class Matching(NamedTuple):
    """Segments of one image that belong together, and those left over.

    Attributes:
        pred_codes (np.ndarray): (P, ) codes of the prediction, void included.
        areas (np.ndarray): int64 (P, ) their pixels.
        inside (np.ndarray): int64 (G, P), pixels in common.
        union (np.ndarray): int64 (G, P), without what lies on void.
        pairs (tuple[np.ndarray, np.ndarray]): Indices (tp, ) of ground truth
            and prediction that match.
        iou (np.ndarray): float64 (tp, ) of these.
        false_negatives (np.ndarray): bool (G, ).
        false_positives (np.ndarray): bool (P, ).
    """
    pred_codes: np.ndarray
    areas: np.ndarray
    inside: np.ndarray
    union: np.ndarray
    pairs: Tuple[np.ndarray, np.ndarray]
    iou: np.ndarray
    false_negatives: np.ndarray
    false_positives: np.ndarray


def match_segments(gt: np.ndarray, gt_codes: np.ndarray, gt_labels: np.ndarray,
                   crowd: np.ndarray, pred: np.ndarray, void: int,
                   num_classes: int) -> Matching:
    """Match the segments of one image.

    Args:
        gt (np.ndarray): (h, w) of ``label + 1000 * number``.
        gt_codes (np.ndarray): (G, ), codes of the ground truth's segments in
            the order of the annotation; one without a pixel is a fn.
        gt_labels (np.ndarray): (G, ), their labels.
        crowd (np.ndarray): bool (G, ), whether they are crowd.
        pred (np.ndarray): (h, w) of ``label + 1000 * number``.
        void (int): Label of void pixels in both maps.
        num_classes (int): C.

    Raises:
        CodeError: A predicted label is neither void nor below
            ``num_classes``.
    """
    overlaps, pred_codes = segment_overlaps(gt, gt_codes, pred, void)
    labels = labels_of_codes(pred_codes)
    real = labels != void
    check_labels(labels[real], num_classes)

    inside, on_void = overlaps[:-1], overlaps[-1]
    areas = overlaps.sum(axis=0)
    union = areas + inside.sum(axis=1)[:, None] - inside - on_void
    comparable = (inside > 0) & real & ~crowd[:, None]
    comparable &= gt_labels[:, None] == labels
    iou = np.zeros(inside.shape)
    np.divide(inside, union, out=iou, where=comparable)
    true, predicted = np.nonzero(iou > 0.5)

    false_negatives = ~crowd
    false_negatives[true] = False

    # Later crowd segments of a label replace earlier ones, as in panopticapi.
    last_crowd = {int(gt_labels[g]): g for g in np.flatnonzero(crowd)}
    false_positives = real.copy()
    false_positives[predicted] = False
    for p in np.flatnonzero(false_positives):
        ignored = on_void[p]
        if int(labels[p]) in last_crowd:
            ignored = ignored + inside[last_crowd[int(labels[p])], p]
        false_positives[p] = ignored / areas[p] <= 0.5
    return Matching(pred_codes, areas, inside, union, (true, predicted),
                    iou[true, predicted], false_negatives, false_positives)


def panoptic_counts(gt: np.ndarray, gt_codes: np.ndarray,
                    gt_labels: np.ndarray, crowd: np.ndarray, pred: np.ndarray,
                    void: int, num_classes: int) -> np.ndarray:
    """Counts of one image; arguments as for :func:`match_segments`.

    Returns:
        np.ndarray: float64 (C, 4): tp, fp, fn, sum of the IoUs of the tp.
    """
    found = match_segments(gt, gt_codes, gt_labels, crowd, pred, void,
                           num_classes)
    counts = np.zeros((num_classes, 4))
    matched = gt_labels[found.pairs[0]]
    np.add.at(counts, (matched, TP), 1)
    np.add.at(counts, (matched, IOU), found.iou)
    np.add.at(counts, (gt_labels[found.false_negatives], FN), 1)
    labels = labels_of_codes(found.pred_codes)
    np.add.at(counts, (labels[found.false_positives], FP), 1)
    return counts


def class_quality(counts: np.ndarray) -> np.ndarray:
    """PQ, SQ and RQ of each class.

    Args:
        counts (np.ndarray): (C, 4), summed over images.

    Returns:
        np.ndarray: float64 (C, 3), fractions; NaN for a class that occurs
        neither in the ground truth nor, as a fp, in the prediction.
    """
    tp, fp, fn, iou = counts.T
    size = tp + 0.5 * fp + 0.5 * fn
    quality = np.full((len(counts), 3), np.nan)
    seen = size > 0
    quality[seen, 0] = iou[seen] / size[seen]
    quality[seen, 1] = iou[seen] / np.maximum(tp[seen], 1)
    quality[seen, 2] = tp[seen] / size[seen]
    return quality


def group_quality(quality: np.ndarray, num_things: int) -> Dict[str, float]:
    """Means over all classes, things and stuff.

    Args:
        quality (np.ndarray): (C, 3), fractions, NaN for absent classes.
        num_things (int): T; the first T classes are things.

    Returns:
        dict: ``PQ``, ``SQ``, ``RQ``, the same with ``_th`` and ``_st``, in
        percent; NaN for a group in which no class occurs.
    """
    groups = {
        '': quality,
        '_th': quality[:num_things],
        '_st': quality[num_things:]
    }
    scores = {}
    for suffix, rows in groups.items():
        rows = rows[~np.isnan(rows[:, 0])]
        means = rows.mean(axis=0) if len(rows) else np.full(3, np.nan)
        for name, mean in zip(('PQ', 'SQ', 'RQ'), means):
            scores[name + suffix] = 100 * float(mean)
    return scores


@METRICS.register_module()
class PanopticQualityMetric(WritingMetric):
    """PQ, SQ and RQ from counts in memory.

    Compares ``pred_panoptic_seg`` with ``gt_panoptic_seg`` of the data
    samples (with ``gt_codes`` and ``crowd_codes`` in their metainfo). Keys
    and numbers are those of mmdet's ``CocoPanopticMetric``; files are written
    only where ``outfile_prefix`` asks for them.

    A model with one branch (lambda_i or lambda_s = 0, Table 2) is judged by
    what it predicts: PQ_th or PQ_st; the rest is NaN ('n/a').

    Args:
        classwise (bool): Whether to print a line for each class.
        format_only (bool): Whether to write the COCO result format and
            compute nothing, as for images without annotation.
        outfile_prefix (str, optional): Write ``PREFIX.panoptic.json`` and
            ``PREFIX.panoptic/*.png``. Several machines must share the folder.
        png_name (str, optional): Names of the PNGs, such as
            '{img_id}_panoptic.png'. By default those of the annotation, or
            else of the images.
        prefix (str, optional): First part of the keys. Defaults to
            'coco_panoptic'.
    """
    default_prefix = 'coco_panoptic'
    prediction = 'pred_panoptic_seg'
    task = 'panoptic'
    score_keys = tuple(q + g for g in ('', '_th', '_st')
                       for q in ('PQ', 'SQ', 'RQ'))

    def __init__(self,
                 classwise: bool = False,
                 format_only: bool = False,
                 outfile_prefix: Optional[str] = None,
                 png_name: Optional[str] = None,
                 prefix: Optional[str] = None) -> None:
        super().__init__(classwise, format_only, outfile_prefix, prefix)
        self.png_name = png_name
        self._lacking: Optional[str] = None

    def check_model(self, model: nn.Module) -> None:
        """See whether the model has one branch alone."""
        branches = dict(
            things=getattr(model, 'roi_head', None),
            stuff=getattr(model, 'semantic_head', None))
        lacking = [kind for kind, head in branches.items() if head is None]
        # a model of another kind has neither, and predicts both
        self._lacking = lacking[0] if len(lacking) == 1 else None

    @property
    def note(self) -> Optional[str]:
        """What a table must say beside these scores."""
        if self._lacking is None:
            return None
        return f'no branch for {self._lacking}: their PQ is not judged'

    def image_row(self, sample: Dict) -> Dict:
        """Counts of the classes that occur, and what the JSON lists."""
        space = self.space
        row: Dict[str, Any] = {}
        pred = to_plane(sample[self.prediction]['sem_seg'])
        if not self.format_only:
            row['counts'] = self._counts(sample, pred, space.num_classes)
        if self.outfile_prefix is not None:
            row['annotation'] = write_png(sample, pred, space.void,
                                          space.category_ids,
                                          self.outfile_prefix, self.png_name)
        return row

    def _counts(self, sample: Dict, pred: np.ndarray,
                num_classes: int) -> Tuple[np.ndarray, np.ndarray]:
        """Labels (k, ) with anything to count, and their counts (k, 4)."""
        gt, codes, crowd = self.ground_truth(sample, NO_TRUTH)
        check_same_shape(sample, self.prediction, pred.shape, gt.shape)
        counts = panoptic_counts(gt, codes, labels_of_codes(codes), crowd,
                                 pred, num_classes, num_classes)
        labels = np.flatnonzero(counts.any(axis=1)).astype(np.int16)
        return labels, counts[labels]

    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """Write the JSON where asked for; scores of the summed counts."""
        if self.outfile_prefix is not None:
            self._write_json(rows, self.outfile_prefix)
        if self.format_only:
            return {}
        space = self.space
        total = sum_counts([row['counts'] for _, row in rows],
                           space.num_classes)
        quality = class_quality(total)
        if self._lacking is not None:
            things = slice(space.num_things)
            stuff = slice(space.num_things, None)
            quality[things if self._lacking == 'things' else stuff] = np.nan
        columns = dict(zip(('PQ', 'SQ', 'RQ'), 100 * quality.T))
        self.by_class = scores_by_class(space.names, columns)
        if self.classwise:
            log_classes('Panoptic quality by class', space.names, columns)
        scores = group_quality(quality, space.num_things)
        if self._lacking is not None:
            scores.update(PQ=np.nan, SQ=np.nan, RQ=np.nan)
        return scores

    def _write_json(self, rows: List[Row], prefix: str) -> None:
        """List the PNGs of all images."""
        annotations = [
            dict(image_id=image_id, **row['annotation'])
            for image_id, row in rows
        ]
        path = write_json(annotations, prefix)
        print_log(f'Panoptic results are in {path}.', logger='current')
        self.finish_folder([entry['file_name'] for entry in annotations])


def sum_counts(rows: Sequence[Tuple[np.ndarray, np.ndarray]],
               num_classes: int) -> np.ndarray:
    """Sum of the counts of images, one after the other.

    Args:
        rows (Sequence[tuple]): Labels (k, ) and counts (k, 4) of each image.
        num_classes (int): C.

    Returns:
        np.ndarray: float64 (C, 4). The bits depend on the order of the rows.
    """
    total = np.zeros((num_classes, 4))
    for labels, counts in rows:
        total[labels] += counts
    return total
