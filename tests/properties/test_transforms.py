"""From the PNG to the targets: every instance has the pixels of the map.

Where images follow their maps, each pixel's colour is its id, so that an
image moved otherwise than its map would show.
"""
import copy
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mmdet.registry import TRANSFORMS

from mmengine_exact import seeded
from mmengine_exact.errors import CorruptFileError
from panoptic_fpn.data import LoadPanopticMap
from panoptic_fpn.data.load_map import PADDING, segment_values
from panoptic_fpn.labels import LabelSpace
from panoptic_fpn.ops.resize_window import nearest_pixels, resize_window
from tests.oracles.derive import (derive_instances, derive_panoptic,
                                  derive_semantic, labels_of)
from tests.oracles.perturb import PanopticImage, rgb_of_ids
from tests.panoptic_fpn.data.test_crop import assert_same, both

from . import strategies

LOADER = LoadPanopticMap()


@st.composite
def annotated(draw):
    """Categories and an image, sometimes of so many segments that a byte does
    not hold their numbers."""
    categories = draw(strategies.label_spaces())
    if draw(st.integers(0, 4)):
        return categories, draw(
            strategies.panoptic_images(categories, crowd_stuff=True))
    rng = np.random.default_rng(draw(strategies.SEEDS))
    number = draw(st.sampled_from([253, 254, 255, 256, 300]))
    ids = rng.choice(2**24 - 1, number, replace=False) + 1
    id_map = np.resize(ids, (20, 16)).astype(np.int64)
    names = rng.choice([c['id'] for c in categories], number)
    segments = [
        dict(id=int(i), category_id=int(name), iscrowd=int(rng.random() < .1))
        for i, name in zip(ids, names)
    ]
    return categories, PanopticImage(1, 'a.jpg', 'a.png', id_map, segments)


def results_of(image, categories, path=''):
    """What a data set gives to its pipeline."""
    label_of = labels_of(categories)
    return dict(
        img=rgb_of_ids(image.id_map),
        img_path='a.jpg',
        img_shape=image.id_map.shape,
        ori_shape=image.id_map.shape,
        seg_map_path=str(path),
        segments_info=[
            dict(
                id=s['id'],
                category=label_of[s['category_id']],
                iscrowd=s['iscrowd']) for s in image.segments
        ],
        label_space=LabelSpace.from_coco(categories))


def with_map(image, categories):
    """The same with its map, made by the definition of its values."""
    results = results_of(image, categories)
    values = segment_values(len(image.segments))
    dtype = np.uint8 if len(values) < PADDING else np.uint16
    index_map = np.zeros(image.id_map.shape, dtype)
    for value, segment in zip(values, image.segments):
        index_map[image.id_map == segment['id']] = value
    return dict(results, gt_seg_map=index_map)


def ids_of(results):
    """(h, w) ids of a map of values; void and padding are 0."""
    index_map = results['gt_seg_map']
    ids = np.zeros(index_map.shape, np.int64)
    values = segment_values(len(results['segments_info']))
    for value, segment in zip(values, results['segments_info']):
        ids[index_map == value] = segment['id']
    known = np.append(values, [0, PADDING])
    assert np.isin(index_map, known).all()
    return ids


@given(annotated())
def test_loaded_maps_hold_the_ids(case):
    categories, image = case
    with tempfile.TemporaryDirectory() as root:
        path = Path(root, 'a.png')
        cv2.imwrite(str(path), rgb_of_ids(image.id_map)[..., ::-1])
        results = LOADER(results_of(image, categories, path))
        values = segment_values(len(image.segments))
        assert len(set(values.tolist())) == len(values)
        assert not np.isin([0, PADDING], values).any()
        assert (ids_of(results) == image.id_map).all()
        dtype = np.uint8 if len(values) < PADDING else np.uint16
        assert results['gt_seg_map'].dtype == dtype
        if not image.segments:
            return
        # an id that is not listed, or a segment without a pixel, is no map
        free = next(i for i in range(1, 400) if i not in image.id_map)
        one_more = dict(image.segments[0], id=free)
        for wrong in (image.segments[1:], [*image.segments, one_more]):
            listed = results_of(
                replace(image, segments=wrong), categories, path)
            with pytest.raises(CorruptFileError, match=str(path)):
                LOADER(listed)


