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
from panoptic_fpn.data.loading import segment_values
from panoptic_fpn.ops.resize_window import (TOLERANCE, _anchor, nearest_pixels,
                                            resize_window, take_pixels)


def noise(rng, height, width):
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def extremes(rng, height, width):
    """The largest steps between neighbours."""
    return (rng.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)


def chessboard(rng, height, width):
    board = np.add.outer(np.arange(height), np.arange(width)) % 2 * 255
    return np.repeat(board[..., None], 3, 2).astype(np.uint8)


def sizes(rng, number):
    """Of image and resized image: odd, tiny, large, extreme, exact ratios."""
    for i in range(number):
        top = 700 if i % 10 == 0 else 150
        size = rng.integers(1, top, 2)
        factor = np.exp(
            rng.uniform(np.log(.05), np.log(2 if top > 150 else 8)))
        if i % 3 == 0:
            factor = rng.choice([.25, 1 / 3, .5, .75, 1, 1.5, 2, 3])
        factor = np.array([1, rng.uniform(.7, 1.4) if i % 4 == 0 else 1
                           ]) * factor
        resized = np.maximum((size * factor + .5).astype(int), 1)
        yield tuple(size.tolist()), tuple(resized.tolist())


@pytest.mark.parametrize('kind', [noise, extremes, chessboard])
def test_windows_of_resized_images(kind):
    rng = np.random.default_rng(5)
    equal = total = 0
    for size, resized in sizes(rng, 250):
        image = kind(rng, *size)
        whole = cv2.resize(image, resized[::-1])
        for _ in range(4):
            height, width = (int(rng.integers(1, n + 1)) for n in resized)
            y = int(rng.integers(0, resized[0] - height + 1))
            x = int(rng.integers(0, resized[1] - width + 1))
            window = resize_window(image, resized, (y, x, height, width))
            expected = whole[y:y + height, x:x + width]
            assert window.shape == expected.shape
            assert window.flags.c_contiguous and window.base is None
            difference = cv2.absdiff(window, expected)
            assert difference.max() <= 1, (size, resized, y, x)
            equal += np.count_nonzero(difference == 0)
            total += difference.size
    assert equal > 0.95 * total


@pytest.mark.parametrize('dtype, channels', [(np.uint8, 0), (np.float32, 3)])
def test_windows_of_other_images(dtype, channels):
    rng = np.random.default_rng(6)
    for size, resized in sizes(rng, 60):
        image = rng.uniform(0, 255, size + (channels, ) * bool(channels))
        image = image.astype(dtype)
        whole = cv2.resize(image, resized[::-1])
        y, x = (int(rng.integers(0, n)) for n in resized)
        window = resize_window(image, resized,
                               (y, x, resized[0] - y, resized[1] - x))
        assert window.dtype == dtype
        assert np.abs(window.astype(float) - whole[y:, x:]).max() <= 1


def test_anchors_are_where_borders_coincide():
    """And a window's first pixel has its left neighbour."""
    rng = np.random.default_rng(7)
    for _ in range(2000):
        source, resized = rng.integers(1, 3000, 2)
        begin = int(rng.integers(0, resized))
        pixel, place = _anchor(source, resized, begin)
        assert 0 <= place <= begin and 0 <= pixel < source
        assert abs(place * source / resized - pixel) <= TOLERANCE
        first = (begin + .5) * source / resized - .5
        assert pixel == 0 or first - TOLERANCE >= pixel - 1e-9 - TOLERANCE


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32])
def test_windows_of_resized_maps(dtype):
    rng = np.random.default_rng(8)
    for size, resized in sizes(rng, 300):
        index_map = rng.integers(0, 250, size).astype(dtype)
        whole = cv2.resize(
            index_map, resized[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        rows, cols = map(nearest_pixels, size, resized)
        height, width = (int(rng.integers(1, n + 1)) for n in resized)
        y = int(rng.integers(0, resized[0] - height + 1))
        x = int(rng.integers(0, resized[1] - width + 1))
        window = take_pixels(index_map, rows[y:y + height], cols[x:x + width])
        assert window.dtype == dtype and window.flags.c_contiguous
        assert (window == whole[y:y + height, x:x + width]).all()


# ------------------------------------------------- against the two transforms


def scene(seed, size, num_segments=6):
    """Image and map with void and padding in it; classes 0, 1, 2."""
    rng = np.random.default_rng(seed)
    values = segment_values(num_segments)
    dtype = np.uint8 if num_segments < 255 else np.uint16
    cells = [max(1, n // 9) for n in size]
    coarse = rng.choice(np.append(values, [0, 255]), cells).astype(dtype)
    index_map = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_NEAREST)
    return dict(
        img=noise(rng, *size),
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
    del info['gt_seg_map']
    with pytest.raises(InputError, match='LoadPanopticMap before it'):
        crop(info)


def test_without_a_map_the_image_is_cropped():
    _, one = both((40, 40), 10, ratio_range=(1, 2))
    info = scene(0, (20, 20))
    del info['gt_seg_map']
    results = one(info)
    assert results['img'].shape == (10, 10, 3) and 'gt_seg_map' not in results


@pytest.mark.parametrize('size', [0, (10, ), (10, -1), (2.5, 3)])
@pytest.mark.parametrize(
    'config', [
        dict(type='PanopticRandomCrop'),
        dict(type='PanopticRandomResizeCrop', scale=(40, 40))
    ],
    ids=['crop', 'both'])
def test_a_size_that_is_none_is_refused(config, size):
    name = config['type']
    with pytest.raises(InputError, match=f'{name}.crop_size'):
        TRANSFORMS.build(dict(config, crop_size=size))


def test_cached_random_numbers_give_one_window():
    """mmcv's way to treat several images alike."""
    _, one = both((256, 128), (16, 16), ratio_range=(.5, 2.), bootstrap=True)
    info = scene(3, (128, 256))
    with cache_random_params(one):
        first, second = one(dict(info)), one(dict(info))
    assert (first['gt_seg_map'] == second['gt_seg_map']).all()
    assert first['scale'] == second['scale']
    assert 'bootstrap=True' in repr(one) and '(16, 16)' in repr(one)
