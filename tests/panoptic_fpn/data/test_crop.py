"""Crops against the label image itself, at the place the crop says it has;
scale and crop in one step against ``RandomResize``, then a crop.
"""
import copy
import itertools
from collections import Counter

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label
from mmcv.transforms import Compose
from mmcv.transforms.utils import cache_random_params
from mmdet.registry import TRANSFORMS
from PIL import Image

from mmengine_exact import seeded
from mmengine_exact.errors import InputError
from panoptic_apps.convert_data import prepare
from panoptic_apps.toy_data.miniature import make_miniature
from panoptic_fpn.data import CityscapesPanopticDataset, PanopticRandomCrop
from panoptic_fpn.data.geometry import draw_pixel
from panoptic_fpn.data.load_map import segment_values
from panoptic_fpn.ops.resize_window import nearest_pixels
from panoptic_fpn.training.class_uniform import ClassUniformInfiniteSampler
from tests.oracles.crop import pixel_of_class

CROP = (64, 128)
#: Things by id, then stuff by id: written down here, not read from our code.
ORDER = [24, 25, 26, 27, 28, 31, 32, 33, 7, 8, 11, 12, 13, 17, 19, 20, 21, 22]
ORDER.append(23)
LABEL = {id_: label for label, id_ in enumerate(ORDER)}


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'cityscapes'
    make_miniature(
        str(root), splits=dict(train=6, val=4, test=1), size=(128, 256))
    prepare(str(root), splits=('train', 'val'), num_workers=1)
    return CityscapesPanopticDataset(
        data_root=str(root),
        ann_file='gtFine/panoptic_fpn_train.json',
        data_prefix=dict(img='leftImg8bit/train/', seg='gtFine/train/'),
        pipeline=[
            dict(type='LoadPanopticImage'),
            dict(type='LoadPanopticMap'),
        ])


def pipeline(bootstrap):
    return Compose([
        TRANSFORMS.build(cfg) for cfg in (
            dict(
                type='RandomResize',
                resize_type='PanopticResize',
                scale=(256, 128),
                ratio_range=(0.5, 2.0),
                keep_ratio=True),
            dict(
                type='PanopticRandomCrop', crop_size=CROP,
                bootstrap=bootstrap),
            dict(type='RandomFlip', prob=0.5),
            dict(type='DerivePanopticTargets'),
        )
    ])


def source_of(results, values):
    """Values of the label image (h, w) at the pixels of a crop.

    The homography is flip x crop x resize.
    """
    matrix = results['homography_matrix'].astype(np.float64)
    height, width = results['img'].shape[:2]
    flipped = matrix[0, 0] < 0
    new_w = round(abs(matrix[0, 0]) * values.shape[1])
    new_h = round(matrix[1, 1] * values.shape[0])
    x = np.arange(width)
    if flipped:
        x = width - 1 - x
    offset = matrix[0, 2] - width if flipped else -matrix[0, 2]
    x = x + round(offset)
    y = np.arange(height) - round(matrix[1, 2])
    assert x.min() >= 0 and x.max() < new_w
    assert y.min() >= 0 and y.max() < new_h
    rows = source_pixels(values.shape[0], new_h)[y]
    cols = source_pixels(values.shape[1], new_w)[x]
    return values[rows[:, None], cols]


def source_pixels(size, resized):
    """Source pixel of each resized one: it holds its centre, and where the
    centre is on a border (in OpenCV's fixed point) either neighbour may."""
    ruler = np.arange(size, dtype=np.float32)[None]
    pixels = cv2.resize(
        ruler, (resized, 1),
        interpolation=cv2.INTER_NEAREST_EXACT)[0].astype(int)
    centers = (np.arange(resized) + 0.5) * size / resized
    assert np.abs(pixels + 0.5 - centers).max() < 0.51
    return pixels


