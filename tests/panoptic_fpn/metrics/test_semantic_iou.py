"""mIoU and fIoU against the confusion matrix oracle and mmseg's counts."""
import math

import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric

from panoptic_fpn.labels import IGNORE_LABEL, semantic_channels
from panoptic_fpn.metrics import (SemanticIoUMetric, semantic_areas,
                                  semantic_scores)
from tests.oracles.derive import derive_semantic
from tests.oracles.semantic import confusion_matrix, gt_channels
from tests.oracles.semantic import semantic_scores as oracle_scores

from .data import as_map, clone, make_case, run_metric, same_samples, space_of


def oracle(data, samples, predict_things):
    things = sum(c['isthing'] for c in data.categories)
    stuff = len(data.categories) - things
    channels = things + stuff if predict_things else stuff + 1
    matrix = np.zeros((channels, channels), np.int64)
    for image, sample in zip(data.images, samples):
        labels = derive_semantic(image.id_map, image.segments, data.categories)
        matrix += confusion_matrix(
            gt_channels(labels, things, stuff, predict_things),
            sample['pred_sem_seg']['sem_seg'][0].numpy(), channels)
    first = things if predict_things else 0
    return oracle_scores(matrix, range(first, first + stuff))


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('predict_things', [False, True])
def test_agrees_with_the_oracle(seed, predict_things):
    data, _, samples = make_case(seed, num_images=2)
    if predict_things:
        rng = np.random.default_rng(seed)
        for sample in samples:
            codes = sample['pred_panoptic_seg']['sem_seg'][0].numpy() % 1000
            noise = rng.integers(0, len(data.categories), codes.shape)
            sample['pred_sem_seg'] = as_map(
                np.where(codes == len(data.categories), noise, codes))
    scores = run_metric(
        SemanticIoUMetric(predict_things=predict_things), samples,
        space_of(data).metainfo())
    expected = oracle(data, samples, predict_things)
    assert scores.keys() == expected.keys()
    for key, value in expected.items():
        assert abs(scores[key] - 100 * value) <= 1e-9


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


def test_nothing_but_void_is_nan():
    scores = semantic_scores(np.zeros((3, 4), np.int64), [0, 1, 2])
    assert all(math.isnan(scores[k]) for k in ('mIoU', 'fIoU', 'mIoU_stuff'))


def test_inputs_are_read_only_and_padding_drops_out():
    data, _, samples = make_case(3)
    meta = space_of(data).metainfo()
    before = clone(samples)
    once = run_metric(SemanticIoUMetric(), samples, meta)
    assert same_samples(before, samples)
    padded = samples[::-1] + samples
    assert run_metric(SemanticIoUMetric(), padded, meta, size=4) == once


def test_errors_and_missing_predictions(log):
    data, _, samples = make_case(4)
    meta = space_of(data).metainfo()

    def run(**changes):
        return run_metric(SemanticIoUMetric(), [{
            **s,
            **changes
        } for s in samples], meta)

    with pytest.raises(ValueError, match=r'\(7, 9\).*\(40, 56\)'):
        run(pred_sem_seg=as_map(np.zeros((7, 9))))
    with pytest.raises(ValueError, match='no panoptic annotation'):
        run(gt_panoptic_seg=None)
    with pytest.raises(ValueError, match='channel 6.*has 6.*predict_things'):
        run(pred_sem_seg=as_map(np.full((40, 56), 6)))
    assert all(map(math.isnan, run(pred_sem_seg=None).values()))
    assert log.getvalue().count('4 images have no pred_sem_seg') == 1


def test_classwise_names_other(log):
    data, _, samples = make_case(5)
    run_metric(
        SemanticIoUMetric(classwise=True), samples,
        space_of(data).metainfo())
    text = log.getvalue()
    assert 'other' in text and space_of(data).stuff_names[0] in text
