"""Test-time augmentation of both branches: oracles, symmetries, hand work."""
import copy
import json
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_flip
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from torch import nn

from mmengine_exact.errors import RunError
from mmengine_exact.match import bare_model, load_weights
from panoptic_fpn.models import PanopticTTAModel
from panoptic_fpn.models.tta import (View, average_masks, merge_boxes,
                                     to_augmented, to_original)
from panoptic_fpn.training.test_options import enable_tta

from .test_fast_inference import spread
from .test_panoptic_fpn import config

# (h, w) of two images: one batch pads both
SIZES = ((40, 70), (64, 48))
#: Probability and direction of a flip.
PLAIN = (0.0, 'horizontal')
FLIP = (1.0, 'horizontal')
STUFF_ONLY = dict(instance=0.0, semantic=1.0)


def eager_config(**changes):
    """Guesses of an untrained model that reach the panoptic map."""
    cfg = config()
    cfg.test_cfg.panoptic = dict(score_thr=0.2, overlap_thr=0.5, stuff_area=20)
    cfg.test_cfg.rcnn.max_per_img = 30
    cfg.update(changes)
    return cfg


def wrapped(cfg=None, kind='PanopticTTAModel', **kwargs):
    """Around a model whose guesses differ from pixel to pixel."""
    model = spread(cfg or eager_config())
    if model.with_semantic_head:
        torch.manual_seed(4)
        nn.init.normal_(model.semantic_head.conv_seg.weight, std=0.2)
    return MODELS.build(dict(type=kind, module=model, **kwargs)).eval()


def images(symmetric=False):
    rng = np.random.default_rng(5)
    found = []
    for height, width in SIZES:
        image = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        image = image.repeat(8, axis=0).repeat(8, axis=1)
        if symmetric:
            image = np.concatenate([image, image[:, ::-1]], axis=1)
        found.append(image)
    return found


def data_of(arrays, sides, flips):
    """Images after the ``tta_pipeline`` of a config."""
    sizes = [
        dict(type='PanopticResize', scale=(10 * side, side), keep_ratio=True)
        for side in sides
    ]
    mirrors = [
        dict(type='RandomFlip', prob=prob, direction=direction)
        for prob, direction in flips
    ]
    process = Compose([
        dict(type='mmdet.LoadImageFromNDArray'),
        dict(
            type='TestTimeAug',
            transforms=[sizes, mirrors, [dict(type='PackPanopticInputs')]])
    ])
    return pseudo_collate(
        [process(dict(img=array, img_id=i)) for i, array in enumerate(arrays)])


def view_of(data, number):
    return copy.deepcopy({key: value[number] for key, value in data.items()})


@torch.no_grad()
def plain(model, data, number=0):
    """What the model says of one augmentation alone."""
    return model.test_step(view_of(data, number))


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


@pytest.mark.parametrize('side', [48, 96])
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


def test_a_symmetric_image_has_a_symmetric_semantic_map():
    """Image and mirror image are one; a + b = b + a in floating point."""
    tta = wrapped(eager_config(loss_weights=STUFF_ONLY))
    arrays = images(symmetric=True)
    alone = tta.test_step(data_of(arrays, [32], [PLAIN]))
    both = tta.test_step(data_of(arrays, [32], [PLAIN, FLIP]))
    one, two = ([s.pred_sem_seg.sem_seg for s in part]
                for part in (alone, both))
    assert not all(torch.equal(m, m.flip(2)) for m in one)
    assert all(torch.equal(m, m.flip(2)) for m in two)


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


def mean_probabilities(model, data, prior=1.):
    """Oracle: semantic probabilities, float64 (K, h, w) of each image,
    interpolated, divided by ``prior``, flipped back and averaged."""
    sums = [0, 0]
    for number in range(len(data['inputs'])):
        batch = model.data_preprocessor(view_of(data, number), False)
        with torch.no_grad():
            logits = model.semantic_head(model.extract_feat(batch['inputs']))
        padded = F.interpolate(
            logits, batch['inputs'].shape[-2:], mode='bilinear')
        for i, sample in enumerate(batch['data_samples']):
            height, width = sample.img_shape
            scores = F.interpolate(
                padded[i:i + 1, :, :height, :width],
                sample.ori_shape,
                mode='bilinear')[0].double().numpy()
            scores = np.exp(scores - scores.max(axis=0)) / prior
            sums[i] = sums[i] + mirrored_maps(scores / scores.sum(axis=0),
                                              sample)
    return [total / len(data['inputs']) for total in sums]


