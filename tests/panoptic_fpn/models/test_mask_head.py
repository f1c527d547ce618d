"""Targets and pasted masks against mmdet's, bit by bit."""
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from panoptic_fpn.models import WindowedMaskHead
from panoptic_fpn.ops.index_map_masks import IndexMapMasks

SHAPE = (97, 131)
CLASSES = 5


def heads(**kwargs):
    options = dict(
        num_convs=0, num_classes=CLASSES, conv_out_channels=4, **kwargs)
    return WindowedMaskHead(**options), FCNMaskHead(**options)


def detections(boxes, seed=0, classes=CLASSES, side=28):
    """Mask logits (n, classes, side, side) of boxes, and their instances."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    logits = 2 * torch.randn(
        len(boxes), classes, side, side, generator=generator)
    instances = InstanceData(
        bboxes=boxes,
        scores=torch.rand(len(boxes), generator=generator),
        labels=torch.randint(CLASSES, (len(boxes), ), generator=generator))
    return logits, instances


def random_boxes(number, seed=0, shape=SHAPE):
    rng = np.random.default_rng(seed)
    limit = np.tile(shape[::-1], 2)
    corners = rng.random((number, 2, 2)) * limit[:2]
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    # some at the border of the image, some on whole and on half pixels
    boxes[::5, :2] = 0
    boxes[1::5, 2:] = limit[2:]
    boxes[2::5] = boxes[2::5].round()
    boxes[3::5] = boxes[3::5].round() + 0.5
    return np.minimum(boxes, limit)


def masks_of(head, logits, instances, shape=SHAPE, scale=(1., 1.), **kwargs):
    """Masks and boxes, from copies."""
    kwargs = dict(dict(rescale=True), **kwargs)
    threshold = kwargs.pop('threshold', 0.5)
    results = InstanceData(
        bboxes=instances.bboxes.clone(),
        scores=instances.scores,
        labels=instances.labels)
    head.predict_by_feat([deepcopy(logits)], [results],
                         [dict(ori_shape=shape, scale_factor=scale)],
                         ConfigDict(mask_thr_binary=threshold), **kwargs)
    return results.masks, results.bboxes


def assert_same(logits, instances, head_options=None, **kwargs):
    ours, theirs = heads(**(head_options or {}))
    masks, boxes = masks_of(ours, logits, instances, **kwargs)
    expected, expected_boxes = masks_of(theirs, logits, instances, **kwargs)
    assert masks.dtype == expected.dtype and masks.shape == expected.shape
    assert torch.equal(masks, expected)
    assert torch.equal(boxes, expected_boxes)
    return masks


@pytest.mark.parametrize('seed', range(2))
@pytest.mark.parametrize('rescale', [True, False])
@pytest.mark.parametrize('scale', [(1., 1.), (1.6675, 1.6667), (0.5, 0.51)])
def test_equals_mmdets_masks(seed, scale, rescale):
    logits, instances = detections(random_boxes(40, seed), seed)
    instances.bboxes *= torch.tensor(scale).repeat(2)
    masks = assert_same(logits, instances, scale=scale, rescale=rescale)
    assert masks.any((1, 2)).float().mean() > 0.9


DEGENERATE = {
    'no width': [40, 20, 40, 60],
    'no height': [40.5, 20.5, 70.2, 20.5],
    'no extent': [40, 20, 40, 20],
    'no extent, at a centre': [40.5, 20.5, 40.5, 20.5],
    'less than a pixel': [40.2, 20.2, 40.3, 20.3],
    'larger than the image': [-50, -60, 300, 400],
    'half outside': [100, 70, 200, 150],
    'at the border': [131, 97, 131, 97],
    'at the origin': [0, 0, 0, 0],
    'infinite width': [10, 20, float('inf'), 60],
    'infinite': [-float('inf'), -float('inf'),
                 float('inf'),
                 float('inf')],
}


def test_other_logits_and_thresholds():
    logits, instances = detections(random_boxes(10))
    assert_same(logits.sigmoid().numpy(), instances, activate_map=True)
    assert_same(logits.bfloat16(), instances)
    # logits of 0 are probabilities of one half, which is enough
    assert_same(logits.round(), instances)
    assert assert_same(torch.zeros_like(logits), instances).any()
    # below 0 mmdet returns probabilities in steps of 1 / 255
    for threshold in (0, 0.3, 0.9, 1, -1):
        assert_same(logits, instances, threshold=threshold)
    for side in (1, 14, 56):
        assert_same(*detections(random_boxes(10), side=side))
    assert_same(*detections(random_boxes(10), classes=1),
                dict(class_agnostic=True))


def test_degenerate_boxes():
    for box in DEGENERATE.values():
        boxes = [[5, 5, 50, 60], box, [90, 20, 120, 80]]
        for seed in range(4):
            assert_same(*detections(boxes, seed))


def test_masks_are_memory_of_their_own_without_gradient():
    logits, instances = detections(random_boxes(3))
    masks, _ = masks_of(heads()[0], logits.requires_grad_(), instances)
    assert masks.any() and not masks.requires_grad
    masks[:, 0] = True
    assert masks[:, 0].all()


def test_boxes_without_a_pixel_have_empty_masks():
    """mmdet fails on them, but not where there is no box."""
    for box in ([200, 20, 260, 60], [-90, 20, -30,
                                     60], [20, 150, 60,
                                           190], [60, 50, 50,
                                                  40], [float('nan')] * 4):
        logits, instances = detections([box, [5, 5, 50, 60]])
        masks, _ = masks_of(heads()[0], logits, instances)
        assert not masks[0].any() and masks[1].any()
    assert assert_same(*detections(np.zeros((0, 4)))).shape == (0, *SHAPE)


def sampled(masks, count, seed):
    """A sampler's positive boxes, some across the border, and masks."""
    boxes = torch.tensor(random_boxes(count, seed), dtype=torch.float32)
    boxes[::4] += 3 * torch.tensor([-1, -1, 1, 1])
    generator = torch.Generator().manual_seed(seed)
    inds = torch.randint(max(len(masks), 1), (count, ), generator=generator)
    return (SimpleNamespace(pos_priors=boxes, pos_assigned_gt_inds=inds),
            InstanceData(masks=masks))


