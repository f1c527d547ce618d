"""The three official scripts on the exported files against our numbers."""
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from panoptic_fpn.metrics import (CityscapesInstanceAPMetric,
                                  CityscapesSemanticIoUMetric,
                                  PanopticEvaluator, PanopticQualityMetric)
from tests.conftest import REPO_ROOT
from tests.oracles.cityscapes_official import (instance_scores,
                                               panoptic_scores, pixel_scores,
                                               write_panoptic_truth)
from tests.oracles.cityscapes_scenes import (Scene, random_scenes,
                                             write_ground_truth)

from .cityscapes import LABELS, META, sample_of

TOLERANCE = 1e-9
NAMES = META['classes']


def same(ours, theirs):
    if math.isnan(theirs):
        return math.isnan(ours)
    return abs(ours - theirs) <= TOLERANCE


def evaluate(scenes, prefix):
    """Flat scores, scores by class; writes the results."""
    kwargs = dict(outfile_prefix=str(prefix))
    evaluator = PanopticEvaluator([
        PanopticQualityMetric(png_name='{img_id}_panoptic.png', **kwargs),
        CityscapesInstanceAPMetric(**kwargs),
        CityscapesSemanticIoUMetric(**kwargs)
    ])
    evaluator.dataset_meta = META
    for scene in scenes:
        evaluator.process([sample_of(scene)])
    return evaluator.evaluate(len(scenes)), evaluator.by_class


def check_instances(scenes, tmp_path, flat, by_class):
    truth = write_ground_truth(scenes, tmp_path)
    known = []
    official = instance_scores(truth, tmp_path / 'r.instances')
    for name, column in official.items():
        # where the script stops, all predictions are forgiven
        column = [0. if value is None else value for value in column]
        assert same(by_class[name]['AP'], np.mean(column)), name
        assert same(by_class[name]['AP50'], column[0]), name
        known += [] if math.isnan(column[0]) else [column]
    assert same(flat['cityscapes/mAP'], np.mean(known))
    assert same(flat['cityscapes/AP@50'], np.mean([c[0] for c in known]))
    return official


def check_pixels(scenes, tmp_path, flat, by_class):
    truth = write_ground_truth(scenes, tmp_path)
    expected = pixel_scores(truth, tmp_path / 'r.semantic')
    for name in NAMES:
        ious, iious = expected['classScores'], expected['classInstScores']
        assert same(by_class[name]['IoU'], 100 * ious[name])
        assert same(by_class[name]['iIoU'], 100 * iious[name])
    for key, theirs in dict(
            mIoU='Classes',
            iIoU='InstClasses',
            mIoU_category='Categories',
            iIoU_category='InstCategories').items():
        assert same(flat[key], 100 * expected[f'averageScore{theirs}'])


def check_panoptic(scenes, tmp_path, flat, by_class):
    write_ground_truth(scenes, tmp_path)
    expected, counts = panoptic_scores(
        write_panoptic_truth(tmp_path), tmp_path / 'r.panoptic.json')
    for name, id_ in zip(NAMES, LABELS):
        for key in ('PQ', 'SQ', 'RQ'):
            theirs = 100 * expected['per_class'][id_][key.lower()]
            # the script writes 0 for a class that it leaves out of the means
            theirs = theirs if any(counts[id_]) else math.nan
            assert same(by_class[name][key], theirs)
    for suffix, group in (('', 'All'), ('_th', 'Things'), ('_st', 'Stuff')):
        for key in ('PQ', 'SQ', 'RQ'):
            assert same(flat[f'coco_panoptic/{key}{suffix}'],
                        100 * expected[group][key.lower()])


def test_every_class_agrees_with_the_scripts(tmp_path):
    awkward = np.zeros(3)
    for seed in range(12):
        root = tmp_path / f'{seed}'
        scenes = random_scenes(seed, num_images=3 + seed % 3)
        flat, by_class = evaluate(scenes, root / 'r')
        assert list(by_class) == list(NAMES)
        official = check_instances(scenes, root, flat, by_class)
        check_pixels(scenes, root, flat, by_class)
        check_panoptic(scenes, root, flat, by_class)
        assert 0 < flat['cityscapes/mAP'] < flat['cityscapes/AP@50'] < 1
        assert 0 < flat['iIoU'] < 100 and 0 < flat['coco_panoptic/PQ'] < 100
        rows = by_class.values()
        awkward += (any(None in column for column in official.values()),
                    any(scores['IoU'] == 0 for scores in rows),
                    any(scores.get('AP') == 0 for scores in rows))
    # where the script stops, absent and never predicted classes were there
    assert awkward.all()


