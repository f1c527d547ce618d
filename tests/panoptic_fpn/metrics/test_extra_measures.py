"""Boundary PQ, PQ-dagger, PQ by size, of each image and resampled, against
the oracle made of pixel sets."""
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mmengine_exact.errors import InputError
from panoptic_fpn.metrics import PanopticEvaluator, PanopticQualityMetric
from panoptic_fpn.ops.boundaries import boundary_distance, boundary_regions
from panoptic_fpn.training.metrics_json import MetricsJsonHook
from tests.oracles import panoptic_measures as plain
from tests.oracles.panoptic_quality import pq_counts
from tests.oracles.perturb import (PanopticData, PanopticImage, perturb,
                                   perturbed_data, random_categories,
                                   random_data, random_image)

from .data import make_case, make_sample, run_metric, space_of
from .test_panoptic_quality import a_model

MEASURES = ['boundary', 'dagger', 'size']
TOLERANCE = 1e-9
CATEGORIES = random_categories(np.random.default_rng(0), 2, 2)
STUFF, THING = CATEGORIES[0]['id'], CATEGORIES[-1]['id']


def difference(truths, preds, categories, extra=MEASURES):
    """Largest one between our scores and the oracle's, in percent; one that
    only one side has is infinite. And our scores."""
    rng = np.random.default_rng(0)
    samples = [
        make_sample(gt, pred, categories, rng)
        for gt, pred in zip(truths, preds)
    ]
    data = PanopticData(categories, truths)
    ours = run_metric(
        PanopticQualityMetric(extra=extra), samples,
        space_of(data).metainfo())
    expected = plain.measure_table(scenes(truths, preds), categories)
    apart = [
        abs(ours[f'coco_panoptic/{key}'] - 100 * value) if value is not None
        else 0. if math.isnan(ours[f'coco_panoptic/{key}']) else math.inf
        for key, value in expected.items()
    ]
    return math.inf if np.isnan(apart).any() else max(apart), ours


def scenes(truths, preds):
    return [(gt.id_map, gt.segments, pred.id_map, pred.segments)
            for gt, pred in zip(truths, preds)]


def random_scene(seed):
    """Ground truth and prediction of a random size."""
    rng = np.random.default_rng(seed)
    top = 130 if seed % 20 == 0 else 40
    shape = tuple(int(n) for n in rng.integers(8, top, 2))
    truth = random_image(rng, CATEGORIES, shape, seed)
    return truth, perturb(rng, truth, CATEGORIES)


@pytest.mark.parametrize('first', range(0, 200, 50))
def test_random_scenes(first):
    """As one data set of fifty images."""
    truths, preds = zip(*map(random_scene, range(first, first + 50)))
    apart, ours = difference(truths, preds, CATEGORIES)
    assert apart <= TOLERANCE
    assert 0 < ours['coco_panoptic/PQ_boundary'] < ours['coco_panoptic/PQ']


def test_each_random_scene_alone():
    for seed in range(60):
        truth, pred = random_scene(seed)
        assert difference([truth], [pred], CATEGORIES)[0] <= TOLERANCE, seed


def image(rows, *segments):
    """Rows of ids; segments (id, category id) or (id, category id, crowd)."""
    id_map = np.array(rows)
    return PanopticImage(1, 'a.jpg', 'a.png', id_map, [
        dict(id=i, category_id=c, iscrowd=int(bool(crowd)))
        for i, c, *crowd in segments if (id_map == i).any()
    ])


def block(shape, *areas):
    """Map of void with rectangles (id, top, left, height, width)."""
    rows = np.zeros(shape, int)
    for id_, y, x, h, w in areas:
        rows[y:y + h, x:x + w] = id_
    return rows


BOTH = (1, STUFF), (2, THING), (3, THING), (4, THING, 1), (5, THING, 1)
ODD = dict(
    void_everywhere=([[0] * 9] * 9, [[2] * 9] * 9),
    empty_prediction=([[1, 2, 2]] * 3, [[0] * 3] * 3),
    both_empty=([[0] * 3] * 3, [[0] * 3] * 3),
    one_pixel=([[2]], [[2]]),
    single_pixels=([[1, 2, 1, 3, 1, 0, 4]], [[1, 2, 1, 3, 3, 2, 1]]),
    one_row=([[1] * 100 + [2] * 30 + [0] * 9], [[1] * 95 + [2] * 40 + [0] * 4
                                                ]),
    one_column=([[1]] * 60 + [[2]] * 40, [[1]] * 50 + [[2]] * 50),
    crowds=(block((30, 30), (4, 0, 0, 9, 30), (5, 9, 0, 9, 30),
                  (2, 18, 0, 9, 9)),
            block((30, 30), (2, 0, 0, 18, 30), (3, 18, 0, 9, 9))),
    only_crowd=([[4] * 9] * 9, [[3] * 9] * 9),
    nested_rings=(block((90, 90), (1, 0, 0, 90, 90), (2, 9, 9, 70, 70),
                        (3, 20, 20, 40, 40), (1, 30, 30, 20, 20)),
                  block((90, 90), (1, 0, 0, 90, 90), (2, 11, 9, 70, 70),
                        (3, 20, 23, 40, 40), (1, 31, 30, 20, 20))),
    mostly_on_void=(block(
        (40, 40), (2, 0, 0, 12, 12)), block((40, 40), (2, 0, 0, 40, 12))),
    border_of_sizes=(block((100, 200), (2, 0, 0, 32, 32), (3, 0, 60, 96, 96)),
                     block((100, 200), (2, 0, 0, 31, 33), (3, 0, 60, 95, 97))))


