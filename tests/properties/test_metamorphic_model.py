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
from mmengine.structures import InstanceData

from panoptic_fpn.fusion import fuse
from panoptic_fpn.labels import channel_labels
from panoptic_fpn.ops.upsampled_argmax import resize, upsampled_argmax
from tests.tiny import CONFIG, SPACE, picture

from .strategies import SEEDS

THINGS, CLASSES = SPACE.num_things, SPACE.num_classes
STUFF = CLASSES - THINGS


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


@pytest.fixture(scope='module')
def model():
    return build()


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
    """Of an image, up to rounding.

    Args:
        one, other (DetDataSample): Predictions.
        table (Tensor, optional): Labels of ``other`` for those of ``one``,
            with void.
    """
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


def test_a_batch_says_what_single_images_say(model):
    """Of one size: with smaller images, padding reaches into the features of
    the others' borders by nature."""
    images = images_of(0)
    for single, together in zip(images, predict(model, images)):
        assert_same_prediction(predict(model, [single])[0], together)


def test_images_in_another_order(model):
    images = images_of(5)
    for one, other in zip(
            predict(model, images),
            predict(model, images[::-1])[::-1]):
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


def merged(masks, boxes, scores, labels, channels, **kwargs):
    thresholds = dict(
        score_thr=0.3, overlap_thr=0.5, stuff_area=30, void=CLASSES)
    return fuse(masks, boxes, scores, labels, channels,
                torch.from_numpy(channel_labels(THINGS, STUFF, False)), **{
                    **thresholds,
                    **kwargs
                })


def mirrored_boxes(boxes, axis, length):
    boxes = boxes.clone()
    low, high = (0, 2) if axis == -1 else (1, 3)
    boxes[:, [low, high]] = length - boxes[:, [high, low]]
    return boxes


@given(
    seed=SEEDS,
    axis=st.sampled_from([-1, -2]),
    nms_iou_thr=st.sampled_from([None, 0.3]))
def test_the_merge_of_mirrored_outputs_is_mirrored(seed, axis, nms_iou_thr):
    masks, boxes, scores, labels, logits = outputs(seed)
    # corners of boxes at eighths: mirroring them does not round
    boxes = (boxes * 8).round() / 8
    channels = resize(logits, [((24, 40), (24, 40))]).argmax(0)
    found, kept = merged(
        masks, boxes, scores, labels, channels, nms_iou_thr=nms_iou_thr)
    length = masks.shape[axis]
    other, same = merged(
        masks.flip(axis),
        mirrored_boxes(boxes, axis, length),
        scores,
        labels,
        channels.flip(axis),
        nms_iou_thr=nms_iou_thr)
    assert torch.equal(other, found.flip(axis))
    assert torch.equal(kept, same) and len(kept)


@given(seed=SEEDS)
def test_the_merge_knows_no_order_of_detections(seed):
    masks, boxes, scores, labels, logits = outputs(seed)
    channels = logits.argmax(0).repeat_interleave(4, 0).repeat_interleave(4, 1)
    found, kept = merged(masks, boxes, scores, labels, channels)
    order = torch.randperm(
        len(scores), generator=torch.Generator().manual_seed(seed % 2**31))
    other, same = merged(masks[order], boxes[order], scores[order],
                         labels[order], channels)
    assert torch.equal(other, found)
    assert torch.equal(order[same], kept)


@given(seed=SEEDS)
def test_the_merge_of_permuted_classes_is_permuted(seed):
    masks, boxes, scores, labels, logits = outputs(seed)
    rng = np.random.default_rng(seed)
    things = torch.from_numpy(rng.permutation(THINGS))
    stuff = torch.from_numpy(np.append(rng.permutation(STUFF), STUFF))
    table = torch.cat([things, THINGS + stuff])
    channels = logits.argmax(0).repeat_interleave(4, 0).repeat_interleave(4, 1)
    found, kept = merged(masks, boxes, scores, labels, channels)
    other, same = merged(masks, boxes, scores, things[labels], stuff[channels])
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


def test_a_detector_fills_mirrored_outputs_in_mirrored(model):
    """Of a mirrored image this does not hold by nature: weights, padding and
    strides see left and right differently. Of the outputs of the branches it
    does."""
    masks, boxes, scores, labels, logits = outputs(3)
    boxes = (boxes * 8).round() / 8
    channels = resize(logits, [((24, 40), (24, 40))]).argmax(0)
    maps = []
    for axis in (None, -1):
        if axis is not None:
            masks, channels = masks.flip(axis), channels.flip(axis)
            boxes = mirrored_boxes(boxes, axis, 40)
        sample = DetDataSample(
            metainfo=dict(ori_shape=(24, 40), img_shape=(24, 40)))
        model.add_predictions(
            sample,
            InstanceData(
                masks=masks, bboxes=boxes, scores=scores, labels=labels),
            channels)
        maps.append(sample.pred_panoptic_seg.sem_seg)
    assert torch.equal(maps[1], maps[0].flip(-1))
