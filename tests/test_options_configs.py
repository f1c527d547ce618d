"""configs/options: each builds, and changes what it is named after."""
from pathlib import Path

import pytest
from mmdet.registry import HOOKS, MODELS
from mmengine.config import Config
from torch import nn

import panoptic_fpn  # noqa: F401  registers
from mmengine_exact import read_config

from .conftest import needs_compiled
from .test_paper_configs import VARIABLES, flat

ROOT = Path(__file__).resolve().parents[1] / 'configs'
OPTIONS = sorted(path.stem for path in (ROOT / 'options').glob('*.py'))
RECIPE = ROOT / 'coco' / 'panoptic-fpn_r50_fpn_1x_coco.py'

#: Config, and the prefixes of the keys that differ from the 1x recipe.
CHANGES = {
    'panoptic-fpn_r50_fpn_ms-3x_coco': {
        'train_cfg.max_iters', 'param_scheduler.1', 'train_pipeline.2',
        'train_dataloader.dataset.pipeline.2'
    },
    'panoptic-fpn_r50_fpn_lsj-3x_coco': {
        'train_cfg.max_iters', 'param_scheduler.1', 'train_pipeline.2',
        'train_dataloader.dataset.pipeline.2',
        'train_dataloader.batch_sampler', 'size',
        'model.data_preprocessor.batch_augments'
    },
    'panoptic-fpn_r50_fpn_ema-1x_coco': {'custom_hooks'},
    'panoptic-fpn_r50_fpn_gn-head-1x_coco': {
        'norm_cfg', 'model.neck.norm_cfg', 'model.roi_head.bbox_head.type',
        'model.roi_head.bbox_head.norm_cfg',
        'model.roi_head.mask_head.norm_cfg'
    },
    'panoptic-fpn_r50_fpn_syncbn-head-1x_coco': {
        'norm_cfg', 'model.neck.norm_cfg', 'model.roi_head.bbox_head.type',
        'model.roi_head.bbox_head.norm_cfg',
        'model.roi_head.mask_head.norm_cfg', 'model.semantic_head.norm_cfg'
    },
    'panoptic-fpn_r50_fpn_cascade-1x_coco': {
        'model.roi_head.type', 'model.roi_head.num_stages',
        'model.roi_head.stage_loss_weights', 'model.roi_head.bbox_head',
        'model.train_cfg.rcnn'
    },
    'panoptic-fpn_r50-mdconv-c3-c5_fpn_1x_coco':
    {'model.backbone.dcn', 'model.backbone.stage_with_dcn'},
    'panoptic-fpn_swin-t-p4-w7_fpn_1x_coco': {
        'pretrained', 'model.data_preprocessor', 'model.backbone',
        'model.neck.in_channels', 'optim_wrapper', 'param_scheduler.0'
    },
}


def load(name):
    return read_config(ROOT / 'options' / f'{name}.py')


@pytest.fixture(scope='module')
def built():
    """Models by config, built once."""
    models = {}

    def get(name):
        if name not in models:
            # Swin reads values while it is built: no meta device
            models[name] = MODELS.build(load(name).model)
        return models[name]

    return get


def different(name):
    """Keys that a config adds, drops or changes."""
    one, two = (
        flat(cfg.to_dict()) for cfg in (Config.fromfile(RECIPE), load(name)))
    return {
        key
        for key in one.keys() | two.keys()
        if one.get(key, flat) != two.get(key, flat)
        if key.split('.')[0] not in VARIABLES
    }


@pytest.mark.parametrize('name', OPTIONS)
def test_an_option_changes_what_it_is_named_after(name):
    found, allowed = different(name), CHANGES[name]
    used = {(key, prefix)
            for key in found
            for prefix in allowed if f'{key}.'.startswith(f'{prefix}.')}
    assert {key for key, _ in used} == found
    assert {prefix for _, prefix in used} == allowed


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=needs_compiled) if 'mdconv' in name else name
    for name in OPTIONS
])
def test_it_builds_with_cocos_classes(name, built):
    cfg, model = load(name), built(name)
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert model.semantic_head.num_classes == 54
    heads = model.roi_head.bbox_head
    for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
        assert head.num_classes == 80
    for hook in [*cfg.default_hooks.values(), *cfg.custom_hooks]:
        assert HOOKS.get(hook.type) is not None


