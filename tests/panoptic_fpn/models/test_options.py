"""Training options of the paper: each test fails where one is ignored."""
import copy

import pytest
import torch

from mmengine_exact.errors import InputError
from panoptic_fpn.models.two_networks import TwoNetworkPanopticFPN

from .test_panoptic_fpn import (NUM_STUFF, NUM_THINGS, batch, build, config,
                                eager, losses_of, total)

#: Tiny model: 64 channels of FPN.
SPLIT = 24


def grouped(**weights):
    cfg = config(**weights)
    cfg.fpn_groups = dict(instance=SPLIT, semantic=64 - SPLIT)
    cfg.rpn_head.in_channels = SPLIT
    for name in ('bbox', 'mask'):
        cfg.roi_head[f'{name}_roi_extractor'].out_channels = SPLIT
        cfg.roi_head[f'{name}_head'].in_channels = SPLIT
    cfg.semantic_head.in_channels = [64 - SPLIT] * 4
    return cfg


def touched_channels(model, losses):
    """bool (64, ): which channels of FPN's outputs get a gradient."""
    model.zero_grad()
    total(losses).backward()
    grads = [conv.conv.weight.grad for conv in model.neck.fpn_convs]
    return sum(g.abs().sum(dim=(1, 2, 3)) for g in grads if g is not None) > 0


def test_grouped_fpn_gives_each_branch_its_own_channels():
    """Table 3d: no loss of a branch reaches the other's channels."""
    model = build(grouped())
    own = torch.arange(64) < SPLIT
    losses = losses_of(model)
    region = {k: v for k, v in losses.items() if k != 'loss_seg'}
    assert torch.equal(touched_channels(model, region), own)
    losses = losses_of(model)
    semantic = dict(loss_seg=losses['loss_seg'])
    assert torch.equal(touched_channels(model, semantic), ~own)
    # and without groups they do
    shared = build(config())
    losses = losses_of(shared)
    assert touched_channels(shared, dict(loss_seg=losses['loss_seg'])).all()


@torch.no_grad()
def test_grouped_fpn_predicts_from_its_own_channels():
    model = build(grouped()).eval()
    data = batch(model, False)
    feats = model.extract_feat(data['inputs'])

    def changed(part):
        other = [feat.clone() for feat in feats]
        for feat in other:
            feat[:, part] = torch.randn_like(feat[:, part])
        return other

    for predict, others in ((model.predict_semantic, slice(SPLIT)),
                            (model.predict_instances, slice(SPLIT, None))):
        one, two = (
            predict(maps, data['data_samples'])
            for maps in (feats, changed(others)))
        for a, b in zip(one, two):
            assert torch.equal(
                getattr(a, 'bboxes', a), getattr(b, 'bboxes', b))
    # mmcv's RoIAlign reads any other memory wrongly, without a word
    seen = model.branch_features(feats, 'instance')
    assert all(feat.is_contiguous() for feat in seen)


@pytest.mark.parametrize('groups', [
    dict(instance=32, semantic=33),
    dict(instance=64, semantic=0),
    dict(instance=64),
])
def test_groups_that_are_not_fpns_channels(groups):
    cfg = config()
    cfg.fpn_groups = groups
    with pytest.raises(InputError, match=r'fpn_groups.*out_channels=64'):
        build(cfg)


@pytest.mark.parametrize('branch', ['instance', 'semantic'])
def test_training_one_branch_leaves_the_other_alone(branch):
    """Table 3c: idle parameters get no gradient at all."""
    model = build(config())
    model.trained_branch = branch
    losses = losses_of(model)
    assert ('loss_seg' in losses) == (branch == 'semantic')
    assert ('loss_mask' in losses) == (branch == 'instance')
    assert ('loss_rpn_cls' in losses) == (branch == 'instance')
    total(losses).backward()
    with_grad = {
        name.split('.')[0]
        for name, p in model.named_parameters() if p.grad is not None
    }
    heads = dict(instance={'rpn_head', 'roi_head'}, semantic={'semantic_head'})
    assert with_grad == {'backbone', 'neck'} | heads[branch]


def two_networks():
    cfg = eager()
    cfg.type = 'TwoNetworkPanopticFPN'
    return cfg


def single(weights):
    cfg = eager()
    cfg.loss_weights = weights
    return build(cfg).eval()


def test_two_networks_are_the_two_baselines_merged():
    """Table 3a, x2: instances of the one, semantic map of the other."""
    model = build(two_networks()).eval()
    assert isinstance(model, TwoNetworkPanopticFPN)
    instance = single(dict(instance=1.0, semantic=0.0))
    semantic = single(dict(instance=0.0, semantic=1.0))
    instance.load_state_dict(model.instance_network.state_dict())
    semantic.load_state_dict(model.semantic_network.state_dict())
    shared = {id(p)
              for p in model.instance_network.parameters()
              } & {id(p)
                   for p in model.semantic_network.parameters()}
    assert not shared
    data = batch(model, False)
    with torch.no_grad():
        both = model(**copy.deepcopy(data), mode='predict')
        things = instance(**copy.deepcopy(data), mode='predict')
        stuff = semantic(**copy.deepcopy(data), mode='predict')
    for pair, thing, fill in zip(both, things, stuff):
        assert torch.equal(pair.pred_instances.bboxes,
                           thing.pred_instances.bboxes)
        assert torch.equal(pair.pred_sem_seg.sem_seg,
                           fill.pred_sem_seg.sem_seg)
        merged = pair.pred_panoptic_seg.sem_seg
        alone = thing.pred_panoptic_seg.sem_seg
        void = NUM_THINGS + NUM_STUFF
        # things lie as alone, and stuff fills what they leave
        assert torch.equal(merged[alone != void], alone[alone != void])
        rest = merged[alone == void] % 1000
        assert ((rest >= NUM_THINGS) & (rest <= void)).all()
        assert (rest < void).any()


def test_two_networks_train_each_with_its_own_losses():
    cfg = two_networks()
    cfg.loss_weights = dict(instance=1.0, semantic=0.0)
    with pytest.raises(InputError, match='model.loss_weights='):
        build(cfg)
    cfg.loss_weights = dict(instance=0.5, semantic=2.0)
    model = build(cfg)
    assert model.roi_head.bbox_head.num_classes == NUM_THINGS
    assert model.panoptic_fusion_head.num_things_classes == NUM_THINGS
    cls, box, mask, semantic = model(**batch(model, False))
    assert cls.shape[1] == NUM_THINGS + 1 and mask.shape[1] == NUM_THINGS
    assert box.shape[1] == 4 * NUM_THINGS
    assert semantic.shape[1] == model.semantic_head.num_classes
    assert model.instance_network.loss_weights == dict(
        instance=0.5, semantic=0.0)
    assert model.semantic_network.loss_weights == dict(
        instance=0.0, semantic=2.0)
    losses = losses_of(model)
    assert set(losses) == set(losses_of(build(config())))
    losses['loss_seg'].backward(retain_graph=True)
    assert all(p.grad is None for p in model.instance_network.parameters())
    total({k: v for k, v in losses.items() if k != 'loss_seg'}).backward()
    assert all(p.grad is not None for p in model.instance_network.parameters())