def check_targets(results, id_map, segments, categories):
    """Targets against plain loops over the ids."""
    expected = derive_instances(id_map, segments, categories)
    assert (results['gt_bboxes'].tensor.numpy() == expected['boxes']).all()
    assert len(results['gt_bboxes']) == len(expected['ids'])
    assert (results['gt_bboxes_labels'] == expected['labels']).all()
    assert (results['gt_ignore_flags'] == expected['crowd']).all()
    masks = results['gt_masks'].masks
    assert masks.shape == expected['masks'].shape
    assert (masks == expected['masks']).all()
    assert (results['gt_seg_map'] == derive_semantic(id_map, segments,
                                                     categories)).all()
    panoptic = derive_panoptic(id_map, segments, categories)
    assert (results['gt_panoptic_map'] == panoptic['map']).all()
    assert results['gt_codes'] == panoptic['codes']
    assert results['crowd_codes'] == panoptic['crowd_codes']


DERIVE = TRANSFORMS.build(dict(type='DerivePanopticTargets', panoptic=True))
PACK = TRANSFORMS.build(dict(type='PackPanopticInputs', meta_keys=()))


@given(annotated())
def test_targets_are_the_pixels_of_the_map(case):
    categories, image = case
    results = DERIVE(with_map(image, categories))
    check_targets(results, image.id_map, image.segments, categories)


SIDES = st.integers(1, 24)
STEPS = st.one_of(
    st.builds(
        dict,
        type=st.just('RandomFlip'),
        prob=st.just(1.0),
        direction=st.sampled_from(['horizontal', 'vertical', 'diagonal'])),
    st.builds(
        dict,
        type=st.just('PanopticRandomCrop'),
        crop_size=st.tuples(SIDES, SIDES),
        bootstrap=st.booleans()))


@given(annotated(), st.lists(STEPS, max_size=4), strategies.SEEDS)
def test_image_and_map_are_flipped_and_cropped_alike(case, steps, seed):
    categories, image = case
    results = with_map(image, categories)
    with seeded(seed):
        for step in steps:
            results = TRANSFORMS.build(step)(results)
    ids = ids_of(results)
    assert results['img'].shape[:2] == ids.shape == results['img_shape'][:2]
    assert (results['img'] == rgb_of_ids(ids)).all()
    # the homography tells where each pixel comes from
    back = np.linalg.inv(results.get('homography_matrix', np.eye(3)))
    y, x = np.indices(ids.shape) + .5
    source = np.einsum('ij,jhw->ihw', back, np.stack([x, y, np.ones_like(x)]))
    cols, rows = np.floor(source[:2]).astype(int)
    assert (image.id_map[rows, cols] == ids).all()
    check_targets(DERIVE(results), ids, image.segments, categories)


@given(annotated(), SIDES, SIDES, st.booleans())
def test_padding_is_void(case, more_rows, more_cols, divisor):
    categories, image = case
    height, width = image.id_map.shape
    size = dict(size_divisor=more_rows) if divisor else dict(
        size=(width + more_cols, height + more_rows))
    results = TRANSFORMS.build(dict(type='Pad', **size))(
        with_map(image, categories))
    assert results['img'].shape[:2] == results['gt_seg_map'].shape
    rows, cols = results['gt_seg_map'].shape
    padded = np.zeros((rows, cols), np.int64)
    padded[:height, :width] = image.id_map
    check_targets(DERIVE(results), padded, image.segments, categories)


@given(annotated())
def test_packing_loses_and_invents_nothing(case):
    categories, image = case
    results = DERIVE(with_map(image, categories))
    sample = PACK(copy.deepcopy(results))['data_samples']
    for part, chosen in ((sample.gt_instances, ~results['gt_ignore_flags']),
                         (sample.ignored_instances,
                          results['gt_ignore_flags'])):
        # as it comes out of another process, too
        for masks in (part.masks, pickle.loads(pickle.dumps(part.masks))):
            assert (masks.masks == results['gt_masks'].masks[chosen]).all()
            assert len(masks) == chosen.sum()
            assert (masks.height, masks.width) == image.id_map.shape
        labels = results['gt_bboxes_labels'][chosen]
        assert part.labels.tolist() == labels.tolist()
        boxes = results['gt_bboxes'].tensor[torch.from_numpy(chosen)]
        assert torch.equal(part.bboxes.tensor, boxes)
    for found, key in ((sample.gt_sem_seg, 'gt_seg_map'),
                       (sample.gt_panoptic_seg, 'gt_panoptic_map')):
        assert (found.sem_seg[0].numpy() == results[key]).all()