def assert_argmax(sample, scores):
    """Equal wherever rounding cannot decide."""
    found = sample.pred_sem_seg.sem_seg[0].numpy()
    assert found.shape == scores.shape[1:]
    best = np.sort(scores, axis=0)
    clear = best[-1] - best[-2] > 1e-5
    assert clear.mean() > 0.99
    assert (found == scores.argmax(axis=0))[clear].all()
    assert len(np.unique(found)) > 2


def boxes_of_all(samples, cfg):
    """Oracle: plain predictions of each view, mapped back and suppressed."""
    boxes, scores, labels = map(
        np.concatenate,
        zip(*((mirrored_boxes(s.pred_instances.bboxes.double().numpy(), s),
               s.pred_instances.scores.numpy(),
               s.pred_instances.labels.numpy()) for s in samples)))
    kept = suppressed(boxes, scores, labels, cfg.nms.iou_threshold,
                      cfg.max_per_img)
    return boxes[kept], scores[kept], labels[kept]


@torch.no_grad()
def probabilities_of_all(model, data, index, boxes, labels):
    """Oracle: mmdet's probabilities in steps of 1 / 255, pasted for each view
    on the whole image, mirrored there and averaged."""
    total = 0
    for number in range(len(data['inputs'])):
        batch = model.data_preprocessor(view_of(data, number), False)
        sample = batch['data_samples'][index]
        there = mirrored_boxes(boxes, sample) * np.tile(sample.scale_factor, 2)
        feats = model.extract_feat(batch['inputs'][index:index + 1])
        result = InstanceData(
            bboxes=torch.from_numpy(there).float(),
            labels=torch.from_numpy(labels))
        result, = model.roi_head.predict_mask(
            feats, [sample.metainfo], [result], rescale=True)
        total = total + mirrored_maps(result.masks.numpy().astype(float),
                                      sample)
    return total / len(data['inputs']) / 255


@pytest.mark.parametrize('sides, flips', [
    ([48, 80], [PLAIN, FLIP]),
    ([64], [(1.0, 'vertical'), (1.0, 'diagonal')]),
])
def test_the_average_is_the_oracles(sides, flips, monkeypatch):
    tta = wrapped()
    # one size of both: the oracle looks at an image without the other
    arrays = [images()[0], images()[0][::-1].copy()]
    data = data_of(arrays, sides, flips)
    semantic = mean_probabilities(tta.module, data)
    views = [plain(tta.module, data, i) for i in range(len(data['inputs']))]
    assert len(views) == len(sides) * len(flips)
    found = tta.test_step(copy.deepcopy(data))
    monkeypatch.setitem(tta.module.roi_head.test_cfg, 'mask_thr_binary', -1)
    for index, sample in enumerate(found):
        instances = sample.pred_instances
        boxes, scores, labels = boxes_of_all([view[index] for view in views],
                                             tta.module.test_cfg.rcnn)
        assert len(boxes) == len(instances) > 0
        np.testing.assert_allclose(instances.scores, scores, atol=1e-5)
        assert (instances.labels.numpy() == labels).all()
        np.testing.assert_allclose(instances.bboxes, boxes, atol=1e-3)
        wanted = probabilities_of_all(tta.module, data, index, boxes, labels)
        clear = np.abs(wanted - 0.5) > 2 / 255
        masks = instances.masks.numpy()
        assert (masks == (wanted >= 0.5))[clear].all()
        assert clear.mean() > 0.8 and masks.any() and not masks.all()
        assert_argmax(sample, semantic[index])
        # one merge of both
        panoptic, kept = tta.module.panoptic_fusion_head.predict(
            instances, sample.pred_sem_seg.sem_seg[0], False, sample.ori_shape)
        assert torch.equal(panoptic, sample.pred_panoptic_seg.sem_seg[0])
        assert kept.tolist() == sample.pred_panoptic_seg.instance_indices


def test_class_balance(tmp_path):
    counts = np.array([500, 100, 300, 400, 200, 100])
    path = tmp_path / 'f.json'
    path.write_text(
        json.dumps(
            dict(
                predict_things=False,
                classes=[dict(pixels=int(n)) for n in counts])))
    data = data_of(images(), [32, 48], [PLAIN, FLIP])
    cfg = eager_config(loss_weights=STUFF_ONLY)
    tta = wrapped(cfg, class_balance=dict(file=str(path), power=0.5))
    prior = np.sqrt(counts / counts.sum()).reshape(-1, 1, 1)
    wanted = mean_probabilities(tta.module, data, prior)
    found = tta.test_step(copy.deepcopy(data))
    for sample, scores in zip(found, wanted):
        assert_argmax(sample, scores)
    assert any(
        not torch.equal(one.pred_sem_seg.sem_seg, two.pred_sem_seg.sem_seg)
        for one, two in zip(found,
                            wrapped(cfg).test_step(data)))


