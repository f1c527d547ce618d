"""Anchors, decoding, suppression and levels against mmdet and mmcv."""
import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules import AnchorGenerator, DeltaXYWHBBoxCoder

pytest.importorskip('onnxruntime')
from panoptic_onnx import boxes  # noqa: E402


def random_boxes(number, seed=0, size=400.0):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, size, (number, 2))
    sides = np.exp(rng.uniform(0, np.log(size), (number, 2)))
    return np.concatenate([corners, corners + sides], 1).astype(np.float32)


def test_anchors_are_those_of_mmdet():
    generator = AnchorGenerator(
        strides=[4, 8], scales=[8, 3], ratios=[0.5, 1, 2])
    shapes = [(5, 7), (3, 4)]
    expected = generator.grid_priors(shapes, device='cpu')
    for level, shape in enumerate(shapes):
        found = boxes.grid_anchors(generator.base_anchors[level].numpy(),
                                   generator.strides[level], shape)
        np.testing.assert_array_equal(found, expected[level].numpy())


def test_decoding_is_that_of_mmdet():
    rng = np.random.default_rng(1)
    # also sides beyond the largest ratio, and boxes outside of the image
    deltas = rng.normal(0, 3, (500, 4)).astype(np.float32)
    deltas[:20, 2:] = 100
    means, stds = (0., 0.1, 0., -0.1), (0.1, 0.1, 0.2, 0.2)
    anchors = random_boxes(500)
    found = boxes.decode(anchors, deltas, means, stds, (300, 350))
    coder = DeltaXYWHBBoxCoder(means, stds)
    expected = coder.decode(
        torch.from_numpy(anchors),
        torch.from_numpy(deltas),
        max_shape=(300, 350))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3)


def test_decoding_by_hand():
    # centre 10, 20 and sides 4, 8: moved by half a side, twice as wide
    anchor = np.float32([[8, 16, 12, 24]])
    delta = np.float32([[0.5, -0.25, np.log(2), 0]])
    found = boxes.decode(anchor, delta, [0] * 4, [1] * 4, (100, 15))
    np.testing.assert_allclose(found, [[8, 14, 15, 22]], rtol=1e-6)


@pytest.mark.parametrize('number', [0, 1, 40, 1500])
@pytest.mark.parametrize('groups', [1, 5])
def test_suppression_keeps_what_mmcv_keeps(number, groups):
    rng = np.random.default_rng(number)
    corners = random_boxes(number, size=120)
    scores = rng.permutation(number).astype(np.float32) / max(number, 1)
    group = rng.integers(0, groups, number)
    found = boxes.batched_nms(corners, scores, group, 0.5)
    if number:
        _, expected = batched_nms(
            torch.from_numpy(corners), torch.from_numpy(scores),
            torch.from_numpy(group), dict(type='nms', iou_threshold=0.5))
        assert number == 1 or len(expected) < number
        np.testing.assert_array_equal(found, expected.numpy())
    else:
        assert len(found) == 0


def test_suppression_by_hand():
    # the second covers 2 / 3 of the union with the first, the third nothing
    corners = np.float32([[0, 0, 10, 10], [0, 0, 10, 15], [50, 0, 60, 10],
                          [5, 5, 5, 5], [5, 5, 5, 5]])
    assert boxes.class_agnostic_nms(corners, 0.6) == [0, 2, 3, 4]
    assert boxes.class_agnostic_nms(corners, 0.7) == [0, 1, 2, 3, 4]


def test_levels_are_those_of_mmdet():
    corners = np.concatenate([
        random_boxes(500, size=900),
        np.float32([[0, 0, 0, 0], [0, 0, 56, 56], [1, 1, 113, 113]])
    ])
    extractor = SingleRoIExtractor(
        dict(type='RoIAlign', output_size=7, sampling_ratio=0), 8,
        [4, 8, 16, 32])
    rois = torch.from_numpy(np.pad(corners, ((0, 0), (1, 0))))
    expected = extractor.map_roi_levels(rois, 4)
    found = boxes.roi_levels(corners, 56, 4)
    assert set(found) == {0, 1, 2, 3}
    np.testing.assert_array_equal(found, expected.numpy())
