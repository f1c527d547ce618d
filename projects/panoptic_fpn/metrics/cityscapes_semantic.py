"""IoU and iIoU of Cityscapes' pixel task, of classes and of categories.

In    ground truth, map (h, w) of ``label + 1000 * number``, void = T + S;
      prediction, map (h, w) of labels 0..C-1: C = 19 channels of the head,
      or the labels of a panoptic map, where C is void
Row   of an image: pixels by label of ground truth and prediction (C, P), P =
      C + 1 with void, and the weighted pixels of instances (4, T)
Out   mIoU, iIoU, mIoU_category, iIoU_category, fIoU in percent

The numbers are those of ``evalPixelLevelSemanticLabeling`` (which has no
fIoU; see ``semantic_iou``):

- a class that is predicted but never in the ground truth has the IoU 0, one
  that is neither is left out of the means;
- for iIoU, the pixels of an instance weigh as much as if it had the average
  size of its class; groups have no weight, false positives have weight 1;
- a category's iIoU counts any class of the category as right.
"""
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling
from cityscapesscripts.helpers.labels import category2labels, id2label
from mmdet.registry import METRICS
from torch import nn

from mmengine_exact.errors import InputError

from ..cityscapes import label_space
from ..coco_format.results import file_part, write_image
from ..labels import LabelSpace
from .base import (WritingMetric, labels_of_codes, log_classes, mean_of_known,
                   ratio)
from .semantic_iou import (SemanticMapMetric, code_counts, confusion_matrix,
                           frequency_weighted)

#: Rows of the weighted pixels of instances.
RIGHT, WRONG, CATEGORY_RIGHT, CATEGORY_WRONG = range(4)


def category_labels(space: LabelSpace) -> Dict[str, List[int]]:
    """Labels of each category that has any, in the order of the table."""
    groups: Dict[str, List[int]] = {}
    for label, id_ in enumerate(space.category_ids):
        groups.setdefault(id2label[id_].category, []).append(label)
    return {name: groups[name] for name in category2labels if name in groups}


def image_counts(codes: np.ndarray, counts: np.ndarray, crowd: np.ndarray,
                 groups: Mapping[str, Sequence[int]],
                 sizes: np.ndarray) -> Dict[str, np.ndarray]:
    """Row of one image.

    Args:
        codes (np.ndarray): (G, ) codes of the ground truth.
        counts (np.ndarray): int64 (G, P), pixels by predicted label.
        crowd (np.ndarray): Codes of groups.
        groups (Mapping): Category -> labels.
        sizes (np.ndarray): (T, ), average pixels of an instance.

    Returns:
        dict: ``confusion`` int32 (C, P), [ground truth, prediction], without
        void of the ground truth; ``weighted`` float64 (4, T): pixels of
        instances with the right label, with another, in the right category,
        in another.
    """
    labels, num_labels = labels_of_codes(codes), counts.shape[1]
    num_classes = sum(map(len, groups.values()))
    channels = np.where(labels < num_classes, labels, -1)
    confusion = confusion_matrix(counts, channels)[:num_classes]
    weighted = np.zeros((4, len(sizes)))
    members = np.zeros((num_labels, num_labels), dtype=np.int64)
    for group in groups.values():
        members[np.ix_(group, group)] = 1
    for i in np.flatnonzero((labels < len(sizes)) & ~np.isin(codes, crowd)):
        label, total = labels[i], counts[i].sum()
        right = np.array([counts[i, label], counts[i] @ members[label]])
        weight = sizes[label] / total
        weighted[[RIGHT, CATEGORY_RIGHT], label] += right * weight
        weighted[[WRONG, CATEGORY_WRONG], label] += (total - right) * weight
    return dict(confusion=confusion.astype(np.int32), weighted=weighted)