@pytest.mark.parametrize('soft', [False, True])
@pytest.mark.parametrize('switch', ['1', '0'])
@pytest.mark.parametrize('counts', [(30, 0, 7), (0, )])
def test_targets_equal_mmdets(counts, switch, soft, monkeypatch):
    rng = np.random.default_rng(0)
    batches = dict(maps=[], bitmaps=[], one_of_each=[])
    for i, count in enumerate(counts):
        index_map = np.kron(
            rng.integers(0, 6, (10, 14)), np.ones((10, 10), int))
        index_map = index_map[:SHAPE[0], :SHAPE[1]].astype(np.uint8)
        values = np.array([4, 2, 5] if count else [], np.uint8)
        maps = IndexMapMasks(torch.from_numpy(index_map), values)
        bitmaps = BitmapMasks(maps.masks, *SHAPE)
        for name, masks in dict(
                maps=maps, bitmaps=bitmaps,
                one_of_each=(maps, bitmaps)[i % 2]).items():
            batches[name].append(sampled(masks, count, i))
    monkeypatch.setenv('PANOPTIC_FAST_OPS', switch)
    ours, theirs = heads()
    cfg = ConfigDict(mask_size=28, soft_mask_target=soft)
    expected = theirs.get_targets(*zip(*deepcopy(batches['bitmaps'])), cfg)
    assert expected.any() == (sum(counts) > 0)
    for batch in batches.values():
        found = ours.get_targets(*zip(*deepcopy(batch)), cfg)
        assert found.dtype == expected.dtype == torch.float32
        assert torch.equal(found, expected)
