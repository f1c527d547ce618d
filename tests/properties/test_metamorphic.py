"""What must not change the scores, and what must change them in a known way.

No expected number is known here: a data set is changed, and its scores are
compared with those of before. PQ, box and mask AP, mIoU and fIoU, also of
each class, are read from files and evaluated as in a run; Cityscapes' metrics
judge samples in memory, on the same way from the loader on.

Scores are equal to the bit where images are only dealt out in another way.
Where they are added up in another order, sums of floats may differ in their
last bits; AP that is rounded to three digits is compared by class, too, where
it is not.
"""
import json
import math
import os
import signal
import tempfile
import time
import traceback
from dataclasses import replace
from itertools import chain
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mmengine.fileio import load
from pycocotools import mask as rle_tools

from mmengine_exact.errors import InputError
from panoptic_fpn.metrics import base
from panoptic_fpn.metrics.extra_measures import EXTRA
from tests.oracles.cityscapes_scenes import random_scenes
from tests.panoptic_fpn.metrics.cityscapes import META, sample_of
from tests.panoptic_fpn.metrics.data import clone, same_samples
from tests.panoptic_fpn.metrics.test_evaluator import CITYSCAPES_METRICS

from . import evaluation as ev
from .strategies import SEEDS

#: An example is two evaluations, from files to scores.
EXAMPLES = int(os.environ.get('PROPERTY_EXAMPLES', 4))
few = settings(max_examples=EXAMPLES)


def scores_of(case, **kwargs):
    with tempfile.TemporaryDirectory() as folder:
        return ev.evaluate(case, Path(folder), **kwargs)


def assert_same(found, expected, keys=None, exact=False):
    """NaN is equal to NaN; sums in another order differ by rounding."""
    keys = expected.keys() if keys is None else keys
    assert exact is False or found.keys() == expected.keys()
    assert keys, 'nothing is compared'
    for key in keys:
        a, b = found[key], expected[key]
        if math.isnan(b):
            assert math.isnan(a), key
        elif exact:
            assert a == b, key
        else:
            assert a == pytest.approx(b, rel=1e-12, abs=1e-12), key


def test_the_comparison_can_fail():
    """One pixel of a thing, found or not, is more than rounding."""
    case = ev.random_case(5)

    def dented(found):
        codes = found['panoptic'].copy()
        codes.flat[np.flatnonzero(codes >= 1000)[:1]] = len(case.names) - 1
        return dict(found, panoptic=codes)

    changed = ev.change_images(case, lambda image: image, dented)
    with pytest.raises(AssertionError, match='coco_panoptic/PQ'):
        assert_same(scores_of(changed), scores_of(case))


@few
@given(seed=SEEDS, axis=st.sampled_from([-1, -2]))
def test_mirrored_images_have_the_scores(seed, axis):
    case = ev.random_case(seed)
    assert_same(scores_of(ev.flipped(case, axis)), scores_of(case))


@few
@given(seed=SEEDS)
def test_categories_have_the_scores_under_other_ids(seed):
    """Other labels, too. Scores by class are those of the names."""
    case, rng = ev.random_case(seed), ev.shuffler(seed)
    assert_same(
        scores_of(ev.with_other_category_ids(case, rng)), scores_of(case))


@few
@given(seed=SEEDS)
def test_segments_have_the_scores_in_other_colours(seed):
    case, rng = ev.random_case(seed), ev.shuffler(seed)
    assert_same(
        scores_of(ev.with_other_segment_ids(case, rng)),
        scores_of(case),
        exact=True)


def matches_are_clear(case):
    """Whether no detection has as much of one instance as of another: COCO's
    protocol takes the later one of the annotation."""
    for image in case.data.images:
        found = case.found[image.image_id]
        for label, mask in zip(found['labels'], found['masks']):
            masks = [
                image.id_map == s['id'] for s in image.segments
                if name_of(case, s['category_id']) == case.names[label]
            ]
            if len(masks) < 2:
                continue
            rles = [
                rle_tools.encode(np.asfortranarray(m, np.uint8))
                for m in [mask, *masks]
            ]
            boxes = [rle_tools.toBbox(rle) for rle in rles]
            crowd = [0] * len(masks)
            for one, others in ((rles[:1], rles[1:]), (np.array(boxes[:1]),
                                                       np.array(boxes[1:]))):
                near = rle_tools.iou(one, others, crowd)[0]
                near = near[near >= 0.5]
                if len(set(near.tolist())) < len(near):
                    return False
    return True


def name_of(case, category_id):
    return next(c['name'] for c in case.data.categories
                if c['id'] == category_id)


