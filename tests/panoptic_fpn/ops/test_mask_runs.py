"""What is read off the runs of a map against every pixel of it, and packing
against mmdet's own."""
import copy

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import PackDetInputs
from mmdet.registry import TRANSFORMS

from mmengine_exact import seeded
from panoptic_fpn.data import LoadPanopticMap
from panoptic_fpn.data.crop import draw_pixel
from panoptic_fpn.data.loading import segment_values
from panoptic_fpn.labels import LabelSpace, id_to_rgb
from panoptic_fpn.ops.mask_runs import contiguous, look_up, map_boxes, runs_of
from panoptic_fpn.ops.resize_window import nearest_pixels
from panoptic_fpn.ops.runs import run_starts
from tests.oracles.crop import pixel_of_class
from tests.oracles.derive import box_of, derive_instances, derive_semantic

SHAPES = [(1, 1), (1, 40), (40, 1), (23, 31), (64, 48)]
DTYPES = [np.uint8, np.uint16, np.int32]


def maps(dtype, top=200):
    """Noise, large areas, one value."""
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        yield rng.integers(0, top, shape).astype(dtype)
        coarse = rng.integers(0, top, [1 + n // 8 for n in shape])
        yield cv2.resize(
            coarse.astype(np.float32),
            shape[::-1],
            interpolation=cv2.INTER_NEAREST).reshape(shape).astype(dtype)
        yield np.full(shape, top - 1, dtype)


@pytest.mark.parametrize('dtype', DTYPES)
def test_runs_give_the_map_back(dtype):
    for index_map in maps(dtype):
        runs = runs_of(index_map)
        again = np.full_like(index_map, 255)
        for value, row, begin, end in zip(*runs):
            assert begin < end and (begin == 0 or again[row, begin - 1] != 255)
            assert begin == 0 or index_map[row, begin - 1] != value
            again[row, begin:end] = value
        assert (again == index_map).all()
        flat = index_map.ravel()
        starts = run_starts(flat)
        lengths = np.diff(starts, append=flat.size)
        assert (np.repeat(flat[starts], lengths) == flat).all()


@pytest.mark.parametrize('dtype', DTYPES)
def test_boxes_and_areas_of_all_values(dtype):
    for index_map in maps(dtype):
        boxes, areas = map_boxes(index_map, 256)
        assert boxes.shape == (256, 4) and areas.shape == (256, )
        for value in range(256):
            mask = index_map == value
            assert areas[value] == mask.sum()
            if areas[value]:
                assert boxes[value].tolist() == box_of(mask)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('table', [np.int16, np.int32])
def test_look_up(dtype, table):
    values = np.arange(256).astype(table) * -100
    for index_map in maps(dtype):
        found = look_up(values, index_map)
        assert found.dtype == table and (found == values[index_map]).all()
        assert found.shape == index_map.shape


@pytest.mark.parametrize('dtype', DTYPES + [np.int64, np.float32])
@pytest.mark.parametrize('channels', [(), (1, ), (3, )])
def test_copies_in_order(dtype, channels):
    for shape in SHAPES:
        array = np.random.default_rng(0).uniform(0, 255, shape + channels)
        array = array.astype(dtype)
        for view in (array, array[:, ::-1], array[::-1], array[::2, ::-1]):
            result = contiguous(view)
            assert result.flags.c_contiguous and result.dtype == dtype
            assert result.shape == view.shape and (result == view).all()


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
            found = (
                draw_pixel(results, 'x', rows, cols)
                if resized else draw_pixel(results, 'x'))
        assert found == expected


# ---------------------------------------------------------- whole pipeline


def write_scene(folder, count, gray, seed=0):
    """A PNG of ``count`` segments, and what a data set says of it."""
    rng = np.random.default_rng(seed)
    ids = rng.choice(
        np.arange(1, 2**16 - 1 if gray else 2**24), count, replace=False)
    cells = np.append(ids, rng.choice(ids, 400 - count))
    cells[-20:] = 0
    id_map = rng.permutation(cells).reshape(20, 20)
    # all segments are left, in pieces
    id_map = id_map.repeat(3, axis=0).repeat(2, axis=1)
    png = folder / 'map.png'
    pixels = id_map.astype(np.uint16) if gray else id_to_rgb(id_map)[..., ::-1]
    assert cv2.imwrite(str(png), np.ascontiguousarray(pixels))
    segments = [
        dict(id=int(id_), category=i % 5, iscrowd=int(i % 7 == 3))
        for i, id_ in enumerate(ids)
    ]
    space = LabelSpace.from_coco(
        [dict(id=i, name=str(i), isthing=int(i < 3)) for i in range(5)])
    results = dict(
        img=rng.integers(0, 256, id_map.shape + (3, )).astype(np.uint8),
        img_path='x.png',
        ori_shape=id_map.shape,
        seg_map_path=str(png),
        segments_info=segments,
        label_space=space)
    if gray:
        results['void_ids'] = [0]
    return results, id_map


@pytest.mark.parametrize('gray', [False, True], ids=['rgb', '16 bits'])
@pytest.mark.parametrize('count, dtype', [(5, np.uint8), (254, np.uint8),
                                          (255, np.uint16), (370, np.uint16)])
def test_loading_and_deriving_many_segments(tmp_path, count, dtype, gray):
    results, id_map = write_scene(tmp_path, count, gray)
    results = LoadPanopticMap()(results)
    index_map = results['gt_seg_map']
    assert index_map.dtype == dtype and index_map.flags.writeable
    expected = np.zeros(id_map.shape, int)
    for segment, value in zip(results['segments_info'], segment_values(count)):
        expected[id_map == segment['id']] = value
    assert (index_map == expected).all() and 255 not in index_map

    results['gt_seg_map'] = index_map[:, ::-1]
    results = TRANSFORMS.build(dict(type='DerivePanopticTargets'))(results)
    categories = [dict(id=i, isthing=i < 3) for i in range(5)]
    segments = [
        dict(s, category_id=s['category']) for s in results['segments_info']
    ]
    oracle = derive_instances(id_map[:, ::-1], segments, categories)
    assert (results['gt_bboxes'].numpy() == oracle['boxes']).all()
    assert (results['gt_masks'].masks == oracle['masks']).all()
    assert results['gt_masks'].masks.dtype == np.uint8
    assert (results['gt_bboxes_labels'] == oracle['labels']).all()
    assert (results['gt_ignore_flags'] == oracle['crowd']).all()
    assert (results['gt_seg_map'] == derive_semantic(id_map[:, ::-1], segments,
                                                     categories)).all()


def flat(sample):
    """Everything in a sample, as comparable arrays."""
    found = {}
    for group in ('gt_instances', 'ignored_instances'):
        data = sample.get(group)
        found[group] = sorted(data.keys())
        for key, value in data.items():
            value = getattr(value, 'tensor', getattr(value, 'masks', value))
            found[group, key] = (value.dtype, tuple(value.shape),
                                 np.asarray(value).tolist())
    found['sem_seg'] = sample.gt_sem_seg.sem_seg.tolist()
    found['meta'] = sample.metainfo
    return found


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('crowd', ['none', 'some', 'all', 'no things'])
@pytest.mark.parametrize('image', ['uint8', 'float32', 'gray'])
def test_packed_as_mmdet_packs(tmp_path, crowd, flip, image):
    results, _ = write_scene(tmp_path, 30, gray=False)
    for segment in results['segments_info']:
        if crowd != 'some':
            segment['iscrowd'] = int(crowd == 'all')
        if crowd == 'no things':
            segment['category'] = 3
    results = LoadPanopticMap()(results)
    if flip:
        flipping = TRANSFORMS.build(dict(type='RandomFlip', prob=1.0))
        results = flipping(results)
        assert not results['img'].flags.c_contiguous
    results = TRANSFORMS.build(dict(type='DerivePanopticTargets'))(results)
    if image == 'gray':
        results['img'] = results['img'][..., 0]
    else:
        results['img'] = results['img'].astype(image)
    pack = TRANSFORMS.build(dict(type='PackPanopticInputs'))
    expected = PackDetInputs(meta_keys=pack.meta_keys)(copy.deepcopy(results))
    packed = pack(results)
    assert list(packed) == list(expected) == ['inputs', 'data_samples']
    assert packed['inputs'].dtype == expected['inputs'].dtype
    assert packed['inputs'].is_contiguous()
    assert torch.equal(packed['inputs'], expected['inputs'])
    assert flat(packed['data_samples']) == flat(expected['data_samples'])
