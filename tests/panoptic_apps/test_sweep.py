"""The sweep against merging with sets and counting, one setting at a time."""
import copy
import json
import math
import os
import signal

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import Evaluator

from mmengine_exact.errors import InputError
from mmengine_exact.workers import run_jobs
from panoptic_apps.sweep_merge import (PanopticBranchWriter, draw_sweep,
                                       format_sweep, save_branches,
                                       sweep_merge)
from panoptic_fpn.metrics import PanopticQualityMetric
from panoptic_fpn.models import PanopticFusionHead
from tests.oracles.derive import count_things
from tests.oracles.merge import merge_by_sets
from tests.panoptic_fpn.metrics.data import make_case, run_metric, space_of

GRID = ([0.2, 0.5, 0.8], [0.3, 0.7], [1, 60, 400])
START = dict(score_thr=0.35, overlap_thr=0.5, stuff_area=20)


@pytest.fixture(scope='module')
def case(tmp_path_factory):
    """Data, samples and the folder that the writer made of them."""
    folder = tmp_path_factory.mktemp('sweep') / 'branches'
    data, _, samples = make_case(11, num_images=4, string_ids=True)
    # bigger, overlapping instances: overlap has to matter
    for sample in samples:
        pred = sample['pred_instances']
        pred['masks'] = pred['masks'] | torch.roll(pred['masks'], 6, 2)
        pred['bboxes'][:, 0], pred['bboxes'][:, 2] = 0, 56
    metric = PanopticBranchWriter(str(folder), thresholds=START)
    before = copy.deepcopy(samples)
    assert run_metric(metric, samples, space_of(data).metainfo()) == {}
    for sample, old in zip(samples, before):
        assert torch.equal(sample['pred_instances']['masks'],
                           old['pred_instances']['masks'])
    return data, samples, folder


def expected_quality(data, samples, score_thr, **thresholds):
    space = space_of(data)
    merged = copy.deepcopy(samples)
    for sample in merged:
        pred = sample['pred_instances']
        panoptic = merge_by_sets(
            pred['masks'].numpy(),
            pred['scores'].numpy(),
            pred['labels'].numpy(),
            sample['pred_sem_seg']['sem_seg'][0].numpy(),
            count_things(data.categories),
            space.num_stuff,
            boxes=pred['bboxes'].numpy(),
            score_thr=np.float32(score_thr),
            **thresholds)
        sample['pred_panoptic_seg'] = dict(
            sem_seg=torch.from_numpy(panoptic.astype(np.int32))[None])
    scores = run_metric(PanopticQualityMetric(), merged, space.metainfo())
    return {key.split('/')[1]: value for key, value in scores.items()}


@pytest.mark.parametrize('num_workers', [1, 2])
def test_every_setting_is_what_an_evaluation_gives(case, num_workers):
    data, samples, folder = case
    rows, start = sweep_merge(str(folder), *GRID, num_workers=num_workers)
    assert len(rows) == 18
    assert {key: start[key] for key in START} == START
    for row in [*rows, start]:
        thresholds = [row[key] for key in START]
        expected = expected_quality(data, samples,
                                    **dict(zip(START, thresholds)))
        for key, value in expected.items():
            assert row[key] == value or (math.isnan(row[key])
                                         and math.isnan(value))
    qualities = [row['PQ'] for row in rows]
    assert qualities == sorted(qualities, reverse=True)
    assert len(set(qualities)) > 6  # thresholds matter in this case


def test_order_by_another_metric_and_text(case):
    rows, start = sweep_merge(str(case[2]), *GRID, metric='PQ_st')
    things = [row['PQ_st'] for row in rows]
    assert things == sorted(things, reverse=True)
    lines = format_sweep(rows[:3], start).splitlines()
    assert len(lines) == 6 and lines[-1].endswith('<- config')
    assert '0.35' in lines[-1] and f'{start["PQ"]:.2f}' in lines[-1]


def test_heat_maps_name_each_value(case):
    rows, _ = sweep_merge(str(case[2]), *GRID)
    picture = draw_sweep(rows)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    assert picture.shape[1] > picture.shape[0]  # three panels side by side
    for row in rows:
        row['PQ'] = float('nan')
    assert draw_sweep(rows).shape == picture.shape


class Runner:
    """What ``save_branches`` needs of one."""

    def __init__(self, head):
        self.model = torch.nn.Module()
        self.model.panoptic_fusion_head = head
        self.test_evaluator = Evaluator([])
        self.test_evaluator.dataset_meta = dict(classes=(), thing_classes=())


def test_a_run_writes_too(tmp_path):
    runner = Runner(PanopticFusionHead(test_cfg=dict(stuff_area=7)))
    save_branches(runner, str(tmp_path / 'new'))
    writer = runner.test_evaluator.metrics[0]
    assert writer.thresholds == dict(
        score_thr=0.5, overlap_thr=0.5, stuff_area=7, nms_iou_thr=None)
    assert writer.dataset_meta == dict(classes=(), thing_classes=())


def test_other_runs_and_other_models_are_refused(case, tmp_path):
    with pytest.raises(InputError, match='another run'):
        save_branches(Runner(PanopticFusionHead()), str(case[2]))
    with pytest.raises(InputError, match='Leave --save-branches out'):
        save_branches(Runner(torch.nn.Identity()), str(tmp_path))
    runner = Runner(PanopticFusionHead(test_cfg=dict(score_thr=0.6)))
    runner.model.roi_head = torch.nn.Identity()
    runner.model.roi_head.test_cfg = ConfigDict(score_thr=0.6)
    with pytest.raises(InputError, match='rcnn.score_thr=0.05'):
        save_branches(runner, str(tmp_path))


def kill_worker(job):
    if job == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def test_a_killed_process_is_reported():
    """Jobs in order, as the sweep has them; an endless wait otherwise."""
    results = run_jobs(kill_worker, range(5), 2, in_order=True)
    with pytest.raises(InputError, match='killed.*--num-workers'):
        list(results)
    assert list(run_jobs(str, range(50), 2,
                         in_order=True)) == [str(n) for n in range(50)]


def test_unfinished_and_spoiled_folders(case, tmp_path):
    with pytest.raises(InputError, match='index.json.*--save-branches'):
        sweep_merge(str(tmp_path), *GRID)
    index = json.loads((case[2] / 'index.json').read_text())
    (tmp_path / 'index.json').write_text(json.dumps(index))
    with pytest.raises(InputError, match='0 images.* says 4'):
        sweep_merge(str(tmp_path), *GRID)
    for path in case[2].glob('*.npz'):
        (tmp_path / path.name).write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match='npz: not a branch file'):
        sweep_merge(str(tmp_path), *GRID)
    for text in ('{"images": 4}', '[]', '{', 9999 * '['):
        (tmp_path / 'index.json').write_text(text)
        with pytest.raises(InputError, match='index.json: no finished'):
            sweep_merge(str(tmp_path), *GRID)


def test_a_model_without_region_branch(tmp_path):
    data, _, samples = make_case(3, num_images=2)
    for sample in samples:
        del sample['pred_instances']
    metric = PanopticBranchWriter(str(tmp_path / 'x'))
    run_metric(metric, samples, space_of(data).metainfo())
    rows, start = sweep_merge(str(tmp_path / 'x'), [0.5], [0.5], [1, 100])
    assert start is None and len(rows) == 2
    assert all(row['PQ_th'] == 0 for row in rows)
