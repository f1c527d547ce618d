"""The merge of section 3.2 on any masks, scores and channels."""
import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from panoptic_fpn.fusion import box_windows, fuse, paste_instances
from panoptic_fpn.labels import channel_labels
from panoptic_fpn.ops.pattern_merge import merge_patterns
from tests.oracles.merge import merge_by_sets

from . import strategies

FRACTIONS = st.one_of(
    st.sampled_from([0.0, 0.2, 0.3, 1 / 3, 0.5, 0.6, 2 / 3, 0.7, 0.9, 1.0]),
    st.floats(0, 1))
#: Scores are compared as float32.
SCORE_THRESHOLDS = st.one_of(strategies.SCORES, st.floats(0, 1, width=32))


@st.composite
def scenes(draw):
    """Arguments of a merge, as arrays, and its thresholds."""
    shape = draw(strategies.shapes())
    things, stuff = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    assume(things + stuff)
    predict_things = draw(st.booleans())
    most = draw(st.sampled_from([6, 6, 40]))
    laid = draw(strategies.instances(shape, things, most))
    channels = draw(
        strategies.channel_maps(
            shape, things + stuff if predict_things else stuff + 1))
    thresholds = dict(
        score_thr=draw(SCORE_THRESHOLDS),
        overlap_thr=draw(FRACTIONS),
        stuff_area=draw(st.integers(0, shape[0] * shape[1] + 1)),
        nms_iou_thr=draw(st.none() | FRACTIONS))
    return laid, channels, (things, stuff), predict_things, thresholds


def assert_same(found, panoptic, kept):
    """The same map and instances, in type, too."""
    for one, other in zip(found, (panoptic, kept)):
        assert one.dtype == other.dtype and torch.equal(one, other)


def ours(laid, channels, numbers, predict_things, thresholds):
    # channels of any type, as a part of a larger map
    dtype = (torch.int64, torch.int32, torch.uint8)[channels.shape[0] % 3]
    larger = torch.from_numpy(np.pad(channels, 3)).to(dtype)
    arguments = (*map(torch.from_numpy, laid), larger[3:-3, 3:-3],
                 torch.from_numpy(channel_labels(*numbers, predict_things)))
    panoptic, kept = fuse(*arguments, void=sum(numbers), **thresholds)
    assert panoptic.dtype == torch.int32
    assert_same(
        merge_patterns(*arguments, void=sum(numbers), **thresholds), panoptic,
        kept)
    return panoptic.numpy(), kept.tolist()


@given(scenes())
def test_equals_the_merge_by_sets(scene):
    laid, channels, numbers, predict_things, thresholds = scene
    masks, boxes, scores, labels = laid
    expected = merge_by_sets(
        masks,
        scores,
        labels,
        channels,
        *numbers,
        predict_things=predict_things,
        boxes=boxes,
        **thresholds)
    assert (ours(*scene)[0] == expected).all()


@given(scenes())
def test_what_every_merge_has(scene):
    laid, channels, (things, stuff), predict_things, thresholds = scene
    masks, _, scores, labels = laid
    panoptic, kept = ours(*scene)
    # scores descend, ties keep their order, all are good enough
    assert kept == sorted(kept, key=lambda i: (-scores[i], i))
    assert (scores[kept] >= np.float32(thresholds['score_thr'])).all()
    free = np.ones(panoptic.shape, bool)
    for number, i in enumerate(kept, 1):
        visible = panoptic == labels[i] + 1000 * number
        # what better instances left, and enough of it
        assert (visible == masks[i] & free).all()
        area, left = masks[i].sum(), visible.sum()
        assert left and (area - left) / area <= thresholds['overlap_thr']
        free &= ~masks[i]
    # nothing else but whole stuff and void is left
    assert (panoptic[free] <= things + stuff).all()
    assert (panoptic[~free] > 999).all()
    for label in range(things + stuff):
        visible = panoptic == label
        if not visible.any():
            continue
        assert label >= things
        channel = label if predict_things else label - things
        assert (visible == free & (channels == channel)).all()
        assert visible.sum() >= thresholds['stuff_area']
    for label in range(things, things + stuff):
        channel = label if predict_things else label - things
        area = (free & (channels == channel)).sum()
        if area >= max(1, thresholds['stuff_area']):
            assert (panoptic == label).sum() == area


@given(st.data())
def test_a_mask_counts_inside_its_box(data):
    """The window is the least one of whole pixels around the box."""
    shape = data.draw(strategies.shapes())
    masks, _, scores, labels = data.draw(strategies.instances(shape, 3))
    number = len(masks)
    corners = data.draw(
        st.lists(
            st.floats(-3, 20, width=32),
            min_size=4 * number,
            max_size=4 * number))
    boxes = np.sort(np.array(corners, np.float32).reshape(-1, 2, 2), axis=1)
    boxes = boxes.reshape(-1, 4)
    cut = masks.copy()
    for mask, (x1, y1, x2, y2) in zip(cut, boxes):
        mask[:max(0, int(np.floor(y1)))] = False
        mask[max(0, int(np.ceil(y2))):] = False
        mask[:, :max(0, int(np.floor(x1)))] = False
        mask[:, max(0, int(np.ceil(x2))):] = False
    overlap_thr = data.draw(FRACTIONS)
    laid = [*map(torch.from_numpy, (masks, boxes, scores, labels))]
    panoptic, kept = paste_instances(*laid, 0.4, overlap_thr, 3)
    assert_same(
        merge_patterns(*laid, None, torch.tensor([0]), 0.4, overlap_thr, 0, 3),
        panoptic, kept)
    expected = merge_by_sets(
        cut, scores, labels, None, 3, 0, score_thr=.4, overlap_thr=overlap_thr)
    assert (panoptic.numpy() == expected).all()
    for y1, x1, y2, x2 in box_windows(torch.from_numpy(boxes), shape):
        assert 0 <= y1 <= shape[0] and 0 <= x1 <= shape[1]
        assert y2 <= shape[0] and x2 <= shape[1]
