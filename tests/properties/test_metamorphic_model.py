"""What must not change what a model says of an image, with random weights.

Equal to the bit are the merge and whatever is sorted or chosen; networks add
up in another order for another batch, so their numbers agree up to rounding.
"""
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config

from panoptic_fpn.fusion import fuse
from panoptic_fpn.labels import channel_labels
from panoptic_fpn.ops.upsampled_argmax import resize, upsampled_argmax
from tests.tiny import CONFIG, SPACE, picture

from .strategies import SEEDS

THINGS, CLASSES = SPACE.num_things, SPACE.num_classes
STUFF = CLASSES - THINGS


@pytest.fixture(scope='module')
def model():
    return build()


def build():
    """The tiny model with random weights, which guesses different classes."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.test_cfg.rcnn.update(score_thr=0.05, max_per_img=20)
    cfg.model.test_cfg.panoptic = dict(
        score_thr=0.0, overlap_thr=0.9, stuff_area=0)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    with torch.no_grad():
        # from about 1 / 5 for each class to scores that differ
        model.roi_head.bbox_head.fc_cls.weight *= 30
        model.semantic_head.conv_seg.weight *= 30
    model.eval()
    # no class is the likeliest everywhere
    layer, seen = model.roi_head.bbox_head.fc_cls, []
    hook = layer.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0]))
    predict(model, images_of(1))
    hook.remove()
    layer.bias.data.copy_(-layer.weight.data @ seen[0].mean(0))
    return model


def predict(model, images):
    """What the model says of images of one size, as one batch."""
    samples = []
    for i, image in enumerate(images):
        shape = image.shape[:2]
        samples.append(
            DetDataSample(
                metainfo=dict(
                    img_id=i,
                    img_shape=shape,
                    ori_shape=shape,
                    scale_factor=(1.0, 1.0))))
    inputs = [
        torch.from_numpy(image).permute(2, 0, 1).contiguous()
        for image in images
    ]
    with torch.no_grad():
        return model.test_step(dict(inputs=inputs, data_samples=samples))


def images_of(seed, number=3):
    return [picture(64, 96, seed + i) for i in range(number)]


def assert_same_map(one, other, share=0.999):
    """Two maps of labels agree but for pixels that rounding decides."""
    assert one.shape == other.shape
    assert (one == other).double().mean() >= share


def assert_same_prediction(one, other, table=None):
    """Of an image, up to rounding; ``table`` gives labels of ``other`` for
    those of ``one``, with void."""
    table = torch.arange(CLASSES + 1) if table is None else table
    a, b = one.pred_instances, other.pred_instances
    assert len(a) == len(b) > 0
    torch.testing.assert_close(a.scores, b.scores, rtol=1e-4, atol=1e-5)
    assert torch.equal(table[a.labels], b.labels)
    torch.testing.assert_close(a.bboxes, b.bboxes, rtol=1e-4, atol=1e-2)
    assert_same_map(a.masks, b.masks)
    codes = one.pred_panoptic_seg.sem_seg
    codes = table[codes % 1000] + codes // 1000 * 1000
    assert_same_map(codes, other.pred_panoptic_seg.sem_seg)


def test_a_batch_says_what_its_images_say_in_any_order(model):
    """Of one size: with smaller images, padding reaches into the features of
    the others' borders by nature."""
    images = images_of(0)
    backwards = predict(model, images[::-1])[::-1]
    for image, one, other in zip(images, predict(model, images), backwards):
        assert_same_prediction(predict(model, [image])[0], one)
        assert_same_prediction(one, other)


def test_the_comparison_can_fail(model):
    one, other = predict(model, images_of(0, 2))
    with pytest.raises(AssertionError):
        assert_same_prediction(one, other)


def permuted(model, things, stuff):
    """The model with the channels of its classes in another order: class
    ``things[i]`` is now i, and so for stuff."""
    other = build()
    other.load_state_dict(model.state_dict())
    box, mask = other.roi_head.bbox_head, other.roi_head.mask_head
    rows = {
        box.fc_cls: [*things, THINGS],
        box.fc_reg: [4 * t + i for t in things for i in range(4)],
        mask.conv_logits: things,
        other.semantic_head.conv_seg: [*stuff, STUFF]
    }
    with torch.no_grad():
        for layer, order in rows.items():
            for parameter in layer.parameters():
                parameter.copy_(parameter[order].clone())
    return other