def cityscapes_scores(confusion: np.ndarray, weighted: np.ndarray,
                      groups: Mapping[str, Sequence[int]]) -> Dict[str, Any]:
    """Scores of rows summed over images.

    Args:
        confusion, weighted (np.ndarray): See :func:`image_counts`.
        groups (Mapping): Category -> labels, K of them.

    Returns:
        dict: ``classes`` (2, C) and ``categories`` (2, K): IoU and iIoU, NaN
        where nothing is judged; ``mIoU``, ``iIoU``, ``mIoU_category``,
        ``iIoU_category``, ``fIoU``. All in percent.
    """
    num_things = weighted.shape[1]
    right, truth = confusion.diagonal(), confusion.sum(axis=1)
    false_positives = confusion.sum(axis=0)[:len(right)] - right
    classes = np.full((2, len(confusion)), np.nan)
    classes[0] = ratio(right, truth + false_positives)
    classes[1, :num_things] = ratio(
        weighted[RIGHT],
        weighted[RIGHT] + weighted[WRONG] + false_positives[:num_things])

    categories = np.full((2, len(groups)), np.nan)
    for column, group in enumerate(groups.values()):
        right = confusion[np.ix_(group, group)].sum()
        found = confusion[:, group].sum()
        categories[0, column] = ratio(right,
                                      found + confusion[group].sum() - right)
        if max(group) < num_things:
            weighted_right = weighted[CATEGORY_RIGHT, group].sum()
            categories[1, column] = ratio(
                weighted_right, weighted_right +
                weighted[CATEGORY_WRONG, group].sum() + found - right)
    classes, categories = 100 * classes, 100 * categories
    return dict(
        classes=classes,
        categories=categories,
        mIoU=mean_of_known(classes[0]),
        iIoU=mean_of_known(classes[1]),
        mIoU_category=mean_of_known(categories[0]),
        iIoU_category=mean_of_known(categories[1]),
        fIoU=frequency_weighted(classes[0], truth))


@METRICS.register_module()
class CityscapesSemanticIoUMetric(SemanticMapMetric, WritingMetric):
    """IoU and iIoU as ``evalPixelLevelSemanticLabeling`` computes them.

    Judges ``pred_sem_seg`` of a semantic head with a channel for each of the
    19 classes (``predict_things=True``), or the labels of the panoptic map of
    a model without a semantic head. With ``outfile_prefix`` it writes
    ``PREFIX.semantic/ID_pred_labelIds.png``, as the benchmark server and the
    script take them. See :class:`WritingMetric` for the arguments.
    """
    predict_things = True
    task = 'semantic'
    score_keys = ('mIoU', 'iIoU', 'mIoU_category', 'iIoU_category', 'fIoU')

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        sizes = evalPixelLevelSemanticLabeling.args.avgClassSize
        self._sizes = np.array(
            [sizes[name] for name in label_space().thing_names])
        self._groups = category_labels(label_space())

    def check_model(self, model: nn.Module) -> None:
        """Refuse other classes than those of Cityscapes, and a semantic head
        without channels for things."""
        if self.space != label_space():
            raise InputError(
                f'{type(self).__name__}: the data set does not have the 19 '
                'classes of Cityscapes, the only ones with categories and '
                'average sizes. Use SemanticIoUMetric.')
        head = getattr(model, 'semantic_head', None)
        self._check_things(
            head is None or getattr(head, 'predict_things', False))

    def _check_things(self, predict_things: Optional[bool]) -> None:
        if predict_things is False:
            raise InputError(
                f'{type(self).__name__}: the semantic head has one channel '
                "'other' for all things, and Cityscapes' pixel task asks for "
                'each class. Set model.semantic_head.predict_things=True, or '
                'use SemanticIoUMetric instead in val_evaluator and '
                'test_evaluator.')

    def predicted(self, sample: Dict) -> np.ndarray:
        self._check_things(sample[self.prediction].get('predict_things'))
        return super().predicted(sample)

    def judge(self, sample: Dict, pred: np.ndarray) -> Dict[str, np.ndarray]:
        """Counts of one image, see :func:`image_counts`."""
        gt, codes, crowd = self.ground_truth(sample, shape=pred.shape)
        void = sample[self.prediction].get('has_void', False)
        found, counts = code_counts(gt, pred, self.space.num_classes + void)
        return image_counts(found, counts, codes[crowd], self._groups,
                            self._sizes)

    def write(self, sample: Dict, pred: np.ndarray) -> List[str]:
        """Write the map of ids of one image."""
        # void is 0, 'unlabeled'
        ids = np.array([*self.space.category_ids, 0], dtype=np.uint8)
        name = f'{file_part(sample["img_id"])}_pred_labelIds.png'
        write_image(self.task_folder / name, ids[pred])
        return [name]

    def score(self, counts: List[Any]) -> Dict[str, float]:
        """Scores of the summed counts."""
        confusion = sum(row['confusion'].astype(np.int64) for row in counts)
        weighted = sum(row['weighted'] for row in counts)
        self.note_derived(*confusion.shape[::-1])
        scores = cityscapes_scores(confusion, weighted, self._groups)
        classes, categories = (
            dict(zip(('IoU', 'iIoU'), scores[kind]))
            for kind in ('classes', 'categories'))
        self.report_classes('Semantic IoU of classes', self.space.names,
                            classes)
        if self.classwise:
            log_classes('Semantic IoU of categories', list(self._groups),
                        categories)
        return {key: scores[key] for key in self.score_keys}
