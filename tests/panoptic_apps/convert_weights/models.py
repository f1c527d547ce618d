"""Tiny models of the zoo configs: widths of a few channels."""
import copy

import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from tests.conftest import REPO_ROOT

NUM_THINGS, NUM_STUFF = 3, 4
WIDTHS = {18: (8, 16, 32, 64), 50: (32, 64, 128, 256)}
CHANNELS, HEAD, FC = 32, 64, 24


def config(zoo, depth=18):
    """``model`` of the zoo's config of R50, with another depth and tiny."""
    cfg = Config.fromfile(
        REPO_ROOT / 'configs' / 'coco' /
        f'panoptic-fpn_r50_fpn_1x_coco_{zoo}-weights.py').model
    cfg.backbone.update(
        depth=depth, base_channels=8, stem_channels=8, frozen_stages=-1)
    cfg.neck.update(
        in_channels=list(WIDTHS[min(depth, 50)]), out_channels=CHANNELS)
    cfg.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
    for part in ('bbox', 'mask'):
        cfg.roi_head[f'{part}_roi_extractor'].out_channels = CHANNELS
    cfg.roi_head.bbox_head.update(
        in_channels=CHANNELS, fc_out_channels=FC, num_classes=NUM_THINGS)
    cfg.roi_head.mask_head.update(
        num_convs=2,
        in_channels=CHANNELS,
        conv_out_channels=CHANNELS,
        num_classes=NUM_THINGS)
    counts = dict(num_things_classes=NUM_THINGS, num_stuff_classes=NUM_STUFF)
    cfg.semantic_head.update(
        in_channels=[CHANNELS] * 4, channels=HEAD, **counts)
    cfg.panoptic_fusion_head.update(counts)
    return cfg


def config_file(path, zoo, depth=18):
    """A config file of it, for the tool; the path."""
    Config(dict(model=config(zoo, depth), default_scope='mmdet')).dump(path)
    return path


def mmdets(cfg):
    """mmdet's ``PanopticFPN`` of the same settings as :func:`config`."""
    cfg = copy.deepcopy(cfg)
    cfg.type = 'PanopticFPN'
    cfg.pop('loss_weights')
    for part in ('bbox', 'mask'):
        cfg.roi_head[f'{part}_roi_extractor'].type = 'SingleRoIExtractor'
    cfg.roi_head.mask_head.type = 'FCNMaskHead'
    counts = dict(num_things_classes=NUM_THINGS, num_stuff_classes=NUM_STUFF)
    cfg.semantic_head = dict(
        type='PanopticFPNHead',
        in_channels=CHANNELS,
        inner_channels=HEAD,
        norm_cfg=dict(type='GN', num_groups=32),
        **counts)
    cfg.panoptic_fusion_head = dict(type='HeuristicFusionHead', **counts)
    cfg.test_cfg.panoptic = dict(mask_overlap=0.5, stuff_area_limit=4096)
    return cfg


def build(cfg, seed=0):
    """With every tensor drawn, so that none can take another's place."""
    torch.manual_seed(seed)
    model = MODELS.build(copy.deepcopy(cfg)).eval()
    for key, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        if value.dim() > 1:
            value.normal_(std=value[0].numel()**-0.5)
        elif key.endswith('running_var'):
            value.uniform_(0.5, 1.5)
        else:
            value.normal_(std=0.1)
            if key.endswith('weight'):
                value += 1
    return model


def shapes_of(model):
    return {key: tuple(v.shape) for key, v in model.state_dict().items()}


def load(model, weights):
    """Load all but the counters, which Detectron2 does not have."""
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(key.endswith('num_batches_tracked') for key in missing)


def same(one, other):
    return list(one) == list(other) and all(
        torch.equal(one[key], other[key]) for key in one)
