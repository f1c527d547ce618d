"""The merge against an oracle made of Python sets, and worked examples."""
import numpy as np
import pytest
import torch

from panoptic_fpn.fusion import (box_windows, class_agnostic_nms, fill_stuff,
                                 fuse, paste_instances)
from panoptic_fpn.labels import channel_labels
from tests.oracles.merge import merge_by_sets

NUM_THINGS, NUM_STUFF = 3, 4
VOID = NUM_THINGS + NUM_STUFF


def random_scene(seed, num_instances=9, shape=(23, 31)):
    """Overlapping blobs, some empty, with tied scores, and a channel map."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((num_instances, ) + shape, bool)
    for mask in masks[:-1]:
        y, x = rng.integers(0, shape[0] - 4), rng.integers(0, shape[1] - 4)
        h, w = rng.integers(3, 14, 2)
        window = mask[y:y + h, x:x + w]
        window[:] = rng.random(window.shape) < 0.8
    scores = rng.choice([0.2, 0.5, 0.7, 0.7, 0.9, 1.0], num_instances)
    labels = rng.integers(0, NUM_THINGS, num_instances)
    channels = rng.integers(0, NUM_STUFF + 1, shape)
    channels[:10] = rng.integers(0, NUM_STUFF + 1)
    return masks, scores.astype(np.float32), labels, channels


def boxes_of(masks):
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks):
        y, x = np.nonzero(mask)
        if len(y):
            box[:] = x.min(), y.min(), x.max() + 1, y.max() + 1
    return boxes


@pytest.mark.parametrize('seed', range(40))
@pytest.mark.parametrize('overlap_thr, stuff_area', [(0.5, 30), (0.0, 0),
                                                     (0.8, 200)])
def test_merge_equals_the_oracle(seed, overlap_thr, stuff_area):
    masks, scores, labels, channels = random_scene(seed)
    panoptic, kept = fuse(
        torch.from_numpy(masks),
        torch.from_numpy(boxes_of(masks)),
        torch.from_numpy(scores),
        torch.from_numpy(labels),
        torch.from_numpy(channels),
        torch.from_numpy(channel_labels(NUM_THINGS, NUM_STUFF)),
        score_thr=0.5,
        overlap_thr=overlap_thr,
        stuff_area=stuff_area,
        void=VOID)
    expected = merge_by_sets(
        masks,
        scores,
        labels,
        channels,
        NUM_THINGS,
        NUM_STUFF,
        score_thr=0.5,
        overlap_thr=overlap_thr,
        stuff_area=stuff_area)
    assert (panoptic.numpy() == expected).all()
    for number, index in enumerate(kept.tolist(), 1):
        code = labels[index] + 1000 * number
        assert (panoptic.numpy() == code).any()
        assert masks[index][panoptic.numpy() == code].all()


def strip(*bits):
    return torch.tensor([bits], dtype=torch.bool)


def test_half_covered_stays_more_than_half_goes():
    masks = torch.stack([strip(1, 1, 0, 0, 0), strip(0, 1, 1, 0, 0)])
    boxes = torch.tensor([[0., 0, 2, 1], [1, 0, 3, 1]])
    scores, labels = torch.tensor([.9, .8]), torch.tensor([0, 1])
    panoptic, _ = paste_instances(masks, boxes, scores, labels, 0.5, 0.5, 7)
    assert panoptic.tolist() == [[1000, 1000, 2001, 7, 7]]
    panoptic, _ = paste_instances(masks, boxes, scores, labels, 0.5, 0.49, 7)
    assert panoptic.tolist() == [[1000, 1000, 7, 7, 7]]


def test_ties_keep_their_order_and_inputs_stay_as_they_are():
    masks = torch.stack([strip(1, 1, 0), strip(0, 1, 1)])
    boxes = torch.tensor([[0., 0, 2, 1], [1, 0, 3, 1]])
    scores, labels = torch.tensor([.6, .6]), torch.tensor([2, 1])
    before = [t.clone() for t in (masks, boxes, scores, labels)]
    panoptic, kept = paste_instances(masks, boxes, scores, labels, .5, .5, 7)
    assert panoptic.tolist() == [[1002, 1002, 2001]]
    assert kept.tolist() == [0, 1]
    for old, new in zip(before, (masks, boxes, scores, labels)):
        assert torch.equal(old, new)


def test_no_instance():
    panoptic, kept = paste_instances(
        torch.zeros(0, 2, 3, dtype=torch.bool), torch.zeros(0, 4),
        torch.zeros(0), torch.zeros(0, dtype=torch.long), .5, .5, 7)
    assert (panoptic == 7).all() and len(kept) == 0


def test_stuff_area_counts_what_instances_left():
    panoptic = torch.tensor([[7, 7, 7, 1000]], dtype=torch.int32)
    semantic = torch.tensor([[0, 0, 1, 1]])
    labels = torch.from_numpy(channel_labels(NUM_THINGS, NUM_STUFF))
    kept = fill_stuff(panoptic.clone(), semantic, labels, 1, 7)
    assert kept.tolist() == [[3, 3, 4, 1000]]
    kept = fill_stuff(panoptic.clone(), semantic, labels, 2, 7)
    assert kept.tolist() == [[3, 3, 7, 1000]]


def test_things_of_the_semantic_branch_become_void():
    panoptic = torch.full((1, 3), 7, dtype=torch.int32)
    labels = torch.from_numpy(channel_labels(NUM_THINGS, NUM_STUFF, True))
    semantic = torch.tensor([[0, 3, 6]])
    assert fill_stuff(panoptic, semantic, labels, 0, 7).tolist() == [[7, 3, 6]]


def test_windows_contain_their_boxes_and_stay_inside():
    boxes = torch.tensor([[1.2, 0.5, 3.1, 2.0], [-5, -5, 50, 50],
                          [60, 60, 70, 70]])
    assert box_windows(boxes, (10, 20))[0] == [0, 1, 2, 4]
    assert box_windows(boxes, (10, 20))[1] == [0, 0, 10, 20]
    y1, x1, y2, x2 = box_windows(boxes, (10, 20))[2]
    assert y2 <= y1 or x2 <= x1


@pytest.mark.parametrize('seed', range(10))
@pytest.mark.parametrize('predict_things', [False, True])
@pytest.mark.parametrize('dtype', [torch.uint8, torch.int32])
def test_channels_of_any_type_equal_the_oracle(seed, predict_things, dtype):
    masks, scores, labels, channels = random_scene(seed)
    if predict_things:
        channels = np.where(channels == NUM_STUFF, seed % NUM_THINGS,
                            channels + NUM_THINGS)
    # a part of a larger map: not contiguous
    larger = torch.from_numpy(np.pad(channels, 3)).to(dtype)
    panoptic, _ = fuse(
        torch.from_numpy(masks),
        torch.from_numpy(boxes_of(masks)),
        torch.from_numpy(scores),
        torch.from_numpy(labels),
        larger[3:-3, 3:-3],
        torch.from_numpy(
            channel_labels(NUM_THINGS, NUM_STUFF, predict_things)),
        score_thr=0.5,
        overlap_thr=0.5,
        stuff_area=60,
        void=VOID)
    assert panoptic.dtype == torch.int32
    expected = merge_by_sets(
        masks,
        scores,
        labels,
        channels,
        NUM_THINGS,
        NUM_STUFF,
        stuff_area=60,
        predict_things=predict_things)
    assert (panoptic.numpy() == expected).all()


def test_stuff_is_filled_in_place():
    larger = torch.full((4, 6), VOID, dtype=torch.int32)
    labels = torch.from_numpy(channel_labels(NUM_THINGS, NUM_STUFF))
    part = larger[1:3, 1:5]
    part[0, 0] = 2001
    semantic = torch.tensor([[0, 1, 1, 4], [1, 1, 4, 0]])
    assert fill_stuff(part, semantic, labels, 2, VOID) is part
    assert larger[1:3, 1:5].tolist() == [[2001, 4, 4, VOID],
                                         [4, 4, VOID, VOID]]
    assert (larger == VOID).sum() == 24 - 5


@pytest.mark.parametrize('seed', range(30))
@pytest.mark.parametrize('iou_thr', [0.0, 0.3, 0.5, 1.0])
def test_repeated_boxes_are_left_out_as_by_the_oracle(seed, iou_thr):
    masks, scores, labels, channels = random_scene(seed, num_instances=14)
    boxes = boxes_of(masks)
    thresholds = dict(score_thr=0.3, overlap_thr=0.6, nms_iou_thr=iou_thr)
    panoptic, kept = fuse(
        *map(torch.from_numpy, (masks, boxes, scores, labels, channels)),
        torch.from_numpy(channel_labels(NUM_THINGS, NUM_STUFF)),
        stuff_area=20,
        void=VOID,
        **thresholds)
    expected = merge_by_sets(
        masks,
        scores,
        labels,
        channels,
        NUM_THINGS,
        NUM_STUFF,
        stuff_area=20,
        boxes=boxes,
        **thresholds)
    assert (panoptic.numpy() == expected).all()
    for number, index in enumerate(kept.tolist(), 1):
        assert (panoptic.numpy() == labels[index] + 1000 * number).any()


def test_a_box_that_is_gone_suppresses_nothing():
    """Three boxes in a row, each over half of the next one."""
    boxes = torch.tensor([[0., 0, 6, 1], [1, 0, 7, 1], [2, 0, 8, 1]])
    # IoU of neighbours 5 / 7, of the outer two 4 / 8
    assert class_agnostic_nms(boxes, 0.5) == [0, 2]
    assert class_agnostic_nms(boxes, 0.49) == [0]
    assert class_agnostic_nms(boxes, 0.72) == [0, 1, 2]
    assert class_agnostic_nms(boxes[:0], 0.5) == []
    # without extent
    assert class_agnostic_nms(boxes[:1] * 0, 0.5) == [0]


def test_a_repeated_box_goes_whatever_its_class_and_mask():
    masks = torch.stack([strip(1, 1, 0, 0, 0), strip(0, 0, 1, 1, 0)])
    boxes = torch.tensor([[0., 0, 4, 1], [0, 0, 4, 1]])
    scores, labels = torch.tensor([.8, .9]), torch.tensor([0, 1])
    laid = (masks, boxes, scores, labels, 0.5, 0.5, 7)
    panoptic, kept = paste_instances(*laid)
    assert panoptic.tolist() == [[2000, 2000, 1001, 1001, 7]]
    panoptic, kept = paste_instances(*laid, nms_iou_thr=0.5)
    assert panoptic.tolist() == [[7, 7, 1001, 1001, 7]]
    assert kept.tolist() == [1]
    # below the score threshold it suppresses nothing
    scores[1] = .4
    panoptic, kept = paste_instances(*laid, nms_iou_thr=0.5)
    assert panoptic.tolist() == [[1000, 1000, 7, 7, 7]]
