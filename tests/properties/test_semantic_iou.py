"""mIoU and fIoU by the confusion matrix, counted pixel by pixel."""
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from panoptic_fpn.metrics import SemanticIoUMetric, semantic_scores
from panoptic_fpn.metrics.semantic_iou import code_counts
from tests.oracles.derive import derive_panoptic, derive_semantic
from tests.oracles.semantic import class_ious, confusion_matrix, gt_channels
from tests.oracles.semantic import semantic_scores as oracle_scores
from tests.panoptic_fpn.metrics.data import as_map, run_metric, space_of

from . import strategies

TOLERANCE = 1e-9


def same(ours, theirs):
    """In percent, NaN for None of a fraction."""
    if theirs is None:
        return math.isnan(ours)
    return abs(ours - 100 * theirs) <= TOLERANCE


def layout(data, predict_things):
    """Numbers of things, stuff and channels."""
    things = sum(c['isthing'] for c in data.categories)
    stuff = len(data.categories) - things
    return things, stuff, things + stuff if predict_things else stuff + 1


@st.composite
def cases(draw):
    """Ground truth, whether things are predicted, a map for each image: as
    wanted, but for some places, or anything."""
    data = draw(strategies.data_sets(crowd_stuff=True))
    predict_things = draw(st.booleans())
    things, stuff, channels = layout(data, predict_things)
    maps = []
    for image in data.images:
        found = draw(strategies.channel_maps(image.id_map.shape, channels))
        if draw(st.booleans()):
            wanted = gt_channels(
                derive_semantic(image.id_map, image.segments, data.categories),
                things, stuff, predict_things)
            rng = np.random.default_rng(draw(strategies.SEEDS))
            kept = (rng.random(found.shape) < .7) & (wanted >= 0)
            found = np.where(kept, wanted, found)
        maps.append(found)
    return data, predict_things, maps


@given(cases())
def test_scores_are_those_of_the_confusion_matrix(case):
    data, predict_things, maps = case
    things, stuff, channels = layout(data, predict_things)
    samples, total = [], np.zeros((channels, channels), np.int64)
    for image, found in zip(data.images, maps):
        truth = derive_panoptic(image.id_map, image.segments, data.categories)
        samples.append(
            dict(
                img_id=image.image_id,
                gt_codes=truth['codes'],
                crowd_codes=truth['crowd_codes'],
                gt_panoptic_seg=as_map(truth['map']),
                pred_sem_seg=as_map(found)))
        labels = derive_semantic(image.id_map, image.segments, data.categories)
        total += confusion_matrix(
            gt_channels(labels, things, stuff, predict_things), found,
            channels)
    metric = SemanticIoUMetric(predict_things=predict_things)
    scores = run_metric(metric, samples, space_of(data).metainfo())
    if channels == 1:  # whatever is predicted is right: there is no score
        assert not metric.by_class and set(map(str,
                                               scores.values())) == {'nan'}
        return
    first = things if predict_things else 0
    expected = oracle_scores(total, range(first, first + stuff))
    assert scores.keys() == expected.keys()
    for key, value in expected.items():
        assert same(scores[key], value), key
    ious = [row['IoU'] for row in metric.by_class.values()]
    assert len(ious) == channels
    assert all(map(same, ious, class_ious(total)))


@given(
    st.integers(1, 6).flatmap(lambda n: st.tuples(
        st.lists(
            st.lists(st.integers(0, 9), min_size=n, max_size=n),
            min_size=n,
            max_size=n), st.sets(st.integers(0, n - 1)))))
def test_scores_of_any_matrix(case):
    matrix, stuff = np.array(case[0], np.int64), sorted(case[1])
    areas = np.stack(
        [matrix.diagonal(),
         matrix.sum(axis=0),
         matrix.sum(axis=1)])
    scores = semantic_scores(areas, stuff)
    for key, value in oracle_scores(matrix, stuff).items():
        assert same(scores[key], value), key
    assert all(map(same, scores['IoU'], class_ious(matrix)))


@given(st.data())
def test_pixels_of_segments_by_channel(data):
    shape = data.draw(strategies.shapes())
    labels = data.draw(strategies.channel_maps(shape, 4))
    numbers = data.draw(strategies.channel_maps(shape, 9))
    factor = data.draw(st.sampled_from([1, 1000, 2 * 10**6]))
    gt = labels + 1000 * factor * numbers
    pred = data.draw(strategies.channel_maps(shape, 3))
    codes, counts = code_counts(gt, pred, 3)
    assert codes.tolist() == np.unique(gt).tolist()
    assert counts.tolist() == [[
        np.count_nonzero((gt == code) & (pred == c)) for c in range(3)
    ] for code in codes]