@pytest.mark.parametrize('name', ODD)
def test_odd_scenes(name):
    truth, pred = (image(rows, *BOTH) for rows in ODD[name])
    assert difference([truth], [pred], CATEGORIES)[0] <= TOLERANCE


def test_a_pair_that_only_the_boundary_parts_by_hand():
    """20 x 20 moved by 2 in an image of 40 x 40, d = 1: the masks share 360 of
    440 pixels; the frames of 76 pixels share 2 * 18."""
    truth = image(block((40, 40), (2, 10, 10, 20, 20)), *BOTH)
    void = image(
        block((40, 40), (1, 0, 0, 40, 40), (2, 10, 10, 20, 20)), *BOTH)
    pred = image(
        block((40, 40), (1, 0, 0, 40, 40), (2, 10, 12, 20, 20)), *BOTH)
    _, whole = difference([void], [pred], CATEGORIES)
    assert whole['coco_panoptic/PQ_th'] == pytest.approx(100 * 360 / 440)
    assert whole['coco_panoptic/PQ_boundary_th'] == 0
    # the predicted frame loses what lies on void: 22 of its 76 pixels
    _, half = difference([truth], [pred], CATEGORIES)
    assert half['coco_panoptic/PQ_boundary_th'] == 0
    assert half['coco_panoptic/PQ_th'] == pytest.approx(100 * 360 / 400)


def per_segment_boundaries(index_map, distance):
    """Each segment, padded by zeros, without its erosion."""
    h, w = index_map.shape
    found = np.zeros((h, w), np.uint8)
    for value in np.unique(index_map):
        mask = (index_map == value).astype(np.uint8)
        eroded = cv2.erode(
            np.pad(mask, 1), np.ones((3, 3), np.uint8), iterations=distance)
        found |= mask - eroded[1:-1, 1:-1]
    return found


