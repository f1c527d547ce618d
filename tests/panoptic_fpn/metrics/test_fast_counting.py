"""What the metrics count with is bit-equal to the plain way.

Maps: long runs, one-pixel runs, one row, one column, one code; codes of 8 to
64 bits, beyond what is looked up in a table, below zero; void; tensors and
views that are not contiguous.
"""
import numpy as np
import pytest
import torch

from panoptic_fpn.coco_format.results import number_segments
from panoptic_fpn.metrics.base import to_plane
from panoptic_fpn.metrics.cityscapes_ap import image_overlaps
from panoptic_fpn.metrics.instance_ap import instance_truth
from panoptic_fpn.metrics.panoptic_quality import (panoptic_counts,
                                                   segment_overlaps)
from panoptic_fpn.metrics.semantic_iou import code_counts
from panoptic_fpn.ops import run_length as runs
from tests.oracles import runs as plain
from tests.oracles.perturb import random_blob

VOID = 19
SHAPES = [(1, 1), (1, 23), (23, 1), (7, 8), (37, 53), (64, 40)]
#: Codes ``label + 1000 * number``: some of every size.
CODES = dict(
    small=[0, 3, 11, VOID],
    numbered=[3, 1003, 2003, 11, 40_011, VOID],
    beyond_the_table=[3, 1003, 11, 1000 * 2_000_000 + 5, VOID],
    at_the_end_of_the_table=[
        runs.TABLE_SIZE - 1, runs.TABLE_SIZE, runs.TABLE_SIZE + 1, VOID
    ])


def smooth(rng, codes, shape):
    segments = np.full(shape, codes[-1], np.int64)
    for code in codes[:-1]:
        segments[random_blob(rng, shape, 0.9)] = code
    return segments


def maps(seed, codes):
    """Pairs of maps, from long runs to one-pixel runs."""
    rng = np.random.default_rng(seed)
    for shape in SHAPES:
        noise = rng.choice(codes, shape)
        checks = np.where(np.indices(shape).sum(0) % 2, codes[0], codes[1])
        if min(shape) > 6:
            yield smooth(rng, codes, shape), smooth(rng, codes, shape)
            yield smooth(rng, codes, shape), noise
        yield noise, rng.choice(codes, shape)
        yield checks, noise
        yield np.full(shape, codes[0]), np.full(shape, codes[-1])


def layouts(array):
    """The same values in other types and strides."""
    yield array
    yield np.asfortranarray(array)
    yield np.repeat(np.repeat(array, 2, axis=0), 3, axis=1)[::2, ::3]
    yield np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]
    yield to_plane(torch.from_numpy(np.ascontiguousarray(array))[None])
    for dtype in (np.uint8, np.uint16, np.int32):
        if array.max() <= np.iinfo(dtype).max:
            yield array.astype(dtype)


