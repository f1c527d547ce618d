"""Look-up and copies of maps; what counts by runs is tested with the metrics
(``test_fast_counting``) and in ``tests/properties/test_codec.py``."""
import numpy as np
import pytest
from pycocotools import mask as mask_util

from panoptic_fpn.ops.run_length import contiguous, encode_mask, look_up


def test_a_single_row_of_a_larger_array():
    """Its stride says nothing about its width."""
    for width in (1, 4, 8, 13):
        larger = np.zeros((3, 16), bool)
        larger[1, width // 2] = True
        for part in (larger[1:2, :width], larger[:1, :width]):
            assert part.flags.c_contiguous and part.strides[0] == 16
            assert encode_mask(part) == mask_util.encode(
                np.asfortranarray(part.astype(np.uint8)))


SHAPES = [(1, 1), (1, 40), (40, 1), (23, 31), (64, 48)]
DTYPES = [np.uint8, np.uint16, np.int32]


@pytest.mark.parametrize('dtype', DTYPES)
def test_look_up(dtype):
    for table in (np.int16, np.int32):
        values = np.arange(256).astype(table) * -100
        for shape in SHAPES:
            index_map = np.random.default_rng(1).integers(0, 200, shape, dtype)
            found = look_up(values, index_map)
            assert found.dtype == table and found.shape == shape
            assert (found == values[index_map]).all()


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
