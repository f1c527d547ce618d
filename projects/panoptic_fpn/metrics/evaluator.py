"""The evaluator that prints one table of all metrics.

Scores are the flat dict of an evaluation: PQ and IoU in percent, AP as the
fraction that CocoMetric gives; the table shows percent only.
"""
from typing import Dict, List, Mapping, Sequence

from mmdet.registry import EVALUATOR
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log

from .per_image import number

_HEAD = ('panoptic', 'PQ', 'SQ', 'RQ', 'instances', 'AP', 'AP50', 'AP75',
         'semantic', 'IoU')
#: Three blocks side by side; a name, then the keys of its scores.
_ROWS = (
    ('all', 'coco_panoptic/PQ', 'coco_panoptic/SQ', 'coco_panoptic/RQ',
     'box', 'coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/bbox_mAP_75',
     'mIoU', 'mIoU'),
    ('things', 'coco_panoptic/PQ_th', 'coco_panoptic/SQ_th',
     'coco_panoptic/RQ_th', 'mask', 'coco/segm_mAP', 'coco/segm_mAP_50',
     'coco/segm_mAP_75', 'fIoU', 'fIoU'),
    ('stuff', 'coco_panoptic/PQ_st', 'coco_panoptic/SQ_st',
     'coco_panoptic/RQ_st', '', None, None, None, 'mIoU stuff', 'mIoU_stuff'),
)  # yapf: disable


def is_name(column: int) -> bool:
    """Whether a column of the table holds names, not numbers."""
    return column % 4 == 0


def format_table(metrics: Mapping, notes: Sequence[str] = ()) -> str:
    """PQ, AP and IoU as one text table, in percent.

    Args:
        metrics (Mapping[str, float]): Flat scores; missing ones, None and NaN
            show as 'n/a'.
        notes (Sequence[str]): Lines below the table.
    """

    def cell(column, entry):
        if is_name(column) or entry is None:
            return entry or ''
        value = metrics.get(entry)
        if value is not None and entry.startswith('coco/'):
            value = 100 * value
        return number(value)

    rows = [_HEAD]
    rows += [[cell(i, entry) for i, entry in enumerate(row)] for row in _ROWS]
    return '\n'.join([*align(rows), *notes])


def align(rows: Sequence[Sequence[str]]) -> List[str]:
    """Lines of a grid, the first row its head; names left, numbers right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    rule = '+'.join('-' * (width + 2) for width in widths).join('++')
    lines = []
    for row in rows:
        cells = [
            f' {text:<{width}} ' if is_name(i) else f' {text:>{width}} '
            for i, (text, width) in enumerate(zip(row, widths))
        ]
        lines.append('|'.join(cells).join('||'))
    return [rule, lines[0], rule, *lines[1:], rule]


@EVALUATOR.register_module()
class PanopticEvaluator(Evaluator):
    """Evaluator that prints PQ, AP and mIoU as one table.

    A metric may have an attribute ``note``; the table shows it below.

    Args:
        metrics (dict | BaseMetric | Sequence): As in MMEngine's evaluator.
    """

    def evaluate(self, size: int) -> Dict[str, float]:
        """Scores of all metrics.

        Args:
            size (int): Number of images of the data set.

        Returns:
            dict: Flat scores, NaN where there is nothing to judge.
        """
        metrics = super().evaluate(size)
        if metrics:
            notes = [getattr(metric, 'note', None) for metric in self.metrics]
            table = format_table(metrics, [n for n in notes if n])
            print_log(f'Evaluation in percent\n{table}', logger='current')
        return metrics
