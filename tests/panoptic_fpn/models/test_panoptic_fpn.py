"""The detector: branches, weights, predictions; mmdet's Mask R-CNN beside."""
import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.structures import PixelData

import panoptic_fpn  # noqa: F401  registers
from mmengine_exact.errors import InputError
from tests.conftest import REPO_ROOT

ROOT = REPO_ROOT
NUM_THINGS, NUM_STUFF = 4, 5


def config(**loss_weights):
    cfg = Config.fromfile(ROOT / 'configs' / 'synthetic' /
                          'panoptic-fpn_tiny_synthetic.py').model
    if loss_weights:
        cfg.loss_weights = loss_weights
    return cfg


def eager():
    """A config whose untrained model puts its guesses on the map."""
    cfg = config()
    cfg.test_cfg.panoptic = dict(score_thr=0.0, overlap_thr=0.9, stuff_area=0)
    cfg.test_cfg.rcnn.update(score_thr=0.0, max_per_img=20)
    return cfg


def build(cfg):
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(cfg))
    model.init_weights()
    return model


def batch(model, training, shapes=((3, 64, 96), (3, 64, 96)), items=(3, 2)):
    data = demo_mm_inputs(
        len(shapes),
        list(shapes),
        num_items=list(items),
        num_classes=NUM_THINGS,
        with_mask=True)
    for sample, shape in zip(data['data_samples'], shapes):
        sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))
        generator = torch.Generator().manual_seed(shape[1])
        sample.gt_sem_seg = PixelData(
            sem_seg=torch.randint(
                -1,
                NUM_THINGS + NUM_STUFF, (1, ) + shape[1:],
                generator=generator))
    return model.data_preprocessor(data, training)


def losses_of(model, **kwargs):
    data = batch(model, True, **kwargs)
    torch.manual_seed(5)
    return model(**data, mode='loss')


def total(losses):
    return sum(
        sum(v) if isinstance(v, list) else v for k, v in losses.items()
        if 'loss' in k)


def test_losses_and_their_weights():
    plain = losses_of(build(config(instance=1.0, semantic=1.0)))
    assert set(plain) == {
        'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'acc', 'loss_bbox',
        'loss_mask', 'loss_seg'
    }
    weighted = losses_of(build(config(instance=0.25, semantic=3.0)))
    for name, factor in dict(
            loss_cls=0.25, loss_bbox=0.25, loss_mask=0.25, loss_seg=3.0,
            acc=1.0).items():
        torch.testing.assert_close(weighted[name], plain[name] * factor)
    for name in ('loss_rpn_cls', 'loss_rpn_bbox'):
        torch.testing.assert_close(weighted[name], plain[name])


def assert_region_branch_is_mmdets(ours, cfg, kind):
    """Same weights, same seed: same losses and the same instances."""
    for key in ('loss_weights', 'semantic_head', 'panoptic_fusion_head'):
        cfg.pop(key)
    theirs = build(dict(cfg, type=kind))
    theirs.load_state_dict(ours.state_dict())
    ours.train(), theirs.train()
    expected, losses = losses_of(theirs), losses_of(ours)
    assert set(losses) == set(expected)
    for name, value in losses.items():
        torch.testing.assert_close(value, expected[name])
    ours.eval(), theirs.eval()
    with torch.no_grad():
        results = ours(**batch(ours, False), mode='predict')
        wanted = theirs(**batch(theirs, False), mode='predict')
    for result, other in zip(results, wanted):
        assert len(result.pred_instances) > 0
        torch.testing.assert_close(result.pred_instances.bboxes,
                                   other.pred_instances.bboxes)
        assert torch.equal(result.pred_instances.masks,
                           other.pred_instances.masks)


def test_region_branch_is_mmdets_mask_rcnn():
    cfg = config(instance=1.0, semantic=0.0)
    assert_region_branch_is_mmdets(build(cfg), cfg, 'MaskRCNN')


def test_a_branch_of_weight_zero_is_not_built():
    semantic = build(config(instance=0.0, semantic=1.0))
    assert not semantic.with_rpn and not semantic.with_roi_head
    assert not [n for n, _ in semantic.named_parameters() if 'r' + 'pn' in n]
    assert set(losses_of(semantic)) == {'loss_seg'}
    instance = build(config(instance=1.0, semantic=0.0))
    assert not instance.with_semantic_head
    assert 'loss_seg' not in losses_of(instance)


