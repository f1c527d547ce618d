"""The merge on worked examples; any other: tests/properties/test_fusion.py."""
import torch

from panoptic_fpn.fusion import class_agnostic_nms, fill_stuff, paste_instances
from panoptic_fpn.labels import channel_labels

NUM_THINGS, NUM_STUFF = 3, 4
VOID = NUM_THINGS + NUM_STUFF


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