@few
@given(seed=SEEDS)
def test_order_of_segments_does_not_matter(seed):
    """That of crowd segments stays, and no detection matches two instances
    equally well: see the next two tests."""
    case, rng = ev.random_case(seed), ev.shuffler(seed)
    assume(matches_are_clear(case))
    assert_same(
        scores_of(ev.with_segments_in_another_order(case, rng)),
        scores_of(case))


@few
@given(seed=SEEDS)
def test_order_of_crowd_decides_about_false_positives_alone(seed):
    """panopticapi looks at the last crowd segment of a class only. What is
    found, and how well, does not depend on it; nor does the semantic map."""
    case, rng = ev.random_case(seed), ev.shuffler(seed)
    before = scores_of(case)
    changed = scores_of(ev.with_segments_in_another_order(case, rng, True))
    assert_same(changed, before, [
        key for key in before
        if key in ('mIoU', 'fIoU', 'mIoU_stuff', 'coco_panoptic/PQ_st',
                   'coco_panoptic/SQ') or key[-1] in ('SQ', 'IoU')
    ])


def test_of_two_equal_matches_one_is_right():
    """A detection that is two instances of equal size, whichever is first:
    one is found by it, and its box finds one or none."""
    case = ev.random_case(0, num_images=1)
    things = [c for c in case.data.categories if c['isthing']]
    image = case.data.images[0]
    id_map = np.zeros((20, 20), np.int64)
    id_map[:10], id_map[10:] = 1, 2
    segments = [
        dict(id=i, category_id=things[0]['id'], iscrowd=0) for i in (1, 2)
    ]
    label = case.names.index(things[0]['name'])
    found = dict(
        panoptic=np.full((20, 20), label + 1000),
        semantic=np.full((20, 20),
                         len(case.names) - 1 - 4),
        bboxes=np.array([[0, 0, 20, 20]], np.float32),
        scores=np.array([.9], np.float32),
        labels=np.array([label]),
        masks=np.ones((1, 20, 20), bool))
    scores = []
    for order in (1, -1):
        one = ev.with_images(
            case, [replace(image, id_map=id_map, segments=segments[::order])],
            {image.image_id: found})
        assert not matches_are_clear(one)
        scores.append(scores_of(one))
    assert_same(*scores, exact=True)
    assert scores[0]['coco/segm_mAP_50'] == pytest.approx(.505, abs=.001)
    assert scores[0]['coco_panoptic/PQ_th'] == 0


@few
@given(seed=SEEDS)
def test_order_of_detections_and_numbers_of_things_do_not_matter(seed):
    case, rng = ev.random_case(seed), ev.shuffler(seed)
    assert_same(
        scores_of(ev.with_detections_in_another_order(case, rng)),
        scores_of(case))


@few
@given(seed=SEEDS, strings=st.booleans())
def test_images_have_the_scores_under_other_ids(seed, strings):
    """They are added up in another order. (With equal scores of detections
    the ids would decide which comes first.)"""
    case, rng = ev.random_case(seed), ev.shuffler(seed)
    assert_same(
        scores_of(ev.with_other_image_ids(case, rng, strings)),
        scores_of(case))


@few
@given(seed=SEEDS, equal=st.booleans())
def test_order_of_images_does_not_matter_to_a_bit(seed, equal):
    """Not even where all detections have the same score: they are sorted by
    the ids of their images, whatever the order of these."""
    case, rng = ev.random_case(seed), ev.shuffler(seed)
    if equal:
        case = ev.change_images(
            case, lambda image: image, lambda found: dict(
                found, scores=np.full_like(found['scores'], 0.5)))
    assert_same(
        scores_of(ev.with_images_in_another_order(case, rng)),
        scores_of(case),
        exact=True)


@few
@given(seed=SEEDS, factor=st.integers(2, 4))
def test_larger_pixels_have_the_scores(seed, factor):
    """But for AP of small, medium and large instances, which changes by
    nature: it has fixed limits in pixels."""
    case = ev.random_case(seed)
    before = scores_of(case)
    assert_same(
        scores_of(ev.enlarged(case, factor)), before,
        [key for key in before if key[-2:] not in ('_s', '_m', '_l')])


@few
@given(seed=SEEDS)
def test_a_void_image_changes_nothing(seed):
    """What is predicted where nothing is annotated is not judged. (Except
    detections, which are false in COCO's protocol: here are none.)"""
    case = ev.random_case(seed, string_ids=True)
    more = ev.joined(case, ev.uniform(case, None, len(case.names) - 2))
    assert_same(scores_of(more), scores_of(case))


