"""The merge by words against the plain one, bit by bit; more scenes:
tests/properties/test_fusion.py."""
import numpy as np
import pytest
import torch

from panoptic_fpn.fusion import fuse
from panoptic_fpn.labels import channel_labels
from panoptic_fpn.ops import pattern_merge
from panoptic_fpn.ops.pattern_merge import merge_patterns

SHAPE = (23, 31)
THINGS, STUFF = 8, 11
VOID = THINGS + STUFF
THRESHOLDS = dict(
    score_thr=0.3, overlap_thr=0.5, stuff_area=20, void=VOID, nms_iou_thr=None)


def scene(number, seed=0, shape=SHAPE, channels=STUFF + 1):
    """Instances whose masks reach beyond their boxes, with ties of scores,
    and a semantic map in blocks."""
    rng = np.random.default_rng(seed)
    limit = np.array(shape[::-1])
    corners = np.sort(rng.random((number, 2, 2)) * limit, axis=1)
    boxes = corners.reshape(-1, 4).astype(np.float32)
    masks = rng.random((number, *shape)) < rng.random((number, 1, 1))
    scores = rng.integers(0, 20, number).astype(np.float32) / 20
    labels = rng.integers(0, THINGS, number)
    blocks = rng.integers(0, channels, [side // 5 + 1 for side in shape])
    semantic = np.kron(blocks, np.ones((5, 5), int))[:shape[0], :shape[1]]
    return [*map(torch.tensor, (masks, boxes, scores, labels, semantic))]


def assert_same(*arguments, stuff=None, **thresholds):
    """Indices of the instances that both ways keep."""
    thresholds = dict(THRESHOLDS, **thresholds)
    stuff = torch.from_numpy(
        channel_labels(THINGS, STUFF) if stuff is None else np.array(stuff))
    before = [a if a is None else a.clone() for a in arguments]
    expected = fuse(*arguments, stuff, **thresholds)
    for one, other in zip(
            merge_patterns(*arguments, stuff, **thresholds), expected):
        assert one.dtype == other.dtype and torch.equal(one, other)
    for old, new in zip(before, arguments):
        torch.testing.assert_close(old, new, rtol=0, atol=0, equal_nan=True)
    return expected[1].tolist()


@pytest.mark.parametrize('number', [0, 1, 7, 8, 9, 55, 56, 57, 58, 200])
def test_any_number_of_instances(number, monkeypatch):
    """A word has room for 56; with more the plain way is taken."""
    plain = []

    def counted(*args):
        plain.append(1)
        return fuse(*args)

    monkeypatch.setattr(pattern_merge, 'fuse', counted)
    for overlap_thr in (0.5, 0.99):
        arguments = scene(number)
        kept = assert_same(*arguments, score_thr=0, overlap_thr=overlap_thr)
        assert len(kept) > min(number - 1, 3)
        assert len(plain) == (number > 56)
        plain.clear()
        # only those above the score threshold count
        arguments[2][8:] = 0.2
        assert_same(*arguments, overlap_thr=overlap_thr)
        assert_same(*arguments, overlap_thr=overlap_thr, nms_iou_thr=0.3)
        assert not plain


@pytest.mark.parametrize('channels', [1, 64, 65, 200, 256, 257, 300])
def test_any_number_of_channels(channels):
    """Several have one label, others paint nothing."""
    arguments = scene(12, channels=channels)
    stuff = THINGS + np.arange(channels) % (STUFF + 1)
    for stuff_area in (0, 30, 10**6):
        assert_same(*arguments, stuff=stuff, stuff_area=stuff_area)
    assert_same(*arguments, stuff=np.full(channels, VOID))


@pytest.mark.parametrize('dtype',
                         [torch.float32, torch.float16, torch.bfloat16])
def test_scores_at_the_threshold(dtype):
    """Thresholds are compared in the type of the scores."""
    masks, boxes, _, labels, semantic = scene(9)
    boxes[:] = torch.tensor([0., 0, 31, 23])
    masks[:] = False
    masks[range(9), range(9)] = True  # a row each
    for threshold in (0.3, 0.5, 0.7, 1 / 3):
        scores = torch.tensor(threshold, dtype=dtype).repeat(9)
        scores[3:6] *= 1 + torch.finfo(dtype).eps
        scores[6:] *= 1 - torch.finfo(dtype).eps
        kept = assert_same(
            masks,
            boxes.to(dtype),
            scores,
            labels,
            semantic,
            score_thr=threshold)
        assert kept == [3, 4, 5, 0, 1, 2]


def test_boxes_of_any_kind():
    inf, nan = float('inf'), float('nan')
    odd = [[-9, -9, 99, 99], [40, 5, 50, 9], [-9, 5, -3, 9], [9, 9, 9, 9],
           [9.5, 9.5, 9.5, 9.5], [20, 9, 10, 19], [3, inf, 9, inf],
           [-inf, -inf, inf, inf], [3, 3, inf, 9], [nan, 3, 9, 9],
           [3, 3, nan, 9], [nan] * 4, [1e30, 3, 1e38, 9], [0, 0, 31, 23]]
    seen = set()
    for seed in range(10):
        arguments = scene(len(odd), seed)
        arguments[1] = torch.tensor(odd)
        arguments[0][4], arguments[2][4:6] = True, torch.tensor([1, nan])
        seen.update(assert_same(*arguments, score_thr=0, overlap_thr=1))
    # those with a pixel and a score
    assert seen == {0, 4, 7, 8, 9, 13}


def test_instances_without_pixels_and_all_alike():
    masks, boxes, scores, labels, semantic = scene(20)
    masks[::3] = False
    assert_same(masks, boxes, scores, labels, semantic)
    boxes[:] = torch.tensor([0., 0, 31, 23])
    masks[:] = masks[1]
    assert len(
        assert_same(masks, boxes, scores, labels, semantic,
                    overlap_thr=1)) == 1


def test_other_memory_and_sizes():
    for shape in ((1, 1), (1, 40), (40, 1)):
        for seed in range(5):
            assert_same(*scene(10, seed, shape), overlap_thr=0.9)
    masks, boxes, scores, labels, semantic = scene(10)
    for dtype in (torch.uint8, torch.int32, torch.int16):
        assert_same(
            masks.transpose(1, 2).contiguous().transpose(1, 2), boxes, scores,
            labels.int(),
            semantic.to(dtype).T.contiguous().T)


def test_without_a_semantic_map():
    for number in (0, 12, 57):
        *instances, _ = scene(number)
        assert_same(*instances, None, score_thr=0)
