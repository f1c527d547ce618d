"""The combined table, the evaluator that prints it, scores by class."""
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from mmdet.registry import EVALUATOR as MMDET_EVALUATOR
from mmengine.registry import EVALUATOR, DefaultScope

from mmengine_exact.errors import InputError
from mmengine_exact.record import record_paths
from panoptic_fpn.data import CocoPanopticFPNDataset
from panoptic_fpn.metrics import (PanopticEvaluator, PanopticQualityMetric,
                                  format_table, writing_evaluator)
from panoptic_fpn.training.metrics_json import MetricsJsonHook
from tests.oracles import semantic
from tests.oracles.cityscapes_scenes import random_scenes
from tests.oracles.coco_ap import evaluate_by_pycocotools
from tests.oracles.derive import derive_semantic
from tests.oracles.perturb import (PanopticData, perturbed_data, random_data,
                                   write_coco_panoptic)

from .cityscapes import META, sample_of
from .data import (clone, detections, make_case, make_sample, run_metric,
                   same_samples, space_of)
from .test_instance_ap import instances_json
from .test_panoptic_quality import panopticapi_stat

METRICS = [
    dict(type='PanopticQualityMetric'),
    dict(type='PanopticInstanceAPMetric'),
    dict(type='SemanticIoUMetric')
]
CITYSCAPES_METRICS = [
    dict(type='PanopticQualityMetric', png_name='{img_id}_panoptic.png'),
    dict(type='CityscapesInstanceAPMetric'),
    dict(type='CityscapesSemanticIoUMetric')
]