def test_boundaries_are_those_of_each_segment():
    rng = np.random.default_rng(0)
    for i in range(300):
        h, w = rng.integers(1, 40, 2)
        size, distance = int(rng.integers(1, 9)), int(rng.integers(1, 12))
        cells = rng.integers(0, 4, (h // size + 1, w // size + 1))
        index_map = np.kron(cells, np.full((size, size), 1000))[:h, :w].copy()
        index_map[rng.random((h, w)) < rng.choice([0, .01])] = 7
        regions = boundary_regions(index_map.astype(np.int32), distance)
        assert regions.dtype == np.uint8
        np.testing.assert_array_equal(
            regions, per_segment_boundaries(index_map, distance))


@pytest.mark.parametrize('shape, pixels', [((480, 640), 16), ((1, 1), 1),
                                           ((1024, 2048), 46), ((3, 4), 1)])
def test_distance_is_two_percent_of_the_diagonal(shape, pixels):
    assert boundary_distance(*shape) == pixels


def test_images_and_interval():
    truths, preds = zip(*map(random_scene, range(1, 9)))
    rng = np.random.default_rng(0)
    samples = [
        make_sample(gt, pred, CATEGORIES, rng)
        for gt, pred in zip(truths, preds)
    ]
    meta = space_of(PanopticData(CATEGORIES, truths)).metainfo()
    metric = PanopticQualityMetric(extra=['images', 'interval'])
    scores = run_metric(metric, samples, meta)
    names = {c['id']: c['name'] for c in CATEGORIES}
    for truth, sample, scene in zip(truths, samples, scenes(truths, preds)):
        found = metric.by_image[truth.image_id]
        alone = run_metric(PanopticQualityMetric(), [sample], meta)
        assert found['PQ'] == alone['coco_panoptic/PQ']
        expected = {
            names[id_]: [c.tp, c.fp, c.fn,
                         pytest.approx(c.iou)]
            for id_, c in pq_counts(*scene).items()
        }
        assert found['counts'] == expected
    rng = np.random.default_rng(0)
    draws = [rng.integers(8, size=8) for _ in range(1000)]
    low, high = plain.interval(scenes(truths, preds), CATEGORIES, draws)
    assert abs(scores['coco_panoptic/PQ_low'] - 100 * low) <= TOLERANCE
    assert abs(scores['coco_panoptic/PQ_high'] - 100 * high) <= TOLERANCE
    assert low < scores['coco_panoptic/PQ'] / 100 < high


def test_one_image_has_no_interval():
    data, _, samples = make_case(1)
    scores = run_metric(
        PanopticQualityMetric(extra=['interval']), samples[:1],
        space_of(data).metainfo())
    assert scores['coco_panoptic/PQ_low'] == pytest.approx(
        scores['coco_panoptic/PQ'], abs=TOLERANCE)
    assert scores['coco_panoptic/PQ_low'] == scores['coco_panoptic/PQ_high']


def test_what_is_not_asked_for_stays_to_the_bit():
    """Scores of PQ, and all of them in another order of the images."""
    data, _, samples = make_case(4)
    meta = space_of(data).metainfo()
    every = [*MEASURES, 'images', 'interval']
    today = run_metric(PanopticQualityMetric(), samples, meta)
    metric, other = (PanopticQualityMetric(extra=every) for _ in range(2))
    scores = run_metric(metric, samples, meta)
    assert len(today) == 9 and today.items() <= scores.items()
    again = run_metric(other, samples[::-1] + samples[:1], meta, size=4)
    assert str(again) == str(scores)  # NaN too
    assert other.by_image == metric.by_image
    assert list(other.by_image) == sorted(s['img_id'] for s in samples)


def test_perfect_predictions():
    # of predictions: a stuff class has one segment, and there is no crowd
    data = perturbed_data(1, random_data(5))
    truths = [
        replace(i, segments=[dict(s, iscrowd=0) for s in i.segments])
        for i in data.images
    ]
    _, scores = difference(truths, truths, data.categories)
    assert {v for v in scores.values() if not math.isnan(v)} == {100}


@pytest.mark.parametrize('branch, judged, other',
                         [('roi_head', '_th', '_st'),
                          ('semantic_head', '_st', '_th')])
def test_a_model_of_one_branch(branch, judged, other):
    data, _, samples = make_case(3)
    meta = space_of(data).metainfo()
    every = [*MEASURES, 'images', 'interval']
    metric = PanopticQualityMetric(extra=every)
    metric.check_model(a_model(branch))
    scores = run_metric(metric, samples, meta)
    whole = run_metric(PanopticQualityMetric(extra=every), samples, meta)
    for name in ('PQ_boundary', 'PQ_dagger'):
        key = f'coco_panoptic/{name}'
        assert scores[key + judged] == whole[key + judged] > 0
        assert math.isnan(scores[key]) and math.isnan(scores[key + other])
    assert math.isnan(scores['coco_panoptic/PQ_low'])
    small = scores['coco_panoptic/PQ_small']
    assert small > 0 if branch == 'roi_head' else math.isnan(small)
    assert all(math.isnan(i['PQ']) for i in metric.by_image.values())


@pytest.mark.parametrize('extra', ['boundary', ['size', 'edges']])
def test_an_unknown_measure_is_named(extra):
    with pytest.raises(InputError, match='extra=.*boundary.*interval'):
        PanopticQualityMetric(extra=extra)


def test_table_classes_and_images_json(tmp_path, log):
    data, _, samples = make_case(6, string_ids=True)
    evaluator = PanopticEvaluator(
        [PanopticQualityMetric(extra=[*MEASURES, 'images', 'interval'])])
    evaluator.dataset_meta = space_of(data).metainfo()
    evaluator.process(samples)
    scores = evaluator.evaluate(len(samples))
    for head in ('boundary', 'dagger', 'things by size', '95 % interval'):
        assert f'| {head} ' in log.getvalue()
    by_class = evaluator.by_class.values()
    assert scores['coco_panoptic/PQ_boundary'] == pytest.approx(
        np.nanmean([row['PQ_boundary'] for row in by_class]))
    runner = SimpleNamespace(
        work_dir=str(tmp_path), val_loop=SimpleNamespace(evaluator=evaluator))
    MetricsJsonHook().after_val_epoch(runner, scores)
    text = (tmp_path / 'images.json').read_text()
    assert len(text.splitlines()) == len(samples) + 2
    content = json.loads(text)
    assert {
        row.pop('image_id'): row
        for row in content.pop('images')
    } == evaluator.by_image
    assert {
        **space_of(data).metainfo(),
        **content
    } == {
        key: list(value) if key in content else value
        for key, value in space_of(data).metainfo().items()
    }
    evaluator.process([{**s, 'pred_panoptic_seg': None} for s in samples])
    scores = evaluator.evaluate(len(samples))
    assert not evaluator.by_image
    # no scores of images beside those of another evaluation
    MetricsJsonHook().after_val_epoch(runner, scores)
    assert not (tmp_path / 'images.json').exists()