def test_permuted_channels_give_permuted_labels(model):
    """RPN and the features know no classes; NMS is by class."""
    things, stuff = [2, 0, 3, 1], [4, 2, 0, 1, 3]
    other = permuted(model, things, stuff)
    table = torch.empty(CLASSES + 1, dtype=torch.long)
    order = [*things, *(THINGS + s for s in stuff), CLASSES]
    table[order] = torch.arange(CLASSES + 1)
    images = images_of(9)
    seen = set()
    for one, two in zip(predict(model, images), predict(other, images)):
        assert_same_prediction(one, two, table)
        seen |= set((one.pred_panoptic_seg.sem_seg % 1000).unique().tolist())
    assert len(seen & set(range(THINGS))) > 2
    assert len(seen - set(range(THINGS))) > 2


def outputs(seed, height=24, width=40, number=12):
    """Random detections of different scores, and logits that have areas."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(-4, [width - 4, height - 4], (number, 2))
    boxes = np.concatenate([low, low + rng.uniform(2, 20, (number, 2))], 1)
    y, x = np.mgrid[:height, :width] + 0.5
    inside = [(x > x1) & (x < x2) & (y > y1) & (y < y2)
              for x1, y1, x2, y2 in boxes]
    masks = np.array(inside) & (rng.random((number, height, width)) < 0.9)
    logits = rng.normal(size=(STUFF + 1, height // 4, width // 4))
    return (torch.from_numpy(masks), torch.from_numpy(boxes).float(),
            torch.from_numpy(rng.permutation(number) / number),
            torch.from_numpy(rng.integers(0, THINGS, number)),
            torch.from_numpy(logits).float())


def merge(masks, boxes, scores, labels, channels, nms_iou_thr=None):
    stuff = torch.from_numpy(channel_labels(THINGS, STUFF, False))
    return fuse(masks, boxes, scores, labels, channels, stuff, 0.3, 0.5, 30,
                CLASSES, nms_iou_thr)


@given(
    seed=SEEDS,
    axis=st.sampled_from([-1, -2]),
    nms_iou_thr=st.sampled_from([None, 0.3]))
def test_the_merge_of_changed_outputs_is_changed_alike(seed, axis,
                                                       nms_iou_thr):
    masks, boxes, scores, labels, logits = outputs(seed)
    # corners of boxes at eighths: mirroring them does not round
    boxes = (boxes * 8).round() / 8
    channels = resize(logits, [((24, 40), (24, 40))]).argmax(0)
    found, kept = merge(masks, boxes, scores, labels, channels, nms_iou_thr)
    assert len(kept)
    # mirrored
    mirrored = boxes.clone()
    low, high = (0, 2) if axis == -1 else (1, 3)
    mirrored[:, [low, high]] = masks.shape[axis] - boxes[:, [high, low]]
    other, same = merge(
        masks.flip(axis), mirrored, scores, labels, channels.flip(axis),
        nms_iou_thr)
    assert torch.equal(other, found.flip(axis)) and torch.equal(kept, same)
    # detections in another order
    rng = np.random.default_rng(seed)
    order = torch.from_numpy(rng.permutation(len(scores)))
    other, same = merge(masks[order], boxes[order], scores[order],
                        labels[order], channels, nms_iou_thr)
    assert torch.equal(other, found) and torch.equal(order[same], kept)
    # classes in another order
    things = torch.from_numpy(rng.permutation(THINGS))
    stuff = torch.from_numpy(np.append(rng.permutation(STUFF), STUFF))
    other, same = merge(masks, boxes, scores, things[labels], stuff[channels],
                        nms_iou_thr)
    table = torch.cat([things, THINGS + stuff])
    assert torch.equal(other % 1000, table[(found % 1000).long()])
    assert torch.equal(other // 1000, found // 1000)
    assert torch.equal(kept, same)


@given(seed=SEEDS, axis=st.sampled_from([-1, -2]))
def test_channels_of_mirrored_logits_are_mirrored(seed, axis):
    """Up to rounding, which decides where two channels are as good:
    interpolation takes its two neighbours in another order. There, what wins
    is as large as what does not."""
    logits = outputs(seed)[-1]
    steps = [((24, 40), (24, 40))]
    found = upsampled_argmax(logits, steps)
    other = upsampled_argmax(logits.flip(axis).contiguous(), steps).flip(axis)
    values = resize(logits, steps)
    loss = values.gather(0, found[None]) - values.gather(0, other[None])
    assert loss.abs().max() < 1e-5
    assert_same_map(found, other, share=0.99)
