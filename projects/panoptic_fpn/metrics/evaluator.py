"""The evaluator that logs one table of all metrics.

Scores are the flat dict of an evaluation: PQ and IoU in percent, AP as the
fraction that CocoMetric gives; the table shows percent only. It has a block
of columns for each task and protocol.
"""
import os.path as osp
from itertools import chain, zip_longest
from typing import Any, Dict, Mapping, Sequence

from mmdet.registry import EVALUATOR, METRICS
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from tabulate import tabulate

from mmengine_exact.errors import InputError

from ..coco_format.results import ImageId
from .base import ByClass, score_text


def _panoptic(head: str, columns: Sequence[str],
              **rows: str) -> Sequence[Sequence[str]]:
    """Block of PQ, SQ and RQ, or some of them; ``rows``: ends of the keys."""
    return [[head, *columns],
            *([row, *(f'coco_panoptic/{column}{end}' for column in columns)]
              for row, end in rows.items())]


# Blocks of columns: the head, then rows of a name and keys of scores.
# yapf: disable
_SCORES = ('PQ', 'SQ', 'RQ')
_PANOPTIC = _panoptic('panoptic', _SCORES, all='', things='_th', stuff='_st')
_EXTRA = (
    _panoptic('boundary', _SCORES, all='_boundary', things='_boundary_th',
              stuff='_boundary_st'),
    _panoptic('dagger', ['PQ'], all='_dagger', things='_dagger_th',
              stuff='_dagger_st'),
    _panoptic('things by size', ['PQ'], small='_small', medium='_medium',
              large='_large'),
    _panoptic('95 % interval', ['PQ'], low='_low', high='_high'))
_COCO_AP = (
    ('instances', 'AP', 'AP50', 'AP75'),
    ('box', 'coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/bbox_mAP_75'),
    ('mask', 'coco/segm_mAP', 'coco/segm_mAP_50', 'coco/segm_mAP_75'))
_CITYSCAPES_AP = (
    ('instances', 'AP', 'AP50'),
    ('mask', 'cityscapes/mAP', 'cityscapes/AP@50'))
_COCO_IOU = (
    ('semantic', 'IoU'),
    ('mIoU', 'mIoU'),
    ('fIoU', 'fIoU'),
    ('mIoU stuff', 'mIoU_stuff'))
_CITYSCAPES_IOU = (
    ('semantic', 'IoU', 'iIoU'),
    ('classes', 'mIoU', 'iIoU'),
    ('categories', 'mIoU_category', 'iIoU_category'),
    ('fIoU', 'fIoU', ''))
# yapf: enable


def choose_blocks(metrics: Mapping) -> Sequence[Sequence[Sequence[str]]]:
    """Blocks of the tasks and protocols that were evaluated; COCO's without
    any score."""
    iou = _CITYSCAPES_IOU if 'iIoU' in metrics else _COCO_IOU
    found = [
        block for block in (_PANOPTIC, *_EXTRA, _COCO_AP, _CITYSCAPES_AP, iou)
        if any(key in metrics for _, *keys in block[1:] for key in keys)
    ]
    return found or [_PANOPTIC, _COCO_AP, _COCO_IOU]


def percent_text(metrics: Mapping, key: str) -> str:
    """A score in percent; empty without a key."""
    if not key:
        return ''
    value = metrics.get(key)
    if value is not None and key.startswith(('coco/', 'cityscapes/')):
        value = 100 * value
    return score_text(value)


def format_table(metrics: Mapping, notes: Sequence[str] = ()) -> str:
    """PQ, AP and IoU as one text table, in percent.

    Args:
        metrics (Mapping[str, float]): Flat scores; missing ones, None and NaN
            show as 'n/a'.
        notes (Sequence[str]): Lines below the table.
    """
    blocks = choose_blocks(metrics)
    heads = [block[0] for block in blocks]
    lines = [[
        text for head, row in zip(heads, rows)
        for name, *keys in [row or [''] * len(head)]
        for text in (name, *(percent_text(metrics, key) for key in keys))
    ] for rows in zip_longest(*(block[1:] for block in blocks))]
    table = tabulate(
        lines,
        headers=list(chain(*heads)),
        tablefmt='pretty',
        colalign=[
            'right' if i else 'left' for head in heads
            for i in range(len(head))
        ])
    return '\n'.join([table, *notes])


@EVALUATOR.register_module()
class PanopticEvaluator(Evaluator):
    """Evaluator that logs PQ, AP and mIoU as one table.

    A metric may have an attribute ``note``; it stands below the table.

    Args:
        metrics (dict | BaseMetric | Sequence): As in MMEngine's evaluator.
    """

    #: Scores of each class in the last evaluation, on the first process.
    by_class: ByClass = {}
    #: ``PanopticQualityMetric.by_image`` of that evaluation, where asked for.
    by_image: Dict[ImageId, Dict] = {}

    def evaluate(self, size: int) -> Dict[str, float]:
        """Scores of all metrics.

        Args:
            size (int): Number of images of the data set.

        Returns:
            dict: Flat scores, NaN where there is nothing to judge.
        """
        for metric in self.metrics:
            # Not those of an earlier evaluation, if this one has none.
            metric.by_class = metric.by_image = {}
        metrics = super().evaluate(size)
        self.by_class, self.by_image = {}, {}
        for metric in self.metrics:
            self.by_image.update(metric.by_image)
            for name, scores in metric.by_class.items():
                self.by_class.setdefault(name, {}).update(scores)
        if metrics:
            notes = [getattr(metric, 'note', None) for metric in self.metrics]
            table = format_table(metrics, [n for n in notes if n])
            print_log(f'Evaluation in percent\n{table}', logger='current')
        return metrics


def writing_evaluator(evaluator: Any, prefix: str) -> Dict:
    """Evaluator config that writes results and computes nothing.

    Args:
        evaluator (dict | list): ``test_evaluator`` of a config: an evaluator
            with ``metrics``, or metrics.
        prefix (str): ``outfile_prefix`` of every metric.

    Returns:
        dict: Those of its metrics that can write results; where there are
        none, ``PanopticQualityMetric``.

    Raises:
        InputError: There are results with this prefix already, which
            would mix with the new ones, or it names no files.
    """
    if not osp.basename(prefix):
        raise InputError(
            f'outfile_prefix={prefix!r} names a folder; the files would be '
            f'hidden ones. Add the first part of their names, {prefix}val.')
    paths = [f'{prefix}.{suffix}' for suffix in _RESULTS]
    there = [path for path in paths if osp.exists(path)]
    if there:
        raise InputError(
            f'{", ".join(there)}: results of another run. Remove them, or '
            'choose another prefix.')
    metrics = evaluator
    if isinstance(evaluator, Mapping) and 'metrics' in evaluator:
        metrics = evaluator['metrics']
    if isinstance(metrics, Mapping):
        metrics = [metrics]
    kept = [metric for metric in metrics or () if _can_write(metric['type'])]
    return dict(
        type='PanopticEvaluator',
        metrics=[
            dict(metric, format_only=True, outfile_prefix=prefix)
            for metric in kept or [dict(type='PanopticQualityMetric')]
        ])


#: What metrics write, after ``PREFIX.``
_RESULTS = ('panoptic.json', 'panoptic', 'instances', 'semantic')


def _can_write(metric: Any) -> bool:
    """Whether a class, or the one of a registered name, writes results."""
    found = METRICS.get(metric) if isinstance(metric, str) else metric
    return getattr(found, 'writes_results', False)