@few
@given(seed=SEEDS, right=st.booleans())
def test_an_image_changes_the_classes_in_it_alone(seed, right):
    """An image of one stuff class, found as itself or as another one: all
    other classes, and AP, keep their scores."""
    case = ev.random_case(seed, string_ids=True)
    things = sum(c['isthing'] for c in case.data.categories)
    real = case.names[things]
    category = next(c for c in case.data.categories if c['name'] == real)
    wrong = things if right else things + 1
    more = ev.joined(case, ev.uniform(case, category['id'], wrong))
    before = scores_of(case)
    there = {real, case.names[wrong]}
    after = scores_of(more)
    kept = [
        key for key in before if key[0] not in there if isinstance(key, tuple)
        or key.startswith('coco/') or key.endswith('_th')
    ]
    assert_same(after, before, kept)
    # and it does change what it has
    key = (real, 'IoU')
    gain = after[key] - before[key]
    assert math.isnan(gain) or (gain >= 0 if right else gain <= 0)


@few
@given(seed=SEEDS)
def test_a_data_set_twice_has_the_scores(seed):
    """AP, too: a detection and its copy have equal scores and follow one
    another, so precision has its maxima at the recalls of before."""
    case = ev.random_case(seed)
    copies = ev.with_other_image_ids(case, ev.shuffler(seed), strings=False)
    shifted = ev.with_images(case, [
        replace(
            image,
            image_id=image.image_id + 10**7,
            file_name=f'copy {image.file_name}',
            png_name=f'copy {image.png_name}') for image in copies.data.images
    ], {
        id_ + 10**7: found
        for id_, found in copies.found.items()
    })
    assert_same(scores_of(ev.joined(case, shifted)), scores_of(case))


@pytest.mark.parametrize('batch_size,workers', [(2, 0), (3, 2), (4, 1)])
def test_batches_and_workers_do_not_matter_to_a_bit(batch_size, workers):
    case = ev.random_case(11, num_images=5)
    assert_same(
        scores_of(case, batch_size=batch_size, workers=workers),
        scores_of(case),
        exact=True)


def cityscapes(seed, number=3):
    return [sample_of(scene) for scene in random_scenes(seed, number)]


def cityscapes_scores(samples, **kwargs):
    return ev.evaluate_samples(samples, META, CITYSCAPES_METRICS, **kwargs)


def mirrored(sample, axis):
    sample = clone(sample)
    for key in ('gt_panoptic_seg', 'pred_panoptic_seg', 'pred_sem_seg'):
        sample[key]['sem_seg'] = sample[key]['sem_seg'].flip(axis)
    masks = sample['pred_instances']['masks']
    sample['pred_instances']['masks'] = masks.flip(axis)
    return sample


def renamed(samples, rng):
    """Other ids, so that images are added up in another order."""
    names = rng.sample(range(1000), len(samples))
    return [
        dict(sample, img_id=f'town_{name:06d}_000019')
        for sample, name in zip(samples, names)
    ]


def redetected(sample, rng):
    order = list(range(len(sample['pred_instances']['scores'])))
    rng.shuffle(order)
    return dict(
        sample,
        pred_instances={
            key: value[order]
            for key, value in sample['pred_instances'].items()
        })


def void(sample):
    """An image in which nothing is annotated, and nothing detected."""
    sample = clone(sample)
    sample['gt_panoptic_seg']['sem_seg'].fill_(19)
    return dict(
        sample,
        img_id='void_000000_000019',
        gt_codes=[],
        crowd_codes=[],
        pred_instances={
            key: value[:0]
            for key, value in sample['pred_instances'].items()
        })


@few
@given(seed=st.integers(0, 10**6))
def test_cityscapes_scores(seed):
    """Their classes are fixed, so these keep their ids. Larger pixels change
    AP and iIoU by nature: both know sizes in pixels. Equal scores of
    detections, of which there are many, do not matter here."""
    samples, rng = cityscapes(seed), ev.shuffler(seed)
    expected = cityscapes_scores(samples)
    assert {'cityscapes/mAP', 'iIoU', 'mIoU_category'} <= set(expected)
    for axis in (-1, -2):
        assert_same(
            cityscapes_scores([mirrored(s, axis) for s in samples]), expected)
    assert_same(cityscapes_scores(renamed(samples, rng)), expected)
    assert_same(
        cityscapes_scores([redetected(s, rng) for s in samples]), expected)
    assert_same(
        cityscapes_scores(samples[::-1], batch_size=2), expected, exact=True)
    assert_same(cityscapes_scores(samples + [void(samples[0])]), expected)
    assert_same(cityscapes_scores(samples + renamed(samples, rng)), expected)


@few
@given(seed=st.integers(0, 10**6), data=st.data())
def test_any_split_over_processes_gives_the_bits_of_one(seed, data):
    """Also with images that several processes, or one twice, have judged."""
    samples = cityscapes(seed, 4)
    world = data.draw(st.sampled_from([1, 2, 3, 5]))
    owners = data.draw(
        st.lists(st.integers(0, world - 1), min_size=4, max_size=4))
    again = data.draw(
        st.lists(
            st.tuples(st.integers(0, world - 1), st.integers(0, 3)),
            max_size=6))
    deals = [(owner, i) for i, owner in enumerate(owners)] + again
    ranks = []
    for rank in range(world):
        mine = [samples[i] for owner, i in deals if owner == rank]
        if mine:
            ranks.append(
                ev.process(ev.Kept(mine, META), itself, CITYSCAPES_METRICS)[0])
    assert_same(
        together(ranks, len(samples)), cityscapes_scores(samples), exact=True)


