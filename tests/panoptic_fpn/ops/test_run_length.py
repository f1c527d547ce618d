"""Run lengths against pixel-by-pixel counting and pycocotools' encoder."""
import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_util

from panoptic_fpn.ops.run_length import (contiguous, encode_mask,
                                         encode_segments, joint_histogram,
                                         joint_runs, look_up, segment_boxes)
from tests.oracles.perturb import random_blob

SHAPES = [(1, 1), (1, 9), (9, 1), (13, 17)]


def encoded(mask):
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))


@pytest.mark.parametrize('shape', SHAPES)
def test_joint_histogram_counts_every_pixel(shape):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, shape), rng.integers(0, 4, shape)
    expected = np.zeros((3, 4), dtype=np.int64)
    np.add.at(expected, (a, b), 1)
    (rows, cols), lengths = joint_runs(a, b)
    assert (joint_histogram(rows, cols, lengths, (3, 4)) == expected).all()


@pytest.mark.parametrize('shape', SHAPES)
def test_areas_and_boxes(shape):
    # Two codes at most in a row of 9: runs that wrap around rows are likely.
    segments = np.random.default_rng(1).choice([5, 1000, 2001], shape)
    codes, areas, boxes = segment_boxes(segments)
    assert codes.tolist() == np.unique(segments).tolist()
    for code, area, box in zip(codes, areas, boxes):
        ys, xs = np.nonzero(segments == code)
        assert area == len(ys)
        assert box.tolist() == [
            xs.min(), ys.min(),
            np.ptp(xs) + 1, np.ptp(ys) + 1
        ]


@pytest.mark.parametrize('shape', SHAPES)
def test_segments_are_encoded_as_pycocotools_does(shape):
    segments = np.random.default_rng(2).choice([5, 1000, 2001], shape)
    codes = [2001, 5, 77, 1000]
    rles = encode_segments(segments, codes)
    assert rles == [encoded(segments == code) for code in codes]


def masks_of_every_kind():
    rng = np.random.default_rng(3)
    for shape in SHAPES:
        yield np.zeros(shape, bool)
        yield np.ones(shape, bool)
        for density in (0.1, 0.5, 0.9):
            yield rng.random(shape) < density
    yield from (random_blob(rng, (31, 23), 0.9) for _ in range(20))
    columns = np.zeros((6, 8), bool)
    columns[:, 2:5] = True
    columns[:3, 5] = True
    columns[4:, 1] = True
    yield columns


@pytest.mark.parametrize('mask', list(masks_of_every_kind()))
def test_masks_are_encoded_as_pycocotools_does(mask):
    before = mask.copy()
    assert encode_mask(mask) == encoded(mask)
    assert encode_mask(mask.astype(np.uint8) * 255) == encoded(mask)
    assert (mask == before).all()


@pytest.mark.parametrize('width', [1, 4, 8, 13])
def test_a_single_row_of_a_larger_array(width):
    """Its stride says nothing about its width."""
    larger = np.zeros((3, 16), bool)
    larger[1, width // 2] = True
    for part in (larger[1:2, :width], larger[:1, :width]):
        assert part.flags.c_contiguous and part.strides[0] == 16
        assert encode_mask(part) == encoded(part)


MAP_SHAPES = [(1, 1), (1, 40), (40, 1), (23, 31), (64, 48)]
DTYPES = [np.uint8, np.uint16, np.int32]


def maps(dtype, top=200):
    """Noise, large areas, one value."""
    rng = np.random.default_rng(1)
    for shape in MAP_SHAPES:
        yield rng.integers(0, top, shape).astype(dtype)
        coarse = rng.integers(0, top, [1 + n // 8 for n in shape])
        yield cv2.resize(
            coarse.astype(np.float32),
            shape[::-1],
            interpolation=cv2.INTER_NEAREST).reshape(shape).astype(dtype)
        yield np.full(shape, top - 1, dtype)


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
    for shape in MAP_SHAPES:
        array = np.random.default_rng(0).uniform(0, 255, shape + channels)
        array = array.astype(dtype)
        for view in (array, array[:, ::-1], array[::-1], array[::2, ::-1]):
            result = contiguous(view)
            assert result.flags.c_contiguous and result.dtype == dtype
            assert result.shape == view.shape and (result == view).all()
