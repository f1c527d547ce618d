"""Semantic map, masks and merge in NumPy against the model's own code."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from panoptic_fpn import fusion
from panoptic_fpn.labels import channel_labels
from panoptic_fpn.ops.paste_masks import paste_masks

pytest.importorskip('onnxruntime')
from panoptic_onnx import maps  # noqa: E402


@pytest.mark.parametrize('padded,shape,original', [
    ((64, 96), (64, 96), (64, 96)),
    ((64, 96), (50, 93), (101, 187)),
    ((96, 64), (96, 61), (48, 31)),
])
def test_channels_are_those_of_interpolated_logits(padded, shape, original):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, padded[0] // 4, padded[1] // 4))
    logits = logits.astype(np.float32)
    found = maps.upsampled_argmax(logits, padded, shape, original)
    kept = dict(mode='bilinear', align_corners=False)
    large = F.interpolate(torch.from_numpy(logits)[None], size=padded, **kept)
    large = F.interpolate(
        large[..., :shape[0], :shape[1]], size=original, **kept)[0].numpy()
    assert found.shape == original
    # where another channel is as large up to rounding either may win
    chosen = np.take_along_axis(large, found[None].astype(int), 0)[0]
    assert (large.max(0) - chosen).max() < 1e-5
    assert (found == large.argmax(0)).mean() > 0.999
    # the first of equal ones
    assert not maps.upsampled_argmax(
        np.zeros_like(logits), padded, shape, original).any()


def test_masks_are_those_of_the_mask_head():
    rng = np.random.default_rng(2)
    small = rng.uniform(0, 1, (60, 7, 7)).astype(np.float32)
    probabilities = np.stack(
        [np.kron(one, np.ones((4, 4), np.float32)) for one in small])
    corners = rng.uniform(-30, 130, (60, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 90, (60, 2))],
                           1).astype(np.float32)
    boxes[0] = [200, 200, 220, 230]  # outside
    boxes[1] = [10, 10, 10, 40]  # no width
    boxes[2] = [-50, -50, 300, 300]  # all of the image
    found = maps.paste_masks(probabilities, boxes, (97, 130), 0.5)
    expected = paste_masks(
        torch.from_numpy(probabilities)[:, None], torch.from_numpy(boxes), 97,
        130, 0.5).numpy()
    assert not found[0].any() and found[2].any()
    assert found.sum() > 10000
    assert (found != expected).sum() <= 1e-4 * found.sum()
    none = maps.paste_masks(probabilities[:0], boxes[:0], (5, 6), 0.5)
    assert none.shape == (0, 5, 6)


def scene(seed, number=12, shape=(40, 60)):
    """Overlapping blobs with equal scores among them, and a semantic map."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 35, (number, 2))
    high = low + rng.integers(0, 30, (number, 2))
    boxes = np.concatenate([low, high], 1).astype(np.float32)
    masks = np.zeros((number, *shape), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int)):
        part = mask[y1:y2, x1:x2]
        part[:] = rng.random(part.shape) < 0.8
    scores = rng.integers(0, 6, number).astype(np.float32) / 5
    labels = rng.integers(0, 4, number)
    semantic = rng.integers(0, 6, (5, 6)).repeat(8, 0).repeat(10, 1)
    return masks, boxes, scores, labels, semantic


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('nms_iou_thr', [None, 0.3])
@pytest.mark.parametrize('things', [False, True])
def test_merge_is_the_projects(seed, nms_iou_thr, things):
    *instances, semantic = scene(seed)
    void = 4 + 5
    labels = channel_labels(4, 5, things)
    settings = (0.4, 0.5, void, nms_iou_thr)
    found, kept = maps.paste_instances(*instances, *settings)
    maps.fill_stuff(found, semantic, labels, 90, void)
    expected, indices = fusion.fuse(*map(torch.from_numpy, instances),
                                    torch.from_numpy(semantic),
                                    torch.from_numpy(labels), 0.4, 0.5, 90,
                                    void, nms_iou_thr)
    assert kept == indices.tolist() and kept
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected.numpy())


def test_merge_without_instances():
    masks, boxes, scores, labels, semantic = scene(0, number=0)
    found, kept = maps.paste_instances(masks, boxes, scores, labels, 0.5, 0.5,
                                       9)
    assert kept == [] and (found == 9).all()
    maps.fill_stuff(found, semantic, channel_labels(4, 5), 0, 9)
    np.testing.assert_array_equal(found,
                                  np.where(semantic == 5, 9, semantic + 4))