def same(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    return found.shape == expected.shape and (found == expected).all()


@pytest.mark.parametrize('kind', CODES)
def test_joint_runs_and_overlaps(kind):
    for gt, pred in maps(0, CODES[kind]):
        codes = np.unique(gt[gt % 1000 != VOID])[::-1]
        expected = plain.joint_runs(gt, pred)
        overlaps = plain.segment_overlaps(gt, codes, pred, VOID)
        for a, b in zip(layouts(gt), layouts(pred)):
            (rows, cols), lengths = runs.joint_runs(a, b)
            assert same(rows, expected[0][0]) and same(cols, expected[0][1])
            assert same(lengths, expected[1]) and lengths.sum() == gt.size
            found = segment_overlaps(a, codes, b, VOID)
            assert same(found[0], overlaps[0]) and same(found[1], overlaps[1])


@pytest.mark.parametrize('kind', CODES)
def test_boxes_and_encoded_segments(kind):
    for segments, _ in maps(1, CODES[kind]):
        expected = plain.segment_boxes(segments)
        asked = [*CODES[kind][::-1], 77]
        rles = [plain.encode(segments == code) for code in asked]
        for view in layouts(segments):
            for found, wanted in zip(runs.segment_boxes(view), expected):
                assert same(found, wanted)
            assert runs.encode_segments(view, asked) == rles


@pytest.mark.parametrize('dtype, low, high', [(np.uint8, 0, 1),
                                              (np.uint8, 0, 256),
                                              (np.int16, -50, 50),
                                              (np.int32, 0, 100_000),
                                              (np.int64, -9, -1),
                                              (np.int64, 2**40, 2**40 + 9)])
def test_indices_are_those_of_unique(dtype, low, high):
    rng = np.random.default_rng(2)
    for size in (1, 2, 1000):
        values = rng.integers(low, high, size).astype(dtype)
        expected = np.unique(values, return_inverse=True)
        found = runs.index_values(values)
        assert same(found[0], expected[0]) and same(found[1], expected[1])
        assert found[0].dtype == np.int64


@pytest.mark.parametrize('size', [1, 300, 1 << 16, (1 << 16) + 1])
def test_groups_keep_the_order_of_their_entries(size):
    index = np.random.default_rng(3).integers(0, size, 5000)
    index = np.append(index, np.arange(size))
    order, borders = runs.group_by_value(index, size)
    assert same(order, np.argsort(index, kind='stable'))
    assert same(borders[1:] - borders[:-1], np.bincount(index))


@pytest.mark.parametrize('kind', CODES)
def test_index_map_gives_back_the_map(kind):
    for segments, _ in maps(4, CODES[kind]):
        for view in layouts(segments):
            codes, areas, index = runs.index_map(view)
            assert same(codes[index], segments)
            assert same(areas, plain.segment_boxes(segments)[1])


@pytest.mark.parametrize('kind', ['small', 'numbered'])
def test_numbered_segments_are_where_the_codes_are(kind):
    for pred, _ in maps(5, CODES[kind]):
        ids, entries = number_segments(pred, VOID, range(100, 100 + VOID))
        codes = [c for c in np.unique(pred) if c % 1000 != VOID]
        assert [e['category_id']
                for e in entries] == [100 + c % 1000 for c in codes]
        expected = np.zeros_like(pred)
        for number, code in enumerate(codes, 1):
            expected[pred == code] = number
        assert same(ids, expected)


@pytest.mark.parametrize('dtype', [np.uint8, np.int32, np.int64])
def test_pixels_by_segment_and_channel(dtype):
    rng = np.random.default_rng(6)
    for gt, _ in maps(6, CODES['numbered']):
        pred = rng.integers(0, 5, gt.shape).astype(dtype)
        codes, counts = code_counts(gt, pred, 5)
        assert same(codes, np.unique(gt))
        for code, row in zip(codes, counts):
            assert same(row, np.bincount(pred[gt == code], minlength=5))


def bitmaps():
    rng = np.random.default_rng(7)
    for shape in [*SHAPES, (9, 16), (16, 8), (8, 24)]:
        yield np.zeros(shape, bool)
        yield np.ones(shape, bool)
        for y, x in ((0, 0), (-1, -1), (0, -1), (-1, 0)):
            corner = np.zeros(shape, bool)
            corner[y, x] = True
            yield corner
        for density in (0.02, 0.5, 0.98):
            yield rng.random(shape) < density
        columns = np.zeros(shape, bool)
        columns[:, shape[1] // 3:shape[1] // 2 + 1] = True
        yield columns


def test_masks_of_any_layout_are_encoded_as_by_pycocotools():
    for mask in bitmaps():
        expected = plain.encode(mask)
        for view in layouts(mask.view(np.uint8)):
            assert runs.encode_mask(view) == expected
            assert runs.encode_mask(view.astype(bool)) == expected
        stack = np.stack([mask, ~mask, mask])
        # the second mask of a stack begins at any address
        assert runs.encode_mask(stack[1]) == plain.encode(~mask)
        assert runs.encode_mask(stack.transpose(1, 2, 0)[..., 2]) == expected
        assert runs.encode_mask(mask * 256) == expected


def test_windows_hold_all_pixels_and_touch_them():
    for mask in bitmaps():
        for view in layouts(mask.view(np.uint8)):
            window = runs.mask_window(view)
            if not mask.any():
                assert window is None
                continue
            ys, xs = np.nonzero(mask)
            assert window == (ys.min(), xs.min(), ys.max() + 1, xs.max() + 1)


@pytest.mark.parametrize('kind', CODES)
def test_instances_of_a_map(kind):
    for segments, _ in maps(8, CODES[kind]):
        codes = np.unique(segments)
        crowd = codes == codes.max()
        truth = instance_truth(segments, codes, crowd, 12)
        things = codes[codes % 1000 < 12]
        assert same(truth.labels, things % 1000)
        assert same(truth.crowd, things == codes.max())
        expected = [x[np.isin(codes, things)]
                    for x in plain.segment_boxes(segments)]  # yapf: disable
        assert same(truth.values, expected[1])
        assert same(truth.boxes, expected[2].reshape(-1, 4))
        rles = [plain.encode(segments == code) for code in things]
        assert truth.masks.counts == b''.join(r['counts'] for r in rles)


def test_overlaps_of_masks_that_lie_anywhere():
    """Boxes are no input: masks may lie outside them."""
    rng = np.random.default_rng(9)
    for gt, _ in maps(9, CODES['numbered']):
        masks = rng.random((4, *gt.shape)) < 0.3
        masks[1] = False
        labels = np.array([3, 3, 11, 3])
        found = image_overlaps(gt, [40_011], 12, VOID, labels, np.ones(4),
                               masks)
        kept = masks[masks.any(axis=(1, 2))]
        assert same(found.pixels, kept.sum(axis=(1, 2)))
        assert same(found.void, (kept & (gt == VOID)).sum(axis=(1, 2)))
        codes = [c for c in np.unique(gt) if c % 1000 < 12]
        assert same(found.gt_pixels, [(gt == c).sum() for c in codes])
        assert same(found.gt_group, [c == 40_011 for c in codes])
        for pred, instance, common in zip(found.pred, found.gt, found.common):
            assert common == (kept[pred] & (gt == codes[instance])).sum() > 0


def test_counts_of_one_size_and_another_type_are_the_same_bits():
    rng = np.random.default_rng(10)
    gt, pred = (smooth(rng, CODES['numbered'], (64, 40)) for _ in range(2))
    codes = np.unique(gt[gt != VOID])
    args = codes, codes % 1000, np.zeros(len(codes), bool)
    expected = panoptic_counts(gt, *args, pred, VOID, VOID)
    for a, b in zip(layouts(gt), layouts(pred)):
        found = panoptic_counts(a, *args, b, VOID, VOID)
        assert found.tobytes() == expected.tobytes()
