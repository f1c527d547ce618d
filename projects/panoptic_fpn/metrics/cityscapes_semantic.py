"""IoU and iIoU of Cityscapes' pixel task, of classes and of categories.

In    ground truth, map (h, w) of ``label + 1000 * number``, void = T + S;
      prediction, map (h, w) of labels 0..C-1: C = 19 channels of the head
Row   of an image: pixels by label of ground truth and prediction (C, C), and
      the weighted pixels of instances (4, T)
Out   mIoU, iIoU, mIoU_category, iIoU_category, fIoU in percent

The numbers are those of ``evalPixelLevelSemanticLabeling`` (which has no
fIoU; see ``semantic_iou``):

- a class that is predicted but never in the ground truth has the IoU 0, one
  that is neither is left out of the means;
- for iIoU, the pixels of an instance weigh as much as if it had the average
  size of its class; groups have no weight, false positives have weight 1;
- a category's iIoU takes any class of the category for right.
"""
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import numpy as np
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling
from cityscapesscripts.helpers.labels import category2labels, id2label
from mmdet.registry import METRICS
from torch import nn

from mmengine_exact.errors import InputError

from ..cityscapes import label_space
from ..coco_format.results import file_part, write_image
from ..labels import LabelSpace
from .base import (NO_TRUTH, ImageId, Row, WritingMetric, check_same_shape,
                   labels_of_codes, log_classes, mean_of_known,
                   scores_by_class, to_plane)
from .semantic_iou import code_counts, sum_rows

#: Rows of the weighted pixels of instances.
RIGHT, WRONG, CATEGORY_RIGHT, CATEGORY_WRONG = range(4)


def average_sizes(space: LabelSpace) -> np.ndarray:
    """Average pixels of an instance, by thing: the official script's table.

    Returns:
        np.ndarray: float64 (T, ).
    """
    table = evalPixelLevelSemanticLabeling.args.avgClassSize
    return np.array([table[name] for name in space.thing_names])


def category_labels(space: LabelSpace) -> Dict[str, List[int]]:
    """Labels of each category that has any, in the order of the table."""
    groups: Dict[str, List[int]] = {}
    for label, id_ in enumerate(space.category_ids):
        groups.setdefault(id2label[id_].category, []).append(label)
    return {name: groups[name] for name in category2labels if name in groups}


def image_counts(codes: np.ndarray, counts: np.ndarray,
                 crowd: Union[np.ndarray,
                              Sequence[int]], groups: Mapping[str,
                                                              Sequence[int]],
                 sizes: np.ndarray) -> Dict[str, np.ndarray]:
    """Row of one image.

    Args:
        codes (np.ndarray): (G, ) codes of the ground truth.
        counts (np.ndarray): int64 (G, C), pixels by predicted label.
        crowd (np.ndarray | Sequence[int]): Codes of groups.
        groups (Mapping): Category -> labels.
        sizes (np.ndarray): (T, ), see :func:`average_sizes`.

    Returns:
        dict: ``confusion`` int32 (C, C), [ground truth, prediction], without
        void; ``weighted`` float64 (4, T): pixels of instances with the right
        label, with another, in the right category, in another.
    """
    labels, num_classes = labels_of_codes(codes), counts.shape[1]
    confusion = sum_rows(counts, np.where(labels < num_classes, labels, -1),
                         num_classes)
    weighted = np.zeros((4, len(sizes)))
    members = np.zeros((num_classes, num_classes), dtype=np.int64)
    for group in groups.values():
        members[np.ix_(group, group)] = 1
    for i in np.flatnonzero((labels < len(sizes)) & ~np.isin(codes, crowd)):
        label, total = labels[i], counts[i].sum()
        right = np.array([counts[i, label], counts[i] @ members[label]])
        weight = sizes[label] / total
        weighted[[RIGHT, CATEGORY_RIGHT], label] += right * weight
        weighted[[WRONG, CATEGORY_WRONG], label] += (total - right) * weight
    return dict(confusion=confusion.astype(np.int32), weighted=weighted)