@pytest.mark.parametrize('key, value, words', [
    ('loss_weights', dict(instance=0.0, semantic=0.0), 'model.loss_weights='),
    ('loss_weights', dict(instance=1.0, stuff=1.0), "'stuff'"),
    ('test_cfg.panoptic', dict(score_threshold=0.5), 'score_threshold'),
])
def test_unusable_settings(key, value, words):
    cfg = Config(dict(model=config()))
    cfg.merge_from_dict({f'model.{key}': value})
    with pytest.raises(InputError, match=words):
        build(cfg.model)


def test_one_pass_fills_everything():
    """Of images of two sizes, each as it would be alone with its padding."""
    model = build(eager()).eval()
    shapes = ((3, 64, 96), (3, 60, 90))
    data = batch(model, False, shapes)
    with torch.no_grad():
        results = model(**copy.deepcopy(data), mode='predict')
    for i, (sample, (_, h, w)) in enumerate(zip(results, shapes)):
        count = len(sample.pred_instances)
        assert sample.pred_instances.masks.shape == (count, h, w)
        assert sample.pred_sem_seg.sem_seg.shape == (1, h, w)
        panoptic = sample.pred_panoptic_seg.sem_seg
        assert panoptic.shape == (1, h, w) and panoptic.dtype == torch.int32
        indices = sample.pred_panoptic_seg.instance_indices
        assert len(indices) > 0
        for number, index in enumerate(indices, 1):
            label = sample.pred_instances.labels[index]
            assert (panoptic == label + 1000 * number).any()
        assert panoptic.max() < 1000 * (len(indices) + 1)
        with torch.no_grad():
            alone, = model(
                data['inputs'][i:i + 1], [data['data_samples'][i]],
                mode='predict')
        torch.testing.assert_close(sample.pred_instances.bboxes,
                                   alone.pred_instances.bboxes)
        same = panoptic == alone.pred_panoptic_seg.sem_seg
        assert same.float().mean() > 0.999


def test_network_resolution_without_detections():
    """mmdet's empty masks have the original size, whatever is asked for."""
    cfg = config()
    cfg.test_cfg.rcnn.score_thr = 1.1
    model = build(cfg).eval()
    data = batch(model, False)
    for sample in data['data_samples']:
        sample.set_metainfo(dict(ori_shape=(32, 48), scale_factor=(2.0, 2.0)))
    for rescale, shape in ((False, (64, 96)), (True, (32, 48))):
        with torch.no_grad():
            sample = model.predict(
                data['inputs'],
                copy.deepcopy(data['data_samples']),
                rescale=rescale)[0]
        assert len(sample.pred_instances) == 0
        assert sample.pred_panoptic_seg.sem_seg.shape == (1, ) + shape


@pytest.mark.parametrize('weights', [
    dict(instance=1.0, semantic=0.0),
    dict(instance=0.0, semantic=1.0),
])
def test_one_branch_still_gives_a_panoptic_map(weights):
    cfg = eager()
    cfg.loss_weights = weights
    model = build(cfg).eval()
    with torch.no_grad():
        sample = model(**batch(model, False), mode='predict')[0]
    panoptic = sample.pred_panoptic_seg.sem_seg
    assert ('pred_instances' in sample) == bool(weights['instance'])
    assert ('pred_sem_seg' in sample) == bool(weights['semantic'])
    labels = set((panoptic % 1000).unique().tolist())
    if weights['semantic']:
        assert all(label >= NUM_THINGS for label in labels)
    else:
        void = NUM_THINGS + NUM_STUFF
        assert all(label < NUM_THINGS or label == void for label in labels)
        assert len(labels) > 1


@pytest.mark.parametrize('items', [(0, 0), (0, 2)])
def test_images_without_things_train(items):
    model = build(config())
    losses = losses_of(model, items=items)
    total(losses).backward()
    assert torch.isfinite(total(losses))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_bfloat16_trains_and_predicts_with_float32_boxes():
    model = build(config())
    with torch.autocast('cpu', torch.bfloat16):
        losses = losses_of(model, shapes=((3, 64, 64), ), items=(3, ))
    assert all(v.dtype == torch.float32 for k, v in losses.items()
               if k in ('loss_cls', 'loss_bbox', 'loss_mask', 'loss_seg'))
    total(losses).backward()
    assert all(
        torch.isfinite(p.grad).all() for p in model.parameters()
        if p.grad is not None)
    model.eval()
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        sample, = model(
            **batch(model, False, ((3, 64, 64), ), (3, )), mode='predict')
    assert sample.pred_instances.bboxes.dtype == torch.float32