def test_logits_of_other_augmentations_are_not_held(monkeypatch):
    tta = wrapped()
    head, seen = tta.module.semantic_head, []
    predict = head.predict

    def watched(*args, **kwargs):
        assert not any(reference() is not None for reference in seen)
        for logits in predict(*args, **kwargs):
            seen.append(weakref.ref(logits))
            yield logits

    monkeypatch.setattr(head, 'predict', watched)
    tta.test_step(data_of(images(), [32, 48], [PLAIN, FLIP]))
    assert len(seen) == 4 * len(SIZES)


@pytest.mark.parametrize('kind', ['PanopticTTAModel', 'SemanticTTAModel'])
def test_the_semantic_branch_alone(kind):
    full = wrapped()
    only = wrapped(eager_config(loss_weights=STUFF_ONLY), kind)
    assert bare_model(only) is only.module
    report = load_weights(only, full.module.state_dict())
    assert not report.missing
    data = data_of(images(), [48, 64], [PLAIN, FLIP])
    wanted = full.test_step(copy.deepcopy(data))
    for sample, other in zip(only.test_step(data), wanted):
        assert 'pred_instances' not in sample
        assert torch.equal(sample.pred_sem_seg.sem_seg,
                           other.pred_sem_seg.sem_seg)
        assert not sample.pred_panoptic_seg.instance_indices


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
    data = data_of(images(), [48], [PLAIN, FLIP])
    found, instances, semantic = (
        PanopticTTAModel(network).test_step(copy.deepcopy(data))
        for network in (two, two.instance_network, two.semantic_network))
    for sample, things, stuff in zip(found, instances, semantic):
        assert_same_instances(sample.pred_instances, things.pred_instances)
        assert torch.equal(sample.pred_sem_seg.sem_seg,
                           stuff.pred_sem_seg.sem_seg)
        assert sample.pred_panoptic_seg.instance_indices == \
            things.pred_panoptic_seg.instance_indices


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


def test_the_option_puts_a_config_of_its_own_around_a_model():
    cfg = Config(
        dict(
            model=dict(type='A'),
            tta_model=dict(type='B', option=1),
            tta_pipeline=[dict(type='C')],
            test_dataloader=dict(dataset=dict(pipeline=[]))))
    enable_tta(cfg)
    assert cfg.model == dict(type='B', option=1, module=dict(type='A'))
    assert cfg.test_dataloader.dataset.pipeline == [dict(type='C')]
    with pytest.raises(RunError, match='no tta_model and no tta_pipeline'):
        enable_tta(Config(dict(model=dict(type='A'))))


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


class Negative(nn.Module):

    def forward(self, logits):
        return -logits


def masks_by_hand(second_flip, merged, extractor, head):
    """Of two images with the same views: probabilities 0.9, 0.1 / 0.5, 0.5
    and a flipped view of 0.5, 0.7 / 0.3, 0.5."""
    views = []
    for p, flip in (([[.9, .1], [.5, .5]], None), ([[.5, .7],
                                                    [.3, .5]], second_flip)):
        meta = dict(
            img_shape=(8, 8),
            scale_factor=(1.0, 1.0),
            flip=flip is not None,
            flip_direction=flip)
        logits = torch.tensor(p).logit().expand(2, 1, 2, 2)
        views.append(View([meta, meta], (logits, ), []))
    roi_head = nn.Module()
    roi_head.mask_roi_extractor, roi_head.mask_head = extractor, head
    return average_masks(roi_head, views, merged)


def test_average_of_masks():
    box, none = detections([1., 1., 5., 5., .9, 0]), detections()
    for flip, wanted in (('horizontal', [[.8, .3],
                                         [.5, .4]]), ('vertical', [[.6, .3],
                                                                   [.5, .6]])):
        masks = masks_by_hand(flip, [box, none], Handed(), nn.Identity())
        torch.testing.assert_close(masks[0], torch.tensor(wanted)[None, None])
        assert masks[1].shape == (0, 1, 2, 2)
    # p and 1 - p in the stages of a cascade
    masks = masks_by_hand('vertical', [box, box],
                          nn.ModuleList([Handed(), Handed()]),
                          nn.ModuleList([nn.Identity(),
                                         Negative()]))
    torch.testing.assert_close(masks[0], torch.full((1, 1, 2, 2), .5))
