"""The combined table and the evaluator that prints it."""
import math

from mmdet.registry import EVALUATOR as MMDET_EVALUATOR
from mmengine.registry import EVALUATOR, DefaultScope

from projects.panoptic_fpn.metrics import PanopticEvaluator, format_table
from tests.metrics.data import clone, make_case, same_samples, space_of

METRICS = [
    dict(type='PanopticQualityMetric'),
    dict(type='PanopticInstanceAPMetric'),
    dict(type='SemanticIoUMetric')
]


def cells(line):
    return [cell.strip() for cell in line.strip('|').split('|')]


def test_table_shows_percent_and_na():
    table = format_table(
        {
            'coco_panoptic/PQ': 39.414,
            'coco_panoptic/PQ_th': float('nan'),
            'coco/bbox_mAP': 0.375,
            'coco/segm_mAP_75': 0.35,
            'mIoU': 41,
            'fIoU': None,
            'lr': 3.
        }, ['a note']).split('\n')
    assert cells(table[1]) == [
        'panoptic', 'PQ', 'SQ', 'RQ', 'instances', 'AP', 'AP50', 'AP75',
        'semantic', 'IoU'
    ]
    assert cells(table[3]) == [
        'all', '39.41', 'n/a', 'n/a', 'box', '37.50', 'n/a', 'n/a', 'mIoU',
        '41.00'
    ]
    assert cells(table[4]) == [
        'things', 'n/a', 'n/a', 'n/a', 'mask', 'n/a', 'n/a', '35.00', 'fIoU',
        'n/a'
    ]
    assert cells(table[5]) == [
        'stuff', 'n/a', 'n/a', 'n/a', '', '', '', '', 'mIoU stuff', 'n/a'
    ]
    assert table[7:] == ['a note']
    assert len({len(line) for line in table[:7]}) == 1


def test_built_as_the_runner_builds_it_and_prints_one_table(log):
    data, _, samples = make_case(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        evaluator = EVALUATOR.build(
            dict(type='PanopticEvaluator', metrics=METRICS))
    assert isinstance(evaluator, PanopticEvaluator)
    assert 'PanopticEvaluator' in MMDET_EVALUATOR.module_dict
    evaluator.dataset_meta = space_of(data).metainfo()
    before = clone(samples)
    for sample in samples:
        evaluator.process([sample])
    scores = evaluator.evaluate(len(samples))
    assert same_samples(before, samples)
    assert {'coco_panoptic/PQ', 'coco/segm_mAP', 'mIoU', 'fIoU'} <= set(scores)
    assert not any(math.isnan(scores[k]) for k in ('mIoU', 'coco/bbox_mAP'))
    text = log.getvalue()
    assert text.count('| panoptic |') == 1
    assert format_table(
        scores,
        ['AP (ground truth derived from the panoptic annotation)']) in text


def test_stuff_only_model_is_evaluated_with_na(log):
    data, _, samples = make_case(1)
    with DefaultScope.overwrite_default_scope('mmdet'):
        evaluator = PanopticEvaluator(METRICS)
    evaluator.dataset_meta = space_of(data).metainfo()
    for sample in samples:
        del sample['pred_instances']
    evaluator.process(samples)
    scores = evaluator.evaluate(len(samples))
    assert math.isnan(scores['coco/bbox_mAP'])
    assert not math.isnan(scores['mIoU'])
    assert 'n/a' in log.getvalue()