@given(st.integers(1, 400), st.integers(1, 400))
def test_resized_pixels_show_what_is_below_their_centre(source, resized):
    """By whole numbers; on a border either neighbour will do, also within
    OpenCV's fixed point."""
    pixels = nearest_pixels(source, resized)
    assert len(pixels) == resized
    for place, pixel in enumerate(pixels.tolist()):
        # the centre, in 2 * resized parts of a source pixel
        centre = (2 * place + 1) * source
        low, high = 2 * resized * pixel, 2 * resized * (pixel + 1)
        slack = resized / 50
        assert low - slack <= centre <= high + slack
        assert 0 <= pixel < source


@given(annotated(), SIDES, SIDES)
def test_resized_maps_show_their_source(case, height, width):
    categories, image = case
    results = TRANSFORMS.build(
        dict(type='PanopticResize', scale=(width, height), keep_ratio=False))(
            with_map(image, categories))
    rows = nearest_pixels(image.id_map.shape[0], height)
    cols = nearest_pixels(image.id_map.shape[1], width)
    assert results['img'].shape[:2] == (height, width)
    check_targets(
        DERIVE(results), image.id_map[rows][:, cols], image.segments,
        categories)


@given(annotated(), st.data(), strategies.SEEDS)
def test_scale_and_crop_in_one_step_are_both(case, data, seed):
    categories, image = case
    factor = data.draw(st.sampled_from([1, 2, 3, 9]))
    larger = np.kron(image.id_map, np.ones((factor, factor), np.int64))
    image = replace(image, id_map=larger)
    rng = np.random.default_rng(seed)
    results = with_map(image, categories)
    results['img'] = rng.integers(0, 256, results['img'].shape, np.uint8)
    if data.draw(st.booleans()):
        results['drawn_label'] = data.draw(st.integers(0, len(categories)))
    if data.draw(st.booleans()):
        results['homography_matrix'] = np.diag([2, 3, 1]).astype(np.float32)
    low = data.draw(st.floats(.04, 4))
    two, one = both(
        scale=data.draw(st.tuples(st.integers(1, 80), st.integers(1, 80))),
        crop_size=data.draw(st.tuples(st.integers(1, 90), st.integers(1, 90))),
        ratio_range=(low, low + data.draw(st.floats(0, 2))),
        keep_ratio=data.draw(st.booleans()),
        bootstrap=data.draw(st.booleans()))
    before = copy.deepcopy(results)
    with seeded(seed):
        try:
            expected = two(copy.deepcopy(results))
        except cv2.error:
            # an image of no pixel
            assume(False)
        after = np.random.rand()
    with seeded(seed):
        ours = one(dict(results))
        assert np.random.rand() == after
    assert_same(ours, expected)
    assert (results['img'] == before['img']).all()
    assert (ids_of(results) == image.id_map).all()
    ids = ids_of(ours)
    check_targets(DERIVE(ours), ids, image.segments, categories)


@given(st.data())
def test_a_window_of_a_resized_image(data):
    sides = st.integers(1, 90)
    size, resized = (data.draw(st.tuples(sides, sides)) for _ in range(2))
    y, x = (data.draw(st.integers(0, n - 1)) for n in resized)
    height, width = (data.draw(st.integers(1, n - first))
                     for n, first in zip(resized, (y, x)))
    rng = np.random.default_rng(data.draw(strategies.SEEDS))
    image = rng.integers(0, 256, size + (3, ), np.uint8)
    if data.draw(st.booleans()):  # the largest steps between neighbours
        image = np.where(image < 128, 0, 255).astype(np.uint8)
    window = resize_window(image, resized, (y, x, height, width))
    whole = cv2.resize(image, resized[::-1])[y:y + height, x:x + width]
    assert window.shape == whole.shape and window.dtype == np.uint8
    assert cv2.absdiff(window, np.ascontiguousarray(whole)).max() <= 1


@given(annotated(), SIDES, SIDES, strategies.SEEDS)
def test_a_crop_around_a_class_shows_it(case, height, width, seed):
    categories, image = case
    results = with_map(image, categories)
    labels = derive_semantic(image.id_map, image.segments, categories)
    present = sorted({int(v) for v in np.unique(labels) if v >= 0})
    assume(present)
    wanted = present[seed % len(present)]
    crop = TRANSFORMS.build(
        dict(
            type='PanopticRandomCrop',
            crop_size=(height, width),
            bootstrap=True))
    with seeded(seed):
        cropped = crop(dict(results, drawn_label=wanted))
    found = DERIVE(cropped)['gt_seg_map']
    assert found.shape == (min(height,
                               labels.shape[0]), min(width, labels.shape[1]))
    assert (found == wanted).any()
