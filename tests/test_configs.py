"""Every config in the tree builds, and states the paper's settings."""
from pathlib import Path

import pytest
import torch
from mmdet.registry import (DATA_SAMPLERS, DATASETS, EVALUATOR, HOOKS, LOOPS,
                            METRICS, MODELS, RUNNERS, TRANSFORMS)
from mmengine.config import Config

import projects.panoptic_fpn  # noqa: F401  registers

ROOT = Path(__file__).resolve().parents[1] / 'configs'
CONFIGS = sorted(
    str(path.relative_to(ROOT)) for path in ROOT.rglob('*.py')
    if '_base_' not in path.parts)
COCO = 'coco/panoptic-fpn_r50_fpn_1x_coco.py'


def load(name):
    return Config.fromfile(ROOT / name)


@pytest.mark.parametrize('name', CONFIGS)
def test_model_builds_and_names_exist(name):
    cfg = load(name)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.parameters()) > 1e6
    assert RUNNERS.get(cfg.runner_type) is not None
    assert LOOPS.get(cfg.train_cfg.type) is not None
    assert EVALUATOR.get(cfg.val_evaluator.type) is not None
    for metric in cfg.val_evaluator.metrics:
        assert METRICS.get(metric.type) is not None
    for hook in [*cfg.default_hooks.values(), *cfg.custom_hooks]:
        assert HOOKS.get(hook.type) is not None
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        assert DATASETS.get(loader.dataset.type) is not None
        assert DATA_SAMPLERS.get(loader.sampler.type) is not None
        for transform in loader.dataset.pipeline:
            assert TRANSFORMS.get(transform.type) is not None


@pytest.mark.parametrize('name', CONFIGS)
def test_thing_and_stuff_counts_agree_within_a_config(name):
    model = load(name).model
    things = {
        model.roi_head.bbox_head.num_classes,
        model.roi_head.mask_head.num_classes,
        model.semantic_head.num_things_classes,
        model.panoptic_fusion_head.num_things_classes
    }
    stuff = {
        model.semantic_head.num_stuff_classes,
        model.panoptic_fusion_head.num_stuff_classes
    }
    assert len(things) == len(stuff) == 1


def test_coco_recipe_is_the_papers():
    cfg = load(COCO)
    assert cfg.model.loss_weights == dict(instance=1.0, semantic=0.5)
    assert cfg.train_cfg.max_iters == 90000
    assert cfg.param_scheduler[1].milestones == [60000, 80000]
    assert cfg.param_scheduler[0].end == 500
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum,
            optimizer.weight_decay) == (0.02, 0.9, 0.0001)
    assert 'clip_grad' not in cfg.optim_wrapper
    resize = cfg.train_dataloader.dataset.pipeline[2]
    sides = [short for _, short in resize.scales]
    assert (min(sides), max(sides)) == (640, 800)
    assert cfg.model.data_preprocessor.std == [1.0, 1.0, 1.0]
    assert not cfg.model.data_preprocessor.bgr_to_rgb
    backbone = cfg.model.backbone
    assert backbone.frozen_stages == 1 and backbone.norm_eval
    assert not backbone.norm_cfg.requires_grad
    assert cfg.train_dataloader.batch_size * 8 == 16
    assert cfg.auto_scale_lr.base_batch_size == 16


def test_ap_settings_are_not_the_merges():
    test_cfg = load(COCO).model.test_cfg
    assert test_cfg.rcnn.score_thr == 0.05
    assert test_cfg.rcnn.max_per_img == 100
    assert test_cfg.panoptic == dict(
        score_thr=0.5, overlap_thr=0.5, stuff_area=4096)


def test_r101_is_a_delta():
    first, second = load(COCO), load('coco/panoptic-fpn_r101_fpn_1x_coco.py')
    assert second.model.backbone.depth == 101
    assert 'resnet101' in second.model.backbone.init_cfg.checkpoint
    first.model.backbone, second.model.backbone = None, None
    assert first.to_dict() == second.to_dict()


def test_metafile_names_existing_configs():
    import yaml
    root = ROOT.parent
    index = yaml.safe_load((root / 'model-index.yml').read_text())
    for path in index['Import']:
        content = yaml.safe_load((root / path).read_text())
        for model in content['Models']:
            assert (root / model['Config']).is_file()