def ratio(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """``right / (right + wrong)``; NaN where both are 0."""
    total = np.asarray(right + wrong, dtype=np.float64)
    return np.divide(
        right, total, out=np.full(total.shape, np.nan), where=total > 0)


def cityscapes_scores(confusion: np.ndarray, weighted: np.ndarray,
                      groups: Mapping[str, Sequence[int]]) -> Dict[str, Any]:
    """Scores of rows summed over images.

    Args:
        confusion (np.ndarray): (C, C), see :func:`image_counts`.
        weighted (np.ndarray): (4, T).
        groups (Mapping): Category -> labels, K of them.

    Returns:
        dict: ``classes`` (2, C) and ``categories`` (2, K): IoU and iIoU, NaN
        where nothing is judged; ``mIoU``, ``iIoU``, ``mIoU_category``,
        ``iIoU_category``, ``fIoU``. All in percent.
    """
    num_things = weighted.shape[1]
    right, truth = confusion.diagonal(), confusion.sum(axis=1)
    false_positives = confusion.sum(axis=0) - right
    classes = np.full((2, len(confusion)), np.nan)
    classes[0] = ratio(right, truth - right + false_positives)
    classes[1, :num_things] = ratio(
        weighted[RIGHT], weighted[WRONG] + false_positives[:num_things])

    categories = np.full((2, len(groups)), np.nan)
    for column, group in enumerate(groups.values()):
        right = confusion[np.ix_(group, group)].sum()
        false_positives = confusion[:, group].sum() - right
        false_negatives = confusion[group].sum() - right
        categories[0, column] = ratio(right, false_negatives + false_positives)
        if max(group) < num_things:
            categories[1, column] = ratio(
                weighted[CATEGORY_RIGHT, group].sum(),
                weighted[CATEGORY_WRONG, group].sum() + false_positives)
    share = truth / max(truth.sum(), 1)
    present = truth > 0
    fiou = (share * classes[0])[present].sum() if present.any() else np.nan
    classes, categories = 100 * classes, 100 * categories
    return dict(
        classes=classes,
        categories=categories,
        mIoU=mean_of_known(classes[0]),
        iIoU=mean_of_known(classes[1]),
        mIoU_category=mean_of_known(categories[0]),
        iIoU_category=mean_of_known(categories[1]),
        fIoU=100 * float(fiou))


def semantic_file(image_id: ImageId) -> str:
    """Name of an image's map, as the server and the script take it."""
    return f'{image_id}_pred_labelIds.png'


@METRICS.register_module()
class CityscapesSemanticIoUMetric(WritingMetric):
    """IoU and iIoU as ``evalPixelLevelSemanticLabeling`` computes them.

    Judges ``pred_sem_seg`` of a semantic head with a channel for each of the
    19 classes (``predict_things=True``). Files are written only where
    ``outfile_prefix`` asks for them, and none is read.

    Args:
        classwise (bool): Whether to print a line for each class and
            category.
        format_only (bool): Whether to write the server's format and compute
            nothing, as for images without annotation.
        outfile_prefix (str, optional): Write ``PREFIX.semantic/``. Several
            machines must share the folder.
        prefix (str, optional): First part of the keys. Defaults to none.
    """
    default_prefix = ''
    prediction = 'pred_sem_seg'
    task = 'semantic'
    score_keys = ('mIoU', 'iIoU', 'mIoU_category', 'iIoU_category', 'fIoU')

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        space = label_space()
        self._sizes = average_sizes(space)
        self._groups = category_labels(space)

    def check_model(self, model: nn.Module) -> None:
        """Check what is known before the first iteration.

        Raises:
            InputError: The classes are not Cityscapes', or the semantic
                head has no channels for things.
        """
        if self.space != label_space():
            raise InputError(
                f'{type(self).__name__}: the data set has not the 19 classes '
                'of Cityscapes, for which alone there are categories and '
                'average sizes. Use SemanticIoUMetric.')
        head = getattr(model, 'semantic_head', None)
        self._check_things(head is None or head.predict_things)

    def _check_things(self, predict_things: Optional[bool]) -> None:
        if predict_things is False:
            raise InputError(
                f'{type(self).__name__}: the semantic head has one channel '
                "'other' for all things, and Cityscapes' pixel task asks for "
                'each class. Set model.semantic_head.predict_things=True, or '
                'take SemanticIoUMetric in its place in val_evaluator and '
                'test_evaluator.')

    def image_row(self, sample: Dict) -> Dict[str, np.ndarray]:
        """Counts of one image; nothing where only results are written.

        Raises:
            InputError: The semantic head has no channels for things, sizes
                differ, or there is nothing to compare with.
            CodeError: A value is no label.
        """
        field = sample[self.prediction]
        self._check_things(field.get('predict_things'))
        pred = to_plane(field['sem_seg'])
        row: Dict[str, np.ndarray] = {}
        if not self.format_only:
            gt, codes, crowd = self.ground_truth(sample, NO_TRUTH)
            check_same_shape(sample, self.prediction, pred.shape, gt.shape)
            found, counts = code_counts(gt, pred, self.space.num_classes)
            row = image_counts(found, counts, codes[crowd], self._groups,
                               self._sizes)
        if self.outfile_prefix is not None:
            ids = np.array(self.space.category_ids, dtype=np.uint8)
            name = semantic_file(file_part(sample['img_id']))
            write_image(self.task_folder / name, ids[pred])
        return row

    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """Scores of the summed counts."""
        if self.outfile_prefix is not None:
            self.finish_folder(
                [semantic_file(image_id) for image_id, _ in rows])
        if self.format_only:
            return {}
        confusion = sum(row['confusion'].astype(np.int64) for _, row in rows)
        weighted = sum(row['weighted'] for _, row in rows)
        scores = cityscapes_scores(confusion, weighted, self._groups)
        names = dict(classes=self.space.names, categories=list(self._groups))
        columns = {
            kind: dict(zip(('IoU', 'iIoU'), scores[kind]))
            for kind in names
        }
        self.by_class = scores_by_class(names['classes'], columns['classes'])
        for kind in names if self.classwise else ():
            log_classes(f'Semantic IoU of {kind}', names[kind], columns[kind])
        return {key: scores[key] for key in self.score_keys}
