"""AP, IoU and iIoU of Cityscapes against the official scripts' mathematics."""
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from panoptic_fpn.metrics import (CityscapesInstanceAPMetric,
                                  CityscapesSemanticIoUMetric)
from tests.oracles.cityscapes_arrays import (instance_scores, known_mean,
                                             pixel_scores)
from tests.oracles.cityscapes_scenes import STUFF, THINGS, Scene
from tests.panoptic_fpn.metrics.cityscapes import META, sample_of
from tests.panoptic_fpn.metrics.data import run_metric

from . import strategies

TOLERANCE = 1e-9
#: Persons, cars, motorcycles; others of them are rare.
FEW_THINGS = [24, 26, 32]
#: Stuff, void, and classes that the evaluation ignores although they have
#: instances.
BACKGROUND = [7, 11, 23, 0, 4, 29, 30, 29001, 30000]


def same(ours, theirs):
    if math.isnan(theirs):
        return math.isnan(ours)
    return abs(ours - theirs) <= TOLERANCE


@st.composite
def exact_parts(draw, shape):
    """(h, w) of 0..5, one behind the other, around the least area."""
    lengths = draw(
        st.lists(
            st.sampled_from([20, 99, 100, 100, 101, 200]),
            min_size=6,
            max_size=6))
    parts = np.repeat(np.arange(6), lengths)
    return np.resize(parts, shape)


@st.composite
def scenes(draw, image_id):
    """Instances around 100 pixels, groups, overlapping predictions."""
    shape = draw(strategies.shapes(most=30, least=8))
    things = draw(
        st.just(FEW_THINGS)
        | st.lists(st.sampled_from(THINGS), min_size=1, max_size=3))
    single = st.builds(lambda id_, number: 1000 * id_ + number,
                       st.sampled_from(things), st.integers(0, 3))
    values = st.one_of(single, single, st.sampled_from(things),
                       st.sampled_from(BACKGROUND))
    parts = draw(strategies.channel_maps(shape, 6) | exact_parts(shape))
    table = draw(st.lists(values, min_size=6, max_size=6))
    scene = Scene(image_id, np.array(table)[parts])
    masks, _, scores, labels = draw(
        strategies.instances(shape, len(things), most=4))
    scene.instances = [(things[label], score, mask)
                       for label, score, mask in zip(labels, scores, masks)]
    rng = np.random.default_rng(draw(strategies.SEEDS))
    near = [
        v for v in np.unique(scene.values).tolist()
        if v in things or v // 1000 in things
    ]
    rates = st.sampled_from([0, .4, .5, .75, .95, 1])
    rates = draw(
        st.lists(
            st.tuples(rates, st.sampled_from([0, 0, .05, .5, 1])),
            min_size=len(near),
            max_size=len(near)))
    for value, (rate, more) in zip(near, rates):
        # a share of it, and as many pixels of what is beside it
        mask = np.zeros(shape, bool)
        inside = np.flatnonzero(scene.values == value)
        beside = rng.permutation(np.flatnonzero(scene.values != value))
        mask.flat[inside[:round(rate * inside.size)]] = True
        mask.flat[beside[:round(more * inside.size)]] = True
        id_ = value // 1000 if value >= 1000 else value
        scene.instances.append((id_, draw(strategies.SCORES), mask))
    ids = draw(
        st.lists(st.sampled_from(THINGS + STUFF), min_size=6, max_size=6))
    semantic = np.array(ids)[draw(strategies.channel_maps(shape, 6))]
    right = (rng.random(shape) < draw(st.sampled_from([0, .6, 1]))) & np.isin(
        scene.ids, THINGS + STUFF)
    scene.semantic = np.where(right, scene.ids, semantic)
    scene.panoptic = np.zeros(shape, np.int64)
    return scene


@st.composite
def data_sets(draw):
    return [
        draw(scenes(f'aachen_000000_{i:06d}'))
        for i in range(draw(st.integers(1, 3)))
    ]


def scores_of(metric, data):
    scores = run_metric(metric, [sample_of(scene) for scene in data], META)
    return scores, metric.by_class


@given(data_sets())
def test_ap_is_that_of_the_script(data):
    scores, by_class = scores_of(CityscapesInstanceAPMetric(), data)
    known = []
    for name, column in instance_scores(data).items():
        # where the script stops, all predictions are forgiven
        column = [0. if value is None else value for value in column]
        assert same(by_class[name]['AP'], sum(column) / 10), name
        assert same(by_class[name]['AP50'], column[0]), name
        if not math.isnan(column[0]):
            known.append(column)
    for key, values in (('mAP', [sum(c) / 10 for c in known]),
                        ('AP@50', [c[0] for c in known])):
        assert same(scores[f'cityscapes/{key}'], known_mean(values))


@given(data_sets())
def test_iou_and_iiou_are_those_of_the_script(data):
    scores, by_class = scores_of(CityscapesSemanticIoUMetric(), data)
    classes, categories = pixel_scores(data)
    for name in META['classes']:
        for key, value in zip(('IoU', 'iIoU'), classes[name]):
            ours = by_class[name].get(key, math.nan)
            assert same(ours, 100 * value), (name, key)
    for kind, suffix in ((classes, ''), (categories, '_category')):
        for i, key in enumerate(('mIoU', 'iIoU')):
            mean = known_mean(values[i] for values in kind.values())
            assert same(scores[key + suffix], 100 * mean), key + suffix
