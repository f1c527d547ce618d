"""Scale and crop in one step against ``RandomResize``, then a crop: maps bit
by bit, images within one grey level of OpenCV's resizing of the whole."""
import copy
from collections import Counter

import cv2
import numpy as np
import pytest
from mmcv.transforms import Compose
from mmcv.transforms.utils import cache_random_params
from mmdet.registry import TRANSFORMS

from mmengine_exact import seeded
from mmengine_exact.errors import InputError
from panoptic_fpn.data.geometry import draw_pixel
from panoptic_fpn.data.load_map import segment_values
from panoptic_fpn.ops.resize_window import nearest_pixels
from tests.oracles.crop import pixel_of_class


def scene(seed, size, num_segments=6):
    """Image and map with void and padding in it; classes 0, 1, 2."""
    rng = np.random.default_rng(seed)
    values = segment_values(num_segments)
    dtype = np.uint8 if num_segments < 255 else np.uint16
    cells = [max(1, n // 9) for n in size]
    coarse = rng.choice(np.append(values, [0, 255]), cells).astype(dtype)
    index_map = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_NEAREST)
    return dict(
        img=rng.integers(0, 256, (*size, 3)).astype(np.uint8),
        img_shape=size,
        gt_seg_map=index_map,
        segments_info=[
            dict(id=i, category=i % 3, iscrowd=0) for i in range(num_segments)
        ])


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


@pytest.mark.parametrize('bootstrap', [False, True], ids=['plain', 'boot'])
@pytest.mark.parametrize('options', [
    dict(scale=(256, 128), ratio_range=(0.5, 2.0), crop_size=(64, 128)),
    dict(scale=(256, 128), ratio_range=(0.5, 2.0), crop_size=(500, 90)),
    dict(scale=(256, 128), ratio_range=(1.0, 1.0), crop_size=50),
    dict(scale=(256, 128), ratio_range=(0.04, 0.2), crop_size=(3, 7)),
    dict(scale=(256, 128), ratio_range=(4.0, 6.0), crop_size=(90, 91)),
    dict(scale=[(100, 60), (300, 200)], crop_size=(64, 64)),
    dict(
        scale=(256, 128),
        ratio_range=(0.5, 2.0),
        crop_size=(64, 128),
        keep_ratio=False),
])
def test_the_same_random_state_gives_the_same_crop(options, bootstrap):
    if isinstance(options['scale'], list):
        options = dict(options, scale=[tuple(s) for s in options['scale']])
    two, one = both(bootstrap=bootstrap, **options)
    for number, size in enumerate([(128, 256), (127, 255), (200, 90),
                                   (33, 41)] * 6):
        info = scene(number, size, 300 if number % 5 == 0 else 6)
        if number % 3 == 0:
            info['drawn_label'] = number % 4
        if number % 7 == 0:
            info['homography_matrix'] = np.diag([2, 3, 1]).astype(np.float32)
        image, index_map = info['img'].copy(), info['gt_seg_map'].copy()
        with seeded(number):
            expected = two(copy.deepcopy(info))
            after = np.random.rand()
        with seeded(number):
            ours = one(dict(info))
            # as many random numbers were drawn
            assert np.random.rand() == after
        assert_same(ours, expected)
        assert (info['img'] == image).all()
        assert (info['gt_seg_map'] == index_map).all()


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
    for number in range(3000):
        with seeded(number):
            results = crop(dict(info))
        y, x = (-results['homography_matrix'][[1, 0], 2]).astype(int)
        assert results['gt_seg_map'].item() == resized[y, x]
        found[y, x] += 1
    assert set(found) == set(zip(*np.nonzero(np.isin(resized, [1, 2]))))
    for value in (1, 2):
        places = list(zip(*np.nonzero(resized == value)))
        mean = 1500 / len(places)
        assert all(abs(found[p] - mean) < 5 * mean**.5 for p in places)


def test_void_alone_and_no_segments_are_cropped_anywhere():
    crop = TRANSFORMS.build(
        dict(
            type='PanopticRandomResizeCrop',
            scale=(40, 40),
            ratio_range=(1, 2),
            crop_size=(8, 6),
            bootstrap=True))
    info = scene(0, (20, 20))
    for change in (dict(gt_seg_map=info['gt_seg_map'] * 0),
                   dict(segments_info=[])):
        results = crop({**info, **change})
        assert results['img'].shape == (8, 6, 3)
        assert results['gt_seg_map'].shape == (8, 6)


def test_without_a_map_the_image_is_cropped():
    _, one = both((40, 40), 10, ratio_range=(1, 2))
    info = scene(0, (20, 20))
    del info['gt_seg_map']
    results = one(info)
    assert results['img'].shape == (10, 10, 3) and 'gt_seg_map' not in results


def test_cached_random_numbers_give_one_window():
    """mmcv's way to treat several images alike."""
    _, one = both((256, 128), (16, 16), ratio_range=(.5, 2.), bootstrap=True)
    info = scene(3, (128, 256))
    with cache_random_params(one):
        first, second = one(dict(info)), one(dict(info))
    assert (first['gt_seg_map'] == second['gt_seg_map']).all()
    assert first['scale'] == second['scale']
    assert 'bootstrap=True' in repr(one) and '(16, 16)' in repr(one)


@pytest.mark.parametrize('resized', [False, True])
def test_pixels_of_classes_against_every_pixel(resized):
    """From the same random state the same pixel."""
    rng = np.random.default_rng(2)
    for number in range(300):
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