def evaluate(metrics, samples, metainfo):
    """The evaluator after an evaluation, and its flat scores."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        evaluator = PanopticEvaluator(metrics)
    evaluator.dataset_meta = metainfo
    for sample in samples:
        evaluator.process([sample])
    return evaluator, evaluator.evaluate(len(samples))


def rows_of(table):
    """Cells of each line."""
    return [[cell.strip() for cell in line.strip('|').split('|')]
            for line in table.split('\n') if line.startswith('|')]


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
        }, ['a note'])
    assert rows_of(table) == [
        ['panoptic', 'PQ', 'SQ', 'RQ', 'instances', 'AP', 'AP50', 'AP75',
         'semantic', 'IoU'],
        ['all', '39.41', 'n/a', 'n/a', 'box', '37.50', 'n/a', 'n/a', 'mIoU',
         '41.00'],
        ['things', 'n/a', 'n/a', 'n/a', 'mask', 'n/a', 'n/a', '35.00', 'fIoU',
         'n/a'],
        ['stuff', 'n/a', 'n/a', 'n/a', '', '', '', '', 'mIoU stuff', 'n/a']
    ]  # yapf: disable
    assert table.endswith('\na note')


def test_each_protocol_has_its_columns():
    cityscapes = {
        'coco_panoptic/PQ': 57.7,
        'cityscapes/mAP': .32,
        'cityscapes/AP@50': .587,
        'mIoU': 75,
        'iIoU': 56.1,
        'mIoU_category': 89,
        'iIoU_category': math.nan,
        'fIoU': 91
    }
    assert rows_of(format_table(cityscapes)) == [
        ['panoptic', 'PQ', 'SQ', 'RQ', 'instances', 'AP', 'AP50', 'semantic',
         'IoU', 'iIoU'],
        ['all', '57.70', 'n/a', 'n/a', 'mask', '32.00', '58.70', 'classes',
         '75.00', '56.10'],
        ['things', 'n/a', 'n/a', 'n/a', '', '', '', 'categories', '89.00',
         'n/a'],
        ['stuff', 'n/a', 'n/a', 'n/a', '', '', '', 'fIoU', '91.00', '']
    ]  # yapf: disable
    both = rows_of(format_table({**cityscapes, 'coco/bbox_mAP': .4}))
    assert both[0][4:11] == [
        'instances', 'AP', 'AP50', 'AP75', 'instances', 'AP', 'AP50'
    ]
    assert both[1][4:11] == [
        'box', '40.00', 'n/a', 'n/a', 'mask', '32.00', '58.70'
    ]


def test_a_table_has_the_blocks_of_what_was_evaluated():
    table = format_table(dict(mIoU=50., iIoU=40., fIoU=60.))
    assert 'panoptic' not in table and 'instances' not in table
    assert 'categories' in table
    table = format_table({'mIoU': float('nan'), 'coco/segm_mAP': 0.3})
    assert 'mask' in table and 'panoptic' not in table
    assert len(rows_of(format_table({}))[0]) == 10


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


def test_scores_of_each_class_of_coco():
    data, _, samples = make_case(2)
    space = space_of(data)
    evaluator, scores = evaluate(METRICS, samples, space.metainfo())
    by_class = evaluator.by_class
    assert list(by_class) == [*space.names, 'other']
    for key in ('PQ', 'SQ', 'RQ'):
        values = [by_class[n][key] for n in space.names]
        values = [v for v in values if not math.isnan(v)]
        assert scores[f'coco_panoptic/{key}'] == pytest.approx(
            sum(values) / len(values))
    ious = [by_class[n]['IoU'] for n in (*space.stuff_names, 'other')]
    ious = [v for v in ious if not math.isnan(v)]
    assert scores['mIoU'] == pytest.approx(sum(ious) / len(ious))
    assert 'IoU' not in by_class[space.thing_names[0]]


def test_scores_of_each_class_are_not_those_of_an_earlier_evaluation():
    data, _, samples = make_case(3)
    evaluator, _ = evaluate(METRICS, samples, space_of(data).metainfo())
    assert evaluator.by_class
    evaluator.process([{**s, 'pred_panoptic_seg': None} for s in samples])
    evaluator.evaluate(len(samples))
    assert not any('PQ' in row for row in evaluator.by_class.values())


def test_metrics_json_holds_the_scores_of_each_class(tmp_path, log):
    samples = [sample_of(scene) for scene in random_scenes(4)]
    evaluator, scores = evaluate(CITYSCAPES_METRICS, samples, META)
    runner = SimpleNamespace(
        work_dir=str(tmp_path), val_loop=SimpleNamespace(evaluator=evaluator))
    MetricsJsonHook().after_val_epoch(runner, scores)
    content = json.loads((tmp_path / 'metrics.json').read_text())
    assert {k: v for k, v in content.items() if k != 'classwise'} == scores
    by_class = content['classwise']
    assert list(by_class) == list(META['classes'])
    assert set(
        by_class['car']) == {'PQ', 'SQ', 'RQ', 'AP', 'AP50', 'IoU', 'iIoU'}
    assert set(by_class['road']) == {'PQ', 'SQ', 'RQ', 'IoU', 'iIoU'}
    assert by_class['road']['iIoU'] is None
    assert by_class['car']['IoU'] == evaluator.by_class['car']['IoU']
    assert 'traffic' not in log.getvalue()  # no flood


def test_an_export_that_was_killed_is_marked(tmp_path):
    scenes = random_scenes(3, 2)
    metrics = [
        dict(metric, outfile_prefix=str(tmp_path / 'r'))
        for metric in CITYSCAPES_METRICS
    ]
    evaluator = PanopticEvaluator(metrics)
    evaluator.dataset_meta = META
    evaluator.process([sample_of(scenes[0])])
    marked = {p.parent.name for p in tmp_path.glob('*/.incomplete')}
    assert marked == {'r.panoptic', 'r.instances', 'r.semantic'}
    evaluator.process([sample_of(scenes[1])])
    evaluator.evaluate(2)
    assert not list(tmp_path.glob('*/.incomplete'))


def test_results_of_another_run_are_refused_before_this_one(tmp_path):
    prefix = str(tmp_path / 'val')
    (tmp_path / 'val.log').touch()
    writing_evaluator(CITYSCAPES_METRICS, prefix)
    (tmp_path / 'val.instances').mkdir()
    with pytest.raises(InputError, match=r'val\.instances: results of'):
        writing_evaluator(CITYSCAPES_METRICS, prefix)
    with pytest.raises(InputError, match='hidden'):
        writing_evaluator(CITYSCAPES_METRICS, f'{tmp_path}/')


def test_format_only_keeps_the_metrics_that_write():
    config = dict(
        type='PanopticEvaluator',
        metrics=[*CITYSCAPES_METRICS, *METRICS[1:],
                 dict(type='Unknown')])
    kept = [
        dict(metric, format_only=True, outfile_prefix='p/r')
        for metric in CITYSCAPES_METRICS
    ]
    assert writing_evaluator(config, 'p/r') == dict(
        type='PanopticEvaluator', metrics=kept)
    assert writing_evaluator(CITYSCAPES_METRICS, 'p/r')['metrics'] == kept
    assert writing_evaluator(CITYSCAPES_METRICS[1],
                             'p/r')['metrics'] == kept[1:2]
    by_class = dict(type=PanopticQualityMetric, classwise=True)
    assert writing_evaluator([by_class], 'r')['metrics'] == [
        dict(by_class, format_only=True, outfile_prefix='r')
    ]
    default = [
        dict(
            type='PanopticQualityMetric', format_only=True, outfile_prefix='r')
    ]
    for nothing in (METRICS[1:], None, [], dict(metrics=[])):
        assert writing_evaluator(nothing, 'r')['metrics'] == default
    assert 'format_only' not in CITYSCAPES_METRICS[0]


def test_metrics_that_write_nothing_have_no_record():
    assert record_paths(PanopticEvaluator(METRICS)) == []


def without(data, ids):
    """The data set with these categories alone; the rest is void."""
    images = []
    for image in data.images:
        segments = [s for s in image.segments if s['category_id'] in ids]
        known = np.isin(image.id_map, [s['id'] for s in segments])
        images.append(
            replace(
                image,
                id_map=np.where(known, image.id_map, 0),
                segments=segments))
    return PanopticData([c for c in data.categories if c['id'] in ids], images)


@pytest.mark.parametrize('seed', range(2))
def test_a_subset_of_classes_scores_as_the_official_scripts_do(tmp_path, seed):
    """Which read files that the other classes were removed from; on their
    pixels something is predicted, too."""
    data = random_data(seed, num_things=4, num_stuff=5)
    kept = data.categories[1:4] + data.categories[-3:]  # stuff comes first
    small = without(data, [c['id'] for c in kept])
    assert (space_of(small).num_stuff, space_of(small).num_things) == (3, 3)
    preds = perturbed_data(seed + 1, data)
    for image in preds.images:
        for i, segment in enumerate(image.segments):
            if segment['category_id'] not in [c['id'] for c in kept]:
                segment['category_id'] = kept[i % len(kept)]['id']
    rng = np.random.default_rng(seed)
    samples = [
        make_sample(gt, pred, small.categories, rng)
        for gt, pred in zip(small.images, preds.images)
    ]
    official, meta = judged_officially(small, samples, tmp_path)

    write_coco_panoptic(data, tmp_path, with_images=True, name='whole')
    dataset = CocoPanopticFPNDataset(
        ann_file=str(tmp_path / 'whole.json'),
        data_prefix=dict(
            img=str(tmp_path / 'images'), seg=str(tmp_path / 'whole')),
        metainfo=dict(classes=meta['classes']),
        test_mode=True,
        pipeline=[
            dict(type='LoadPanopticImage'),
            dict(type='LoadPanopticMap'),
            dict(type='DerivePanopticTargets', panoptic=True),
            dict(type='PackPanopticInputs')
        ])
    predicted = [
        dict(item['data_samples'].to_dict(), **{
            k: v
            for k, v in sample.items() if k.startswith('pred_')
        }) for item, sample in zip(dataset, samples)
    ]
    _, found = evaluate(METRICS, predicted, dataset.metainfo)
    for key, value in official.items():
        assert found[key] == pytest.approx(value, abs=1e-9), key


def judged_officially(data, samples, folder):
    """Scores of panopticapi, pycocotools and the confusion matrix from files
    of the ground truth; and the metainfo."""
    space, counts = space_of(data), 0
    truth = write_coco_panoptic(data, folder)
    run_metric(
        PanopticQualityMetric(outfile_prefix=str(folder / 'found')), samples,
        space.metainfo())
    stat, categories = panopticapi_stat(truth, folder / 'found.panoptic.json',
                                        folder / 'found.panoptic')
    scores = {
        f'coco_panoptic/{key}{group}':
        100 * stat.pq_average(categories, isthing)[0][key.lower()]
        for group, isthing in (('', None), ('_th', True), ('_st', False))
        for key in ('PQ', 'SQ', 'RQ')
    }
    content = instances_json(data, folder / 'instances.json')
    id_of = {c['name']: c['id'] for c in content['categories']}
    ids = [id_of[name] for name in space.thing_names]
    for kind in ('bbox', 'segm'):
        stats = evaluate_by_pycocotools(content,
                                        detections(samples, ids,
                                                   kind), kind).stats
        scores[f'coco/{kind}_mAP'] = round(stats[0], 3)
    for image, sample in zip(data.images, samples):
        labels = derive_semantic(image.id_map, image.segments, data.categories)
        counts += semantic.confusion_matrix(
            semantic.gt_channels(labels, space.num_things, space.num_stuff),
            sample['pred_sem_seg']['sem_seg'][0].numpy(), space.num_stuff + 1)
    ious = semantic.semantic_scores(counts, range(space.num_stuff))
    scores.update((key, 100 * value) for key, value in ious.items())
    return scores, space.metainfo()
