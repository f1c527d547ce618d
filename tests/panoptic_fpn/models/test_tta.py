"""Test-time augmentation of both branches: oracles, symmetries, hand work."""
import copy

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi, bbox_flip
from mmengine.structures import InstanceData
from torch import nn

from mmengine_exact.errors import InputError
from panoptic_fpn.models import PanopticTTAModel, SemanticTTAModel
from panoptic_fpn.models.tta import (View, average_masks, merge_boxes,
                                     to_augmented, to_original)

from .test_fast_inference import spread
from .test_panoptic_fpn import config
from .test_semantic_tta import (FLIP, PLAIN, assert_argmax, data_of, images,
                                mean_probabilities)


def eager_config(**changes):
    """Guesses of an untrained model that reach the panoptic map."""
    cfg = config()
    cfg.test_cfg.panoptic = dict(score_thr=0.2, overlap_thr=0.5, stuff_area=20)
    cfg.test_cfg.rcnn.max_per_img = 30
    cfg.update(changes)
    return cfg


def wrapped(cfg=None, **kwargs):
    """Around a model whose guesses differ from pixel to pixel."""
    model = spread(cfg or eager_config())
    if model.with_semantic_head:
        torch.manual_seed(4)
        nn.init.normal_(model.semantic_head.conv_seg.weight, std=0.2)
    return PanopticTTAModel(model, **kwargs).eval()


def plain(model, data, number=0):
    """What the model says of one augmentation alone."""
    single = {key: value[number] for key, value in data.items()}
    with torch.no_grad():
        return model.test_step(copy.deepcopy(single))


def agreement(one, two):
    """Share of pixels that are equal."""
    assert one.shape == two.shape
    return (one == two).float().mean().item()


def assert_same_instances(found, wanted, least=0.999):
    assert len(found) == len(wanted) > 0
    torch.testing.assert_close(found.scores, wanted.scores)
    assert torch.equal(found.labels, wanted.labels)
    torch.testing.assert_close(
        found.bboxes, wanted.bboxes, rtol=1e-5, atol=1e-4)
    assert agreement(found.masks, wanted.masks) >= least


def assert_same(found, wanted, least=0.999):
    """Of two samples: instances, semantic and panoptic map."""
    assert_same_instances(found.pred_instances, wanted.pred_instances, least)
    for key in ('pred_sem_seg', 'pred_panoptic_seg'):
        assert agreement(
            getattr(found, key).sem_seg,
            getattr(wanted, key).sem_seg) >= least


@pytest.mark.parametrize('side', [48, 64, 96])
def test_one_plain_view_is_plain_prediction(side):
    tta = wrapped()
    data = data_of(images(), [side], [PLAIN])
    wanted = plain(tta.module, data)
    numbers = []
    for sample, other in zip(tta.test_step(data), wanted):
        assert_same(sample, other)
        assert sample.pred_sem_seg.metainfo == other.pred_sem_seg.metainfo
        assert torch.equal(sample.pred_sem_seg.sem_seg,
                           other.pred_sem_seg.sem_seg)
        numbers.append(len(sample.pred_panoptic_seg.instance_indices))
    assert sum(numbers) > 0


def test_a_view_twice_is_that_view():
    tta = wrapped()
    once = tta.test_step(data_of(images(), [64], [PLAIN]))
    twice = tta.test_step(data_of(images(), [64, 64], [PLAIN]))
    for sample, wanted in zip(twice, once):
        assert_same(sample, wanted)
        assert torch.equal(sample.pred_instances.masks,
                           wanted.pred_instances.masks)


def test_a_mirrored_image_has_the_mirrored_prediction():
    """At scale 1 the two views of one are those of the other."""
    tta = wrapped()
    array = images()[1]
    side = min(array.shape[:2])
    views = dict(sides=[side], flips=[PLAIN, FLIP])
    one, = tta.test_step(data_of([array], **views))
    two, = tta.test_step(data_of([array[:, ::-1].copy()], **views))
    mirrored = two.pred_instances.clone()
    mirrored.bboxes = bbox_flip(mirrored.bboxes, array.shape[:2])
    mirrored.masks = mirrored.masks.flip(2)
    assert_same_instances(mirrored, one.pred_instances)
    for key in ('pred_sem_seg', 'pred_panoptic_seg'):
        assert agreement(
            getattr(two, key).sem_seg.flip(2),
            getattr(one, key).sem_seg) > 0.999
    # and the image is not its own mirror
    assert agreement(
        one.pred_sem_seg.sem_seg.flip(2), one.pred_sem_seg.sem_seg) < 0.99


# --------------------------------------------------- an average done here