def test_classes_of_a_panoptic_map_agree_with_the_script(tmp_path):
    """Of a model without a semantic map; void on its map is wrong."""
    scenes = random_scenes(1, num_images=4)
    evaluator = PanopticEvaluator([
        CityscapesSemanticIoUMetric(outfile_prefix=str(tmp_path / 'r')),
    ])
    evaluator.dataset_meta = META
    void = 0
    for scene in scenes:
        sample = sample_of(scene)
        del sample['pred_sem_seg']
        void += (sample['pred_panoptic_seg']['sem_seg'] == 19).sum()
        evaluator.process([sample])
        assert 'pred_sem_seg' not in sample
    assert void
    flat = evaluator.evaluate(len(scenes))
    check_pixels(scenes, tmp_path, flat, evaluator.by_class)
    assert 'derived from the panoptic map' in evaluator.metrics[0].note


def strip(top, pixels, width=20):
    """Mask (64, 80): the first pixels of the rows from ``top`` on."""
    mask = np.zeros((64, 80), dtype=bool)
    rows, rest = divmod(pixels, width)
    mask[top:top + rows, :width] = True
    mask[top + rows, :rest] = True
    return mask


def scene_of(number, truth, found):
    """A scene of (value, mask) and (id, score, mask), on road."""
    values = np.full((64, 80), 7)
    for value, mask in truth:
        values[mask] = value
    return Scene(
        f'aachen_000000_{number:06d}',
        values,
        found,
        semantic=np.full((64, 80), 7),
        panoptic=np.ones((64, 80), np.int64),
        categories={1: 7})


CAR = 26
#: Missed in the first image, found in the second: an AP of 1/2 without
#: anything else; the third is spurious, so that the script does not stop.
BASE = [
    scene_of(0, [(CAR * 1000, strip(0, 200))], []),
    scene_of(1, [(CAR * 1000, strip(0, 200))], [(CAR, .8, strip(0, 200))]),
    scene_of(2, [], [(CAR, .1, strip(0, 200))])
]
CASES = dict(
    size=[([(26001, strip(0, n))], [(CAR, .7, strip(0, 300))])
          for n in (99, 100, 101)],
    size_missed=[([(26001, strip(0, n))], []) for n in (99, 100)],
    # IoU is n / 200: equal to each of the overlaps
    iou=[([(26001, strip(0, 200))], [(CAR, .7, strip(0, n))])
         for n in range(100, 200, 10)],
    # n of 200 pixels are forgiven: equal to each of the overlaps
    void=[([(4, strip(0, n))], [(CAR, .9, strip(0, 200))])
          for n in range(100, 200, 10)],
    group=[([(CAR, strip(0, n))], [(CAR, .9, strip(0, 200))])
           for n in range(100, 200, 10)],
    # what lies on a small group counts twice
    small_group=[([(CAR, strip(0, n))], [(CAR, .9, strip(0, 160))])
                 for n in range(70, 100, 2)],
    small=[([(26003, strip(0, n))], [(CAR, .9, strip(0, 160))])
           for n in range(80, 100, 2)],
    small_match=[([(26003, strip(0, 90))], [(CAR, .9, strip(0, 100))])],
    group_match=[([(CAR, strip(0, 190))], [(CAR, .9, strip(0, 200))])],
    group_of_another_class=[([(24, strip(0, 190))], [(CAR, .9, strip(0, 200))])
                            ],
    caravan=[([(29000, strip(0, 190))], [(CAR, .9, strip(0, 200))]),
             ([(29, strip(0, 190))], [(CAR, .9, strip(0, 200))])],
    mixed=[([(4, strip(0, 60)), (CAR, strip(3, 60)),
             (26005, strip(6, 60))], [(CAR, .9, strip(0, 200))])],
    twice=[([(26001, strip(0, 200))], [(CAR, .5, strip(0, 180)),
                                       (CAR, .9, strip(0, 160)),
                                       (CAR, .7, strip(0, 190))])],
    twice_alike=[([(26001, strip(0, 200))], [(CAR, .8, strip(0, 180))] * 3)],
    ties=[([(26001, strip(0, 200))], [(CAR, .8, strip(0, 180)),
                                      (CAR, .8, strip(20, 100))])],
    empty_mask=[([(26001, strip(0, 200))], [(CAR, .8, strip(0, 0))])],
    empty_mask_alone=[([(24001, strip(0, 200))], [(24, .8, strip(0, 0))])],
    merged=[([(26001, strip(0, 200)), (26002, strip(10, 200))],
             [(CAR, .8, strip(0, 400))])],
)  # yapf: disable