def semantic_of(values):
    ids = np.where(values >= 1000, values // 1000, values)
    table = np.array([LABEL.get(i, -1) for i in range(ids.max() + 1)])
    return table[ids]


@pytest.mark.parametrize('bootstrap', [False, True], ids=['plain', 'boot'])
def test_crops_are_what_the_label_image_says(dataset, bootstrap):
    transform = pipeline(bootstrap)
    loaded = [dataset[i] for i in range(len(dataset))]
    truth = [np.array(Image.open(r['seg_map_path'])) for r in loaded]
    instances = empty = 0
    for number in range(400):
        index = number % len(loaded)
        with seeded(number):
            results = transform(copy.deepcopy(loaded[index]))
        values = source_of(results, truth[index])
        assert results['img'].shape == CROP + (3, )
        assert (results['gt_seg_map'] == semantic_of(values)).all()
        expected = {
            int(v)
            for v in np.unique(values)
            if id2label[v // 1000 if v >= 1000 else v].hasInstances
            and not id2label[v // 1000 if v >= 1000 else v].ignoreInEval
        }
        seen = set()
        for mask, box, label, crowd in zip(results['gt_masks'].masks,
                                           results['gt_bboxes'].numpy(),
                                           results['gt_bboxes_labels'],
                                           results['gt_ignore_flags']):
            rows, cols = np.nonzero(mask)
            assert box.tolist() == [
                cols.min(),
                rows.min(),
                cols.max() + 1,
                rows.max() + 1
            ]
            value = int(values[rows[0], cols[0]])
            assert ((values == value) == mask.astype(bool)).all()
            assert LABEL[value // 1000 if value >= 1000 else value] == label
            assert crowd == (value < 1000)
            seen.add(value)
        assert seen == expected
        assert len(results['gt_bboxes_labels']) == len(expected)
        instances += len(seen)
        empty += not seen
    # the test has seen what it is about
    assert instances > 400 and empty > 0


def test_the_drawn_class_is_in_the_crop(dataset):
    """Pixel by pixel: crops of 1 x 1 show the class and nothing else."""
    crop = TRANSFORMS.build(
        dict(type='PanopticRandomCrop', crop_size=1, bootstrap=True))
    derive = TRANSFORMS.build(
        dict(type='DerivePanopticTargets', instances=False))
    sampler = ClassUniformInfiniteSampler(dataset, seed=2)
    found = Counter()
    for index in itertools.islice(sampler, 800):
        info = dataset[index]
        assert info['drawn_label'] == index.label
        with seeded(index.seed):
            label = derive(crop(info))['gt_seg_map'].item()
        assert label == index.label
        found[label] += 1
    # 19 classes, uniformly: 42 of each, sigma 6
    assert len(found) == 19
    assert 16 < min(found.values()) <= max(found.values()) < 72
    assert dataset[0]['drawn_label'] is None


def test_without_the_sampler_a_class_of_the_image_is_drawn(dataset):
    crop = TRANSFORMS.build(
        dict(type='PanopticRandomCrop', crop_size=(1, 1), bootstrap=True))
    derive = TRANSFORMS.build(
        dict(type='DerivePanopticTargets', instances=False))
    info = dataset[0]
    present = {s['category'] for s in info['segments_info']}
    # of a class that scaling removed, too
    info['drawn_label'] = 99
    found = Counter()
    for number in range(1000):
        with seeded(number):
            results = derive(crop(copy.deepcopy(info)))
        found[results['gt_seg_map'].item()] += 1
    assert set(found) == present  # never void
    mean = 1000 / len(present)
    assert max(abs(n - mean) for n in found.values()) < 5 * np.sqrt(mean)


@pytest.mark.parametrize('step', [
    dict(type='PanopticRandomCrop'),
    dict(type='PanopticRandomResizeCrop', scale=(9, 9), ratio_range=(1, 1))
])
def test_void_alone_and_no_segments_are_cropped_anywhere(step):
    crop = TRANSFORMS.build(dict(step, crop_size=(8, 6), bootstrap=True))
    for value, segments in ((255, [dict(id=7, category=0,
                                        iscrowd=0)]), (0, [])):
        results = crop(
            dict(
                img=np.zeros((5, 9, 3), np.uint8),
                gt_seg_map=np.full((5, 9), value, np.uint8),
                segments_info=segments))
        assert results['img'].shape == (5, 6, 3)
        assert results['gt_seg_map'].shape == (5, 6)


def test_each_window_with_the_pixel_is_equally_likely():
    """One labelled pixel at (2, 3) of 6 x 8; windows of 3 x 4 with it."""
    crop = TRANSFORMS.build(
        dict(type='PanopticRandomCrop', crop_size=(3, 4), bootstrap=True))
    corners = {}
    for number in range(1200):
        index_map = np.zeros((6, 8), np.uint8)
        index_map[2, 3] = 1
        with seeded(number):
            results = crop(
                dict(
                    img=np.zeros((6, 8, 3), np.uint8),
                    gt_seg_map=index_map,
                    segments_info=[dict(id=1, category=0, iscrowd=0)]))
        assert results['gt_seg_map'].sum() == 1
        matrix = results['homography_matrix']
        corner = (-matrix[1, 2], -matrix[0, 2])
        corners[corner] = corners.get(corner, 0) + 1
    assert set(corners) == {(y, x) for y in range(3) for x in range(4)}
    assert 55 < min(corners.values()) <= max(corners.values()) < 145


#: Steps, what is said of them, whether instances are derived. (A crop of the
#: semantic map alone is no mistake.)
ORDERS = [(order, words, instances) for order, words in (
    (['crop', 'map', 'derive'], 'gt_seg_map is'),
    (['resize', 'map', 'derive'], 'gt_seg_map is'),
    (['flip', 'map', 'derive'], 'before RandomFlip'),
) for instances in (True, False)]
ORDERS.append((['map', 'derive', 'crop'], 'gt_masks is', True))


@pytest.mark.parametrize('order, words, instances', ORDERS)
def test_an_order_that_would_train_on_other_targets(dataset, order, words,
                                                    instances):
    """Without instances nothing else would notice."""
    steps = dict(
        map=dict(type='LoadPanopticMap'),
        crop=dict(type='PanopticRandomCrop', crop_size=CROP),
        resize=dict(type='PanopticResize', scale=(128, 64)),
        flip=dict(type='RandomFlip', prob=1.0),
        derive=dict(type='DerivePanopticTargets', instances=instances))
    run = Compose([
        TRANSFORMS.build(cfg)
        for cfg in (dict(type='LoadPanopticImage'), *(steps[name]
                                                      for name in order),
                    dict(type='PackPanopticInputs'))
    ])
    with pytest.raises(InputError, match=words) as error:
        run(dataset.get_data_info(0))
    assert '.png' in str(error.value)


def test_bootstrap_with_more_values_than_segments():
    """``ignored_ids`` follow the segments in the map, beyond 255 here."""
    values = segment_values(270)
    index_map = np.resize(values, (30, 40)).astype(np.uint16)
    results = dict(
        img=np.zeros((30, 40, 3), np.uint8),
        gt_seg_map=index_map,
        segments_info=[dict(category=i % 7) for i in range(250)],
        ignored_ids=list(range(20)))
    cropped = PanopticRandomCrop((8, 8), bootstrap=True)(results)
    assert cropped['gt_seg_map'].shape == (8, 8)


def both(scale, crop_size, bootstrap=False, keep_ratio=True, **kwargs):
    """The two transforms, and the one."""
    two = [
        dict(
            type='RandomResize',
            resize_type='PanopticResize',
            scale=scale,
            keep_ratio=keep_ratio,
            **kwargs),
        dict(
            type='PanopticRandomCrop',
            crop_size=crop_size,
            bootstrap=bootstrap)
    ]
    one = dict(
        type='PanopticRandomResizeCrop',
        scale=scale,
        crop_size=crop_size,
        keep_ratio=keep_ratio,
        bootstrap=bootstrap,
        **kwargs)
    return Compose([TRANSFORMS.build(c) for c in two]), TRANSFORMS.build(one)


def assert_same(ours, expected):
    assert set(ours) == set(expected)
    assert ours['gt_seg_map'].dtype == expected['gt_seg_map'].dtype
    assert (ours['gt_seg_map'] == expected['gt_seg_map']).all()
    assert ours['img'].shape == expected['img'].shape
    assert cv2.absdiff(ours['img'], expected['img']).max() <= 1
    assert ours['homography_matrix'].dtype == np.float32
    assert (ours['homography_matrix'] == expected['homography_matrix']).all()
    for key in ('scale', 'scale_factor', 'keep_ratio', 'img_shape'):
        assert ours[key] == expected[key]


def test_the_pixel_is_of_the_resized_map():
    """Crops of 1 x 1: all pixels of the drawn class equally often, as they
    are after the resizing, which removes class 1 altogether."""
    index_map = np.zeros((8, 8), np.uint8)
    index_map[4:] = 2
    index_map[:, 5:] = 1  # class 0
    gone = nearest_pixels(8, 4)
    hidden = next(i for i in range(8) if i not in gone)
    index_map[hidden, :3] = 3
    info = dict(
        img=np.zeros((8, 8, 3), np.uint8),
        gt_seg_map=index_map,
        segments_info=[
            dict(id=i, category=c, iscrowd=0) for i, c in enumerate([0, 2, 1])
        ])
    crop = TRANSFORMS.build(
        dict(
            type='PanopticRandomResizeCrop',
            scale=(4, 4),
            ratio_range=(1, 1),
            crop_size=1,
            bootstrap=True))
    resized = index_map[gone][:, gone]
    found = Counter()
    for number in range(1200):
        with seeded(number):
            results = crop(dict(info))
        y, x = (-results['homography_matrix'][[1, 0], 2]).astype(int)
        assert results['gt_seg_map'].item() == resized[y, x]
        found[y, x] += 1
    assert set(found) == set(zip(*np.nonzero(np.isin(resized, [1, 2]))))
    for value in (1, 2):
        places = list(zip(*np.nonzero(resized == value)))
        mean = 600 / len(places)
        assert all(abs(found[p] - mean) < 5 * mean**.5 for p in places)


@pytest.mark.parametrize('resized', [False, True])
def test_pixels_of_classes_against_every_pixel(resized):
    """From the same random state the same pixel."""
    rng = np.random.default_rng(2)
    for number in range(120):
        count = int(rng.integers(1, 12)) if number % 6 else 300
        values = segment_values(count)
        labels = rng.integers(0, 4, count)
        shape = rng.integers(1, 50, 2)
        index_map = rng.choice(np.append(values, [0, 255]), shape)
        index_map = cv2.blur(index_map.astype(np.uint16),
                             (1, 1)).reshape(shape)
        rows, cols = map(np.arange, shape)
        if resized:
            rows, cols = (
                nearest_pixels(n, int(rng.integers(1, 2 * n + 1)))
                for n in shape)
        drawn = [None, 0, 1, 99][number % 4]
        with seeded(number):
            expected = pixel_of_class(index_map[rows][:, cols], labels, values,
                                      drawn)
        results = dict(
            gt_seg_map=index_map,
            drawn_label=drawn,
            segments_info=[dict(category=int(v)) for v in labels])
        with seeded(number):
            found = draw_pixel(results, rows, cols)
        assert found == expected


def test_cached_random_numbers_give_one_window(dataset):
    """mmcv's way to treat several images alike; an image may have no map."""
    _, one = both((256, 128), (16, 16), ratio_range=(.5, 2.), bootstrap=True)
    info = dataset[0]
    with cache_random_params(one):
        first, second = one(dict(info)), one(dict(info))
    assert (first['gt_seg_map'] == second['gt_seg_map']).all()
    assert first['scale'] == second['scale']
    assert 'bootstrap=True' in repr(one) and '(16, 16)' in repr(one)
    results = one(dict(info, gt_seg_map=None, segments_info=None))
    assert results['img'].shape == (16, 16, 3)