def overlap(a, b):
    """IoU of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inner = np.prod(sides.clip(0))
    return inner / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inner)


def suppressed(boxes, scores, labels, threshold, limit):
    """Oracle: indices that NMS of each class leaves, box by box."""
    kept = []
    for i in np.argsort(-scores, kind='stable'):
        if all(labels[i] != labels[k]
               or overlap(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return kept[:limit]


def mirrored_boxes(boxes, sample):
    """Of a flipped image at its original size, in float64."""
    height, width = sample.ori_shape
    boxes = boxes.copy()
    if sample.flip:
        if sample.flip_direction != 'vertical':
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        if sample.flip_direction != 'horizontal':
            boxes[:, [1, 3]] = height - boxes[:, [3, 1]]
    return boxes


def mirrored_maps(maps, sample):
    if sample.flip and sample.flip_direction != 'vertical':
        maps = maps[..., ::-1]
    if sample.flip and sample.flip_direction != 'horizontal':
        maps = maps[..., ::-1, :]
    return maps


def boxes_of_all(model, data, index):
    """Oracle: plain predictions of each view, mapped back and suppressed."""
    found = []
    for number in range(len(data['inputs'])):
        sample = plain(model, data, number)[index]
        instances = sample.pred_instances
        boxes = mirrored_boxes(instances.bboxes.double().numpy(), sample)
        found.append(
            (boxes, instances.scores.numpy(), instances.labels.numpy()))
    boxes, scores, labels = map(np.concatenate, zip(*found))
    cfg = model.test_cfg.rcnn
    kept = suppressed(boxes, scores, labels, cfg.nms.iou_threshold,
                      cfg.max_per_img)
    return boxes[kept], scores[kept], labels[kept]


def probabilities_of_all(model, data, index, boxes, labels):
    """Oracle: mmdet's probabilities in steps of 1 / 255, pasted for each view
    on the whole image, mirrored there and averaged."""
    head, total = model.roi_head, 0
    with torch.no_grad():
        for number in range(len(data['inputs'])):
            batch = model.data_preprocessor(
                copy.deepcopy({
                    k: v[number]
                    for k, v in data.items()
                }), False)
            sample = batch['data_samples'][index]
            there = mirrored_boxes(boxes, sample) * np.tile(
                sample.scale_factor, 2)
            feats = model.extract_feat(batch['inputs'][index:index + 1])
            result = InstanceData(
                bboxes=torch.from_numpy(there).float(),
                labels=torch.from_numpy(labels))
            result, = head.predict_mask(
                feats, [sample.metainfo], [result], rescale=True)
            total = total + mirrored_maps(result.masks.numpy().astype(float),
                                          sample)
    return total / len(data['inputs']) / 255


@pytest.mark.parametrize('sides, flips', [
    ([64], [PLAIN, FLIP]),
    ([48, 64, 96], [PLAIN]),
    ([48, 80], [PLAIN, (1.0, 'vertical'), (1.0, 'diagonal')]),
])
def test_the_average_is_the_oracles(sides, flips, monkeypatch):
    tta = wrapped()
    # one size of both: the oracle looks at an image without the other
    arrays = [images()[0], images()[0][::-1].copy()]
    data = data_of(arrays, sides, flips)
    semantic = mean_probabilities(tta.module, data)
    found = tta.test_step(copy.deepcopy(data))
    for index, sample in enumerate(found):
        instances = sample.pred_instances
        boxes, scores, labels = boxes_of_all(tta.module, data, index)
        assert len(boxes) == len(instances) > 0
        np.testing.assert_allclose(instances.scores, scores, atol=1e-5)
        assert (instances.labels.numpy() == labels).all()
        np.testing.assert_allclose(instances.bboxes, boxes, atol=1e-3)
        with monkeypatch.context() as patch:
            patch.setitem(tta.module.roi_head.test_cfg, 'mask_thr_binary', -1)
            wanted = probabilities_of_all(tta.module, data, index, boxes,
                                          labels)
        clear = np.abs(wanted - 0.5) > 2 / 255
        masks = instances.masks.numpy()
        assert (masks == (wanted >= 0.5))[clear].all()
        assert clear.mean() > 0.8 and masks.any() and not masks.all()
        assert_argmax(sample, semantic[index])


def test_one_merge_for_each_image(monkeypatch):
    tta = wrapped()
    head, calls = tta.module.panoptic_fusion_head, []
    predict = head.predict

    def counted(*args):
        calls.append(args)
        return predict(*args)

    monkeypatch.setattr(head, 'predict', counted)
    found = tta.test_step(data_of(images(), [48, 64], [PLAIN, FLIP]))
    assert len(calls) == len(found) == 2
    for sample in found:
        shape = sample.ori_shape
        assert sample.pred_instances.masks.shape[1:] == shape
        panoptic, kept = predict(sample.pred_instances,
                                 sample.pred_sem_seg.sem_seg[0], False, shape)
        assert torch.equal(panoptic, sample.pred_panoptic_seg.sem_seg[0])
        assert kept.tolist() == sample.pred_panoptic_seg.instance_indices


# ------------------------------------------------------- other models


def test_the_semantic_branch_alone():
    cfg = eager_config(loss_weights=dict(instance=0.0, semantic=1.0))
    torch.manual_seed(0)
    module = MODELS.build(cfg).eval()
    data = data_of(images(), [48, 64], [PLAIN, FLIP])
    wanted = SemanticTTAModel(module).test_step(copy.deepcopy(data))
    for sample, other in zip(PanopticTTAModel(module).test_step(data), wanted):
        assert 'pred_instances' not in sample
        for key in ('pred_sem_seg', 'pred_panoptic_seg'):
            assert torch.equal(
                getattr(sample, key).sem_seg,
                getattr(other, key).sem_seg)


def test_the_region_branch_alone():
    cfg = eager_config()
    full = wrapped(cfg)
    cfg.loss_weights = dict(instance=1.0, semantic=0.0)
    module = MODELS.build(copy.deepcopy(cfg)).eval()
    module.load_state_dict(full.module.state_dict(), strict=False)
    data = data_of(images(), [48, 64], [PLAIN, FLIP])
    wanted = full.test_step(copy.deepcopy(data))
    for sample, other in zip(PanopticTTAModel(module).test_step(data), wanted):
        assert 'pred_sem_seg' not in sample
        assert_same_instances(sample.pred_instances, other.pred_instances)
        assert sample.pred_panoptic_seg.instance_indices == \
            other.pred_panoptic_seg.instance_indices


def test_two_networks():
    """Instances are the one network's, the semantic map the other's."""
    cfg = eager_config(type='TwoNetworkPanopticFPN')
    torch.manual_seed(0)
    two = MODELS.build(cfg).eval()
    two.instance_network.load_state_dict(
        spread(eager_config()).state_dict(), strict=False)
    for network in (two.instance_network, two.semantic_network):
        network.data_preprocessor = two.data_preprocessor
    data = data_of(images(), [48, 64], [PLAIN, FLIP])
    found = PanopticTTAModel(two).test_step(copy.deepcopy(data))
    parts = [
        PanopticTTAModel(network).test_step(copy.deepcopy(data))
        for network in (two.instance_network, two.semantic_network)
    ]
    for sample, things, stuff in zip(found, *parts):
        assert_same_instances(sample.pred_instances, things.pred_instances)
        assert torch.equal(sample.pred_sem_seg.sem_seg,
                           stuff.pred_sem_seg.sem_seg)
        assert sample.pred_panoptic_seg.instance_indices == \
            things.pred_panoptic_seg.instance_indices


def test_panoptic_only_is_the_same_map():
    cfg = eager_config()
    cfg.test_cfg.panoptic.score_thr = 0.9
    full = wrapped(cfg)
    cfg.test_cfg.panoptic_only = True
    few = wrapped(cfg)
    few.module.load_state_dict(full.module.state_dict())
    data = data_of(images(), [48, 64], [PLAIN, FLIP])
    numbers = []
    for sample, other in zip(
            few.test_step(copy.deepcopy(data)), full.test_step(data)):
        assert torch.equal(sample.pred_panoptic_seg.sem_seg,
                           other.pred_panoptic_seg.sem_seg)
        numbers.append((len(sample.pred_instances), len(other.pred_instances)))
    assert all(one <= two for one, two in numbers)
    assert any(one < two for one, two in numbers)


def test_without_a_detection():
    cfg = eager_config()
    cfg.test_cfg.rcnn.score_thr = 1.1
    for sample in wrapped(cfg).test_step(
            data_of(images(), [48, 64], [PLAIN, FLIP])):
        assert len(sample.pred_instances) == 0
        assert sample.pred_instances.masks.shape == (0, *sample.ori_shape)
        assert sample.pred_panoptic_seg.sem_seg.shape[1:] == sample.ori_shape


def test_settings_of_the_boxes():
    data = data_of(images(), [48, 64], [PLAIN])
    few = wrapped(tta_cfg=dict(max_per_img=3)).test_step(copy.deepcopy(data))
    assert [len(sample.pred_instances) for sample in few] == [3, 3]
    many = wrapped(tta_cfg=dict(
        nms=dict(type='nms', iou_threshold=1.0))).test_step(data)
    assert all(len(sample.pred_instances) == 30 for sample in many)


def test_what_is_refused():
    data = data_of(images(), [48], [PLAIN])
    with pytest.raises(InputError, match='not augmented. Test with --tta'):
        wrapped().test_step({key: value[0] for key, value in data.items()})
    cfg = config()
    for key in ('loss_weights', 'semantic_head', 'panoptic_fusion_head'):
        cfg.pop(key)
    with pytest.raises(InputError, match='MaskRCNN does not have'):
        PanopticTTAModel(MODELS.build(dict(cfg, type='MaskRCNN')))


# ---------------------------------------------------- worked out by hand


def test_boxes_of_a_scaled_and_mirrored_image():
    """Original 50 x 100 (h, w); network input twice as wide, 3 times as
    high."""
    meta = dict(
        img_shape=(150, 200),
        scale_factor=(2.0, 3.0),
        flip=True,
        flip_direction='horizontal')
    # columns 10 to 30 of 100 are 70 to 90 of the mirror image
    original = torch.tensor([[10., 5., 30., 20.]])
    there = torch.tensor([[140., 15., 180., 60.]])
    assert torch.equal(to_augmented(original, meta), there)
    back = to_original(
        InstanceData(
            bboxes=there, scores=torch.ones(1), labels=torch.zeros(1)), meta)
    assert torch.equal(back.bboxes, original)
    upright = dict(meta, flip=False)
    assert torch.equal(
        to_augmented(original, upright), torch.tensor([[20., 15., 60., 60.]]))
    over = dict(meta, flip_direction='vertical')
    assert torch.equal(
        to_augmented(original, over), torch.tensor([[20., 90., 60., 135.]]))


def detections(*rows):
    """Of rows (x1, y1, x2, y2, score, label)."""
    table = torch.tensor(rows).reshape(-1, 6)
    return InstanceData(
        bboxes=table[:, :4], scores=table[:, 4], labels=table[:, 5].long())


def test_merged_boxes():
    found = [
        detections([0., 0., 10., 10., .6, 0], [20., 20., 30., 30., .3, 1]),
        # IoU 0.9 with the first; the same place as the second, another class
        detections([0., 0., 10., 9., .8, 0], [20., 20., 30., 30., .2, 0]),
        detections(),
    ]
    merged = merge_boxes(found, dict(type='nms', iou_threshold=0.5), -1)
    assert merged.bboxes.tolist() == [[0, 0, 10, 9], [20, 20, 30, 30],
                                      [20, 20, 30, 30]]
    torch.testing.assert_close(merged.scores, torch.tensor([.8, .3, .2]))
    assert merged.labels.tolist() == [0, 1, 0]
    assert len(merge_boxes(found, dict(type='nms', iou_threshold=0.5), 2)) == 2
    assert len(merge_boxes(found[2:], dict(type='nms'), 100)) == 0


class Handed(nn.Module):
    """An extractor that hands on its features for each box, as logits."""

    num_inputs = 1

    def forward(self, feats, rois):
        return feats[0][rois[:, 0].long()]


class Cascade(nn.Module):
    """Two stages: logits as they are, and of the opposite sign."""

    def __init__(self):
        super().__init__()
        self.mask_roi_extractor = nn.ModuleList([Handed(), Handed()])
        self.mask_head = nn.ModuleList([nn.Identity(), Negative()])


class Negative(nn.Module):

    def forward(self, logits):
        return -logits


def views_of(logits, flips):
    """Of two images: logits (2, 1, 2, 2) for each view."""
    views = []
    for values, flip in zip(logits, flips):
        meta = dict(
            img_shape=(8, 8),
            scale_factor=(1.0, 1.0),
            flip=flip is not None,
            flip_direction=flip)
        views.append(View([meta, meta], (torch.tensor(values), ), []))
    return views


def logit(p):
    return float(np.log(p / (1 - p)))


def test_average_of_masks():
    """Probabilities 0.9, 0.1 / 0.5, 0.5 and a mirrored view of 0.5, 0.7 /
    0.3, 0.5; the second image has no box."""
    first = [[[logit(.9), logit(.1)], [0., 0.]]]
    second = [[[0., logit(.7)], [logit(.3), 0.]]]
    views = views_of([[first, first], [second, second]], [None, 'horizontal'])
    box = detections([1., 1., 5., 5., .9, 0])
    single = nn.Module()
    single.mask_roi_extractor, single.mask_head = Handed(), nn.Identity()
    masks = average_masks(single, views, [box, detections()])
    wanted = torch.tensor([[.8, .3], [.5, .4]])
    torch.testing.assert_close(masks[0], wanted[None, None])
    assert masks[1].shape == (0, 1, 2, 2)
    # vertically: 0.3, 0.5 / 0.5, 0.7
    views = views_of([[first, first], [second, second]], [None, 'vertical'])
    masks = average_masks(single, views, [box, detections()])
    wanted = torch.tensor([[.6, .3], [.5, .6]])
    torch.testing.assert_close(masks[0], wanted[None, None])
    # p and 1 - p in the stages of a cascade
    masks = average_masks(Cascade(), views, [box, box])
    torch.testing.assert_close(masks[0], torch.full((1, 1, 2, 2), .5))
    assert bbox2roi([box.bboxes]).shape == (1, 5)