@pytest.mark.parametrize('name', CASES)
def test_edges_of_the_instance_protocol(tmp_path, name):
    """All of a case together, then each alone."""
    case = [scene_of(3 + i, *pair) for i, pair in enumerate(CASES[name])]
    for i, scenes in enumerate([case, *([scene] for scene in case)]):
        root = tmp_path / str(i)
        flat, by_class = evaluate(BASE + scenes, root / 'r')
        check_instances(BASE + scenes, root, flat, by_class)
    assert evaluate(BASE, tmp_path / 'base')[0]['cityscapes/mAP'] == .5


def test_a_class_whose_predictions_are_all_forgiven_is_0(tmp_path):
    """The official script stops here, with an IndexError."""
    scenes = [
        scene_of(0, [(26000, strip(0, 200)), (4, strip(20, 200))],
                 [(CAR, .9, strip(20, 200))])
    ]
    flat, by_class = evaluate(scenes, tmp_path / 'r')
    truth = write_ground_truth(scenes, tmp_path)
    assert instance_scores(truth, tmp_path / 'r.instances')['car'][0] is None
    assert flat['cityscapes/mAP'] == by_class['car']['AP50'] == 0


#: What a user types; the cache of instances would lie beside the script.
MAIN = """
import sys
from cityscapesscripts.evaluation import {script} as script
from tests.oracles.cityscapes_official import old_numpy
if hasattr(script, 'args'):
    script.args.gtInstancesFile = 'gtInstances.json'
sys.argv = ['script', *{argv!r}]
with old_numpy():
    script.main()
"""


def run_main(script, tmp_path, results, *argv):
    """One of the scripts in a process of its own; what it wrote."""
    environ = dict(
        os.environ,
        CITYSCAPES_DATASET=str(tmp_path),
        CITYSCAPES_RESULTS=str(tmp_path / results),
        PYTHONPATH=str(REPO_ROOT))
    subprocess.run(
        [sys.executable, '-c',
         MAIN.format(script=script, argv=argv)],
        cwd=tmp_path,
        env=environ,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=120)
    name = script.replace('eval', 'result') + '.json'
    folder = tmp_path if argv else tmp_path / 'evaluationResults'
    return json.loads((folder / name).read_text())


def test_the_scripts_find_the_files_by_themselves(tmp_path):
    scenes = random_scenes(5, num_images=6, num_instances=20)
    write_ground_truth(scenes, tmp_path)
    flat, _ = evaluate(scenes, tmp_path / 'r')
    found = run_main('evalInstanceLevelSemanticLabeling', tmp_path,
                     'r.instances')
    assert same(flat['cityscapes/mAP'], found['averages']['allAp'])
    found = run_main('evalPixelLevelSemanticLabeling', tmp_path, 'r.semantic')
    assert same(flat['iIoU'], 100 * found['averageScoreInstClasses'])
    write_panoptic_truth(tmp_path)
    found = run_main('evalPanopticSemanticLabeling', tmp_path,
                     '', '--prediction-json-file',
                     str(tmp_path / 'r.panoptic.json'))
    assert same(flat['coco_panoptic/PQ'], 100 * found['All']['pq'])
