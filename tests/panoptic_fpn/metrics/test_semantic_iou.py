"""mIoU and fIoU against the confusion matrix oracle and mmseg's counts."""
import math

import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric

from panoptic_fpn.labels import IGNORE_LABEL, semantic_channels
from panoptic_fpn.metrics import (SemanticIoUMetric, semantic_areas,
                                  semantic_scores)

from .data import as_map, make_case, run_metric, space_of


@pytest.mark.parametrize('predict_things', [False, True])
def test_the_model_knows_the_layout_of_its_channels(predict_things):
    """A perfect prediction scores 100 without a word in the config."""
    data, _, samples = make_case(2)
    space = space_of(data)
    table = semantic_channels(space.num_things, space.num_stuff,
                              predict_things)
    for sample in samples:
        labels = sample['gt_panoptic_seg']['sem_seg'][0].numpy() % 1000
        sample['pred_sem_seg'] = dict(
            as_map(np.append(table, 0)[labels]), predict_things=predict_things)
    scores = run_metric(SemanticIoUMetric(), samples, space.metainfo())
    assert scores['mIoU'] == scores['mIoU_stuff'] == 100


@pytest.mark.parametrize('seed', range(3))
def test_counts_are_those_of_mmseg(seed):
    rng = np.random.default_rng(seed)
    gt = rng.integers(0, 6, (30, 40)) + 1000 * rng.integers(0, 3, (30, 40))
    pred = rng.integers(0, 4, (30, 40))
    channels = np.append(semantic_channels(2, 3), IGNORE_LABEL)
    areas = semantic_areas(gt, pred, channels, 4)
    intersect, union, predicted, truth = IoUMetric.intersect_and_union(
        torch.from_numpy(pred), torch.from_numpy(channels[gt % 1000]), 4,
        IGNORE_LABEL)
    assert (areas == torch.stack([intersect, predicted, truth]).numpy()).all()
    assert (areas[1] + areas[2] - areas[0] == union.numpy()).all()


@pytest.mark.parametrize('num_stuff, judged', [(0, False), (1, True)])
def test_a_single_channel_has_no_score(num_stuff, judged):
    """Things alone: whatever is predicted is 'other', and right."""
    data, _, samples = make_case(2, num_things=2, num_stuff=num_stuff)
    for sample in samples:
        sample['pred_sem_seg'] = as_map(np.zeros((40, 56)))
    metric = SemanticIoUMetric()
    scores = run_metric(metric, samples, space_of(data).metainfo())
    assert [math.isnan(scores[key])
            for key in ('mIoU', 'fIoU')] == [not judged] * 2
    assert bool(metric.by_class) == judged


@pytest.mark.parametrize(
    'predict_things, expected',
    [
        # label 0: 2 of 4, 1: none of 1, 2: 2 of 3, 3: none
        (True, (200 / 4 + 0 + 200 / 3 + 0) / 4),
        # 'other': all 4, stuff 2: 2 of 3, 3: none
        (None, (100 + 200 / 3 + 0) / 3)
    ])
def test_labels_of_a_panoptic_map_by_hand(predict_things, expected):
    """For a model without a semantic map; 4 is void, never right."""
    data, _, samples = make_case(2, num_things=2, num_stuff=2)
    truth = np.array([[0, 0, 1000, 1], [2, 2, 2, 3], [4, 4, 4, 4]])
    found = np.array([[1000, 1000, 1, 2000], [2, 2, 4, 4], [0, 1, 2, 4]])
    sample = dict(
        samples[0],
        gt_panoptic_seg=as_map(truth),
        gt_codes=[0, 1000, 1, 2, 3],
        crowd_codes=[],
        pred_panoptic_seg=as_map(found))
    del sample['pred_sem_seg']
    meta = space_of(data).metainfo()
    metric = SemanticIoUMetric(predict_things=predict_things)
    scores = run_metric(metric, [sample], meta)
    assert scores['mIoU'] == pytest.approx(expected)
    assert 'panoptic map' in metric.note
    # a merge of branches, of which the semantic one is absent
    sample['pred_panoptic_seg']['instance_indices'] = [0, 1, 2]
    metric = SemanticIoUMetric()
    assert math.isnan(run_metric(metric, [sample], meta)['mIoU'])
    assert metric.note is None


def test_numbers_by_hand():
    """10 pixels; channel 2 is predicted, but never in the ground truth."""
    areas = np.array([[4, 1, 0], [5, 3, 2], [8, 2, 0]])
    scores = semantic_scores(areas, stuff=[0, 1])
    iou = np.array([4 / 9, 1 / 4])
    assert scores['IoU'][:2] == pytest.approx(100 * iou)
    assert math.isnan(scores['IoU'][2])
    assert scores['mIoU'] == pytest.approx(100 * iou.mean())
    assert scores['fIoU'] == pytest.approx(100 * (.8 * 4 / 9 + .2 / 4))
    assert semantic_scores(areas, [1])['mIoU_stuff'] == pytest.approx(25)
