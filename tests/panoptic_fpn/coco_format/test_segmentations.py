"""Run lengths against masks that pycocotools encodes."""
import numpy as np
import pytest
from pycocotools import mask as mask_util

from panoptic_fpn.coco_format.segmentations import (find_segmentation_fault,
                                                    rle_counts)


def test_rle_counts_are_those_of_the_masks():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (7, 5), (40, 56), (600, 700)):
        for share in (0., .02, .5, 1.):
            mask = rng.random(shape) < share
            mask[:, :shape[1] // 3] |= share > .4
            rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
            counts = rle_counts(rle['counts'].decode())
            # column by column, background first
            flat = mask.ravel(order='F')
            edges = np.flatnonzero(np.diff(flat)) + 1
            runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
            expected = runs if not flat[0] else [0, *runs]
            assert np.array_equal(counts, expected)


@pytest.mark.parametrize('text', ['', 'é', '~~~', 'oooooooooooo1', 'o', ' 1'])
def test_texts_that_are_no_rle(text):
    assert rle_counts(text) is None


RLE = mask_util.encode(np.ones((4, 6), np.uint8, order='F'))
RLE = dict(size=[4, 6], counts=RLE['counts'].decode())


@pytest.mark.parametrize('segmentation', [
    RLE,
    dict(size=[4, 6], counts=[20, 4]), [[0, 0, 3, 0, 3, 3]], []
])
def test_sound_segmentations(segmentation):
    assert find_segmentation_fault(segmentation, (4, 6)) is None


@pytest.mark.parametrize('segmentation, words', [
    (dict(RLE, size=[6, 4]), 'neither a list of polygons nor an RLE'),
    (None, 'neither a list of polygons nor an RLE'),
    (dict(RLE, counts=[20, 5]), 'do not fill 24 pixels'),
    (dict(RLE, counts=[-4, 28]), 'do not fill'),
    (dict(RLE, counts=RLE['counts'][:-1]), 'do not fill'),
    ([[0, 0, 3]], 'not a polygon'),
    ([[0, 0, 3, 'x']], 'not a polygon'),
    ([[0, 0, 3, 2**21]], 'not a polygon'),
])
def test_faults_of_segmentations(segmentation, words):
    assert words in find_segmentation_fault(segmentation, (4, 6))