def test_one_hook_more():
    hooks = load('panoptic-fpn_r50_fpn_ema-1x_coco').custom_hooks
    assert hooks[:-1] == Config.fromfile(RECIPE).custom_hooks
    assert hooks[-1] == dict(type='EMAHook', momentum=0.0002)


def test_three_times_the_schedule():
    """Detectron2's 3x: 270k iterations, divided at 210k and 250k."""
    for kind in ('ms-3x', 'lsj-3x'):
        cfg = load(f'panoptic-fpn_r50_fpn_{kind}_coco')
        assert cfg.train_cfg.max_iters == 270000
        assert cfg.param_scheduler[1].milestones == [210000, 250000]
        assert cfg.param_scheduler[1].end == 270000
        assert cfg.param_scheduler[0].end == 500
        pipeline = cfg.train_dataloader.dataset.pipeline
        assert pipeline == cfg.train_pipeline
        assert [step.type for step in pipeline[3:]] == [
            'RandomFlip', 'DerivePanopticTargets', 'PackPanopticInputs'
        ]
    jitter = load('panoptic-fpn_r50_fpn_lsj-3x_coco').train_pipeline[2]
    assert jitter == dict(
        type='PanopticRandomResizeCrop',
        scale=(1024, 1024),
        ratio_range=(0.1, 2.0),
        crop_size=(1024, 1024))


def test_norms_of_the_heads(built):
    norms = dict(gn='GroupNorm', syncbn='SyncBatchNorm')
    for kind, norm in norms.items():
        model = built(f'panoptic-fpn_r50_fpn_{kind}-head-1x_coco')
        heads = model.roi_head
        assert len(heads.bbox_head.shared_convs) == 4
        assert len(heads.bbox_head.shared_fcs) == 1
        for convs in (heads.bbox_head.shared_convs, heads.mask_head.convs,
                      model.neck.lateral_convs, model.neck.fpn_convs):
            for conv in convs:
                assert type(conv.norm).__name__ == norm
        found = {type(m).__name__ for m in model.semantic_head.modules()}
        assert {name for name in found if 'Norm' in name} == {norm}


def test_stages_of_the_cascade(built):
    name = 'panoptic-fpn_r50_fpn_cascade-1x_coco'
    model, rcnn = built(name), load(name).model.train_cfg.rcnn
    head = model.roi_head
    assert [a.pos_iou_thr for a in head.bbox_assigner] == [0.5, 0.6, 0.7]
    assert [c.assigner.neg_iou_thr for c in rcnn] == [0.5, 0.6, 0.7]
    # as in the recipe
    assert {a.ignore_iof_thr for a in head.bbox_assigner} == {-1}
    assert [tuple(h.bbox_coder.stds)
            for h in head.bbox_head] == [(0.1, 0.1, 0.2, 0.2),
                                         (0.05, 0.05, 0.1, 0.1),
                                         (0.033, 0.033, 0.067, 0.067)]
    for stage in head.bbox_head:
        assert stage.reg_class_agnostic and stage.fc_reg.out_features == 4
    assert {type(h).__name__ for h in head.mask_head} == {'WindowedMaskHead'}
    assert {type(e).__name__ for e in head.bbox_roi_extractor} == \
        {'SeparableRoIExtractor'}


def test_swins_solver():
    """No decay of position tables and norms; no other of SGD's settings."""
    cfg = load('panoptic-fpn_swin-t-p4-w7_fpn_1x_coco')
    assert cfg.optim_wrapper.optimizer == dict(
        type='AdamW', lr=0.0001, betas=(0.9, 0.999), weight_decay=0.05)
    assert set(cfg.optim_wrapper.paramwise_cfg) == {'custom_keys'}
    assert not {'depth', 'norm_cfg', 'frozen_stages'} & set(cfg.model.backbone)