def itself(built):
    return built


def together(ranks, size):
    """Scores of evaluators that hold the images of different processes, as
    the first process computes them."""
    rows = iter([[evaluator.metrics[i].results for evaluator in ranks]
                 for i in range(len(ranks[0].metrics))])
    with mock.patch.object(base, 'gather_rows',
                           lambda own: list(chain(*next(rows)))):
        return ev.judged(ranks[0], size)


#: Images of the data sets, and of batches, that forks divide.
SIZES = [(2, 2), (4, 1)]
#: hotcoco has threads of its own, which do not survive a fork.
OPTIONS = dict(
    PanopticInstanceAPMetric=dict(backend='pycocotools'),
    PanopticQualityMetric=dict(extra=EXTRA))
FORKED = [
    dict(metric, **OPTIONS.get(metric['type'], {})) for metric in ev.METRICS
]


def divided(folder, shared):
    """Scores of each data set, by all processes of the group, which write
    results to ``shared``; the error where others' files lie among them."""
    writers = [
        dict(metric, outfile_prefix=f'{shared}/r')
        for metric in CITYSCAPES_METRICS
    ]
    writers.append(
        dict(type='PredictionDump', out_file_path=f'{shared}/r.pkl'))
    found = {}
    for number, batch_size in SIZES:
        case = ev.random_case(number, num_images=number)
        found[f'coco {number}'] = ev.judged(*ev.process(
            ev.write(case, folder / f'{number}'),
            lambda built, case=case: ev.Model(case, built.label_space),
            FORKED,
            batch_size))
        found[f'cityscapes {number}'] = cityscapes_scores(
            cityscapes(number, number), batch_size=batch_size)
    samples = ev.Kept(cityscapes(5, 5), META)
    found['written'] = ev.judged(*ev.process(samples, itself, writers))
    refused = dict(
        CITYSCAPES_METRICS[-1],
        format_only=True,
        outfile_prefix=f'{shared}/refused')
    with pytest.raises(InputError, match='the first is other.png'):
        ev.judged(*ev.process(samples, itself, [refused]))
    return {
        name: {
            str(key): float(value).hex()
            for key, value in scores.items()
        }
        for name, scores in found.items()
    }


def divided_by(world, folder):
    """What each of ``world`` gloo processes says, which are forks."""
    pids = []
    for rank in range(world):
        pids.append(os.fork())
        if pids[-1]:
            continue
        code = 1
        try:
            torch.distributed.init_process_group(
                'gloo',
                init_method=f'file://{folder}/rendezvous',
                rank=rank,
                world_size=world)
            text = json.dumps(divided(folder / f'{rank}', folder / 'many'))
            (folder / f'{rank}.json').write_text(text)
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    waiting, end = set(pids), time.monotonic() + 60
    while waiting and time.monotonic() < end:
        waiting -= {pid for pid in waiting if os.waitpid(pid, os.WNOHANG)[0]}
        time.sleep(0.02)
    for pid in waiting:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not waiting, f'{len(waiting)} processes hang'
    return [
        json.loads((folder / f'{rank}.json').read_text())
        for rank in range(world)
    ]


@pytest.mark.parametrize('world', [
    3,
    pytest.param(2, marks=pytest.mark.slow),
    pytest.param(5, marks=pytest.mark.slow)
])
def test_gloo_processes_count_the_padding_once(tmp_path, world):
    files = []
    for shared in (tmp_path / 'one', tmp_path / 'many'):
        (shared / 'refused.semantic').mkdir(parents=True)
        (shared / 'refused.semantic/other.png').touch()
    first, *others = divided_by(world, tmp_path)
    assert first == divided(tmp_path / 'one', tmp_path / 'one')
    for shared in (tmp_path / 'one', tmp_path / 'many'):
        files.append({
            path.relative_to(shared): path.read_bytes()
            for path in shared.glob('r.*/**/*') if path.is_file()
        })
    assert len(files[0]) > 12 and files[0] == files[1]
    dumps = [load(tmp_path / name / 'r.pkl') for name in ('one', 'many')]
    assert len(dumps[0]) == 5 and same_samples(*dumps)
    for other in others:
        for name, scores in other.items():
            # only the first process has scores by class, and writes them
            kept = {k: v for k, v in first[name].items() if k in scores}
            assert scores == kept and 'coco_panoptic/PQ' in scores
