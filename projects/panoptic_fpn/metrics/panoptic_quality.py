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
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from mmdet.registry import METRICS
from mmengine.logging import print_log
from torch import nn

from ..coco_format.results import (ImageId, number_segments, png_name,
                                   png_names, write_image, write_json)
from ..labels import id_to_rgb
from ..ops.run_length import index_values, joint_histogram, joint_runs
from .base import WritingMetric, check_labels, labels_of_codes, mean_of_known

#: Columns of the counts of a class.
TP, FP, FN, IOU = range(4)


def segment_overlaps(gt: np.ndarray, gt_codes: np.ndarray, pred: np.ndarray,
                     void: int) -> Tuple[np.ndarray, np.ndarray]:
    """Pixels that each pair of segments has in common.

    Args:
        gt, pred (np.ndarray): (h, w) codes.
        gt_codes (np.ndarray): (G, ), different codes of the ground truth.
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
    """Segments of one image that belong together, and those left over."""

    #: (P, ) codes of the prediction, void included.
    pred_codes: np.ndarray
    #: int64 (P, ) their pixels.
    areas: np.ndarray
    #: int64 (G, P), pixels in common, and of the union without void.
    inside: np.ndarray
    union: np.ndarray
    #: Indices (tp, ) of ground truth and prediction that match; their IoU.
    pairs: Tuple[np.ndarray, np.ndarray]
    iou: np.ndarray
    #: bool (G, ) and bool (P, ).
    false_negatives: np.ndarray
    false_positives: np.ndarray


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


def group_quality(quality: np.ndarray, num_things: int) -> Dict[str, float]:
    """``PQ``, ``SQ``, ``RQ``, the same with ``_th`` and ``_st``, in percent.

    Means over all classes, things and stuff of ``quality`` (C, 3), see
    :func:`class_quality`; NaN for a group in which no class occurs.
    """
    scores = {}
    for suffix, rows in (('', quality), ('_th', quality[:num_things]),
                         ('_st', quality[num_things:])):
        for i, name in enumerate(('PQ', 'SQ', 'RQ')):
            scores[name + suffix] = 100 * mean_of_known(rows[:, i])
    return scores


@METRICS.register_module()
class PanopticQualityMetric(WritingMetric):
    """PQ, SQ and RQ from counts in memory.

    Compares ``pred_panoptic_seg`` with ``gt_panoptic_seg`` of the data
    samples (with ``gt_codes`` and ``crowd_codes`` in their metainfo). Keys
    and numbers are those of mmdet's ``CocoPanopticMetric``.

    A model with one branch (lambda_i or lambda_s = 0, Table 2) is judged by
    what it predicts: PQ_th or PQ_st; the rest is NaN ('n/a').

    Args:
        outfile_prefix (str, optional): Write ``PREFIX.panoptic.json`` and
            ``PREFIX.panoptic/*.png``, in COCO's format.
        png_name (str, optional): Names of the PNGs, such as
            '{img_id}_panoptic.png'. By default those of the annotation, or
            else of the images; with their folders where two are alike.
        **kwargs: See :class:`WritingMetric`.
    """
    default_prefix = 'coco_panoptic'
    prediction = 'pred_panoptic_seg'
    task = 'panoptic'
    score_keys = tuple(q + g for g in ('', '_th', '_st')
                       for q in ('PQ', 'SQ', 'RQ'))

    #: Kind of class that the model has no branch for.
    _lacking: Optional[str] = None

    def __init__(self,
                 *args: Any,
                 png_name: Optional[str] = None,
                 **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.png_name = png_name
        self._names: Dict[ImageId, str] = {}

    def check_images(self, images: Sequence[Dict]) -> None:
        """Name the PNGs; refuse images that would share one."""
        if self.outfile_prefix is not None:
            self._names = png_names(images, self.png_name)

    def check_model(self, model: nn.Module) -> None:
        """Note whether the model has only one branch."""
        branches = dict(
            things=getattr(model, 'roi_head', None),
            stuff=getattr(model, 'semantic_head', None))
        lacking = [kind for kind, head in branches.items() if head is None]
        # a model of another kind has neither, and predicts both
        self._lacking = lacking[0] if len(lacking) == 1 else None

    @property
    def note(self) -> Optional[str]:
        """Note for a table of these scores."""
        if self._lacking is None:
            return None
        return f'no branch for {self._lacking}: their PQ is not judged'

    def judge(self, sample: Dict,
              pred: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Labels (k, ) with anything to count, and their counts (k, 4)."""
        gt, codes, crowd = self.ground_truth(sample, shape=pred.shape)
        num_classes = self.space.num_classes
        counts = panoptic_counts(gt, codes, labels_of_codes(codes), crowd,
                                 pred, num_classes, num_classes)
        labels = np.flatnonzero(counts.any(axis=1)).astype(np.int16)
        return labels, counts[labels]

    def write(self, sample: Dict, pred: np.ndarray) -> Dict:
        """Write the PNG; return its JSON entry, without ``image_id``."""
        name = self._names.get(sample['img_id']) or png_name(
            sample, self.png_name)
        ids, segments = number_segments(pred, self.space.void,
                                        self.space.category_ids)
        write_image(self.task_folder / name, id_to_rgb(ids))
        return dict(file_name=name, segments_info=segments)

    def finish(self, written: Dict[ImageId, Any]) -> None:
        """List the PNGs of all images in the JSON."""
        path = write_json([
            dict(image_id=image_id, **entry)
            for image_id, entry in written.items()
        ], str(self.outfile_prefix))
        print_log(f'Panoptic results are in {path}.', logger='current')
        super().finish({i: [e['file_name']] for i, e in written.items()})

    def score(self, counts: List[Tuple[np.ndarray,
                                       np.ndarray]]) -> Dict[str, float]:
        """PQ, SQ and RQ of the summed counts."""
        space = self.space
        total = np.zeros((space.num_classes, 4))
        for labels, row in counts:  # in the order of the ids
            total[labels] += row
        quality = class_quality(total)
        if self._lacking is not None:
            things = np.arange(space.num_classes) < space.num_things
            quality[things == (self._lacking == 'things')] = np.nan
        self.report_classes('Panoptic quality by class', space.names,
                            dict(zip(('PQ', 'SQ', 'RQ'), 100 * quality.T)))
        scores = group_quality(quality, space.num_things)
        if self._lacking is not None:
            scores.update(PQ=np.nan, SQ=np.nan, RQ=np.nan)
        return scores
