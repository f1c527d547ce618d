"""Every config in the tree builds, and states the paper's settings."""
from pathlib import Path

import pytest
import torch
from mmdet.registry import (DATA_SAMPLERS, DATASETS, EVALUATOR, HOOKS, LOOPS,
                            METRICS, MODELS, RUNNERS, TRANSFORMS)

import panoptic_fpn  # noqa: F401  registers
from mmengine_exact import read_config

ROOT = Path(__file__).resolve().parents[1] / 'configs'
CONFIGS = sorted(
    str(path.relative_to(ROOT)) for path in ROOT.rglob('*.py')
    # configs of mmseg's segmentors: test_mmseg_training.py;
    # with other heads and backbones: tests/test_options_configs.py;
    # mmdet's own models: tests/test_mmdet_models.py
    if not {'_base_', 'mmseg', 'options', 'mmdet_models'} & set(path.parts))
COCO = 'coco/panoptic-fpn_r50_fpn_1x_coco.py'
CITYSCAPES = 'cityscapes/panoptic-fpn_r50_fpn_65k_cityscapes.py'
# Table 1b's entry has a protocol of its own: tests/datasets/test_coco_stuff.py
SEMANTIC = [
    name for name in CONFIGS
    if 'semantic-fpn' in name and 'coco-stuff' not in name
]


def load(name):
    return read_config(ROOT / name)


@pytest.mark.parametrize('name', CONFIGS)
def test_model_builds_and_names_exist(name):
    cfg = load(name)
    if cfg.model.get('backbone', {}).get('type') == 'EfficientNetLite':
        pytest.importorskip('efficientnet_lite_pytorch')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.parameters()) > 1e6
    assert RUNNERS.get(cfg.runner_type) is not None
    assert LOOPS.get(cfg.train_cfg.type) is not None
    for evaluator in filter(None, (cfg.val_evaluator, cfg.test_evaluator)):
        assert EVALUATOR.get(evaluator.type) is not None
        for metric in evaluator.metrics:
            assert METRICS.get(metric.type) is not None
    for hook in [*cfg.default_hooks.values(), *cfg.custom_hooks]:
        assert HOOKS.get(hook.type) is not None
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    for loader in filter(None, loaders):
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


def transforms_of(name):
    pipeline = load(name).train_dataloader.dataset.pipeline
    return {transform.type: transform for transform in pipeline}


def test_cityscapes_recipe_is_the_papers():
    """Section 4.1; the weights of Table 2d's row that is Table 3a's."""
    cfg = load(CITYSCAPES)
    assert cfg.model.loss_weights == dict(instance=0.5, semantic=1.0)
    assert cfg.model.semantic_head.predict_things
    assert cfg.model.panoptic_fusion_head.num_things_classes == 8
    assert cfg.model.panoptic_fusion_head.num_stuff_classes == 11
    assert cfg.model.test_cfg.panoptic.stuff_area == 2048
    assert cfg.train_cfg.max_iters == 65000
    assert cfg.param_scheduler[1].milestones == [40000, 55000]
    assert cfg.param_scheduler[1].gamma == 0.1
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum,
            optimizer.weight_decay) == (0.01, 0.9, 0.0001)
    assert cfg.train_dataloader.batch_size * 8 == 32
    assert cfg.auto_scale_lr.base_batch_size == 32
    steps = transforms_of(CITYSCAPES)
    crop = steps['PanopticRandomResizeCrop']
    assert crop.scale == (2048, 1024)
    assert crop.ratio_range == (0.5, 2.0)
    assert crop.crop_size == (512, 1024)
    assert crop.get('keep_ratio', True)
    assert not crop.get('bootstrap')
    assert 'PhotoMetricDistortion' not in steps
    test = cfg.test_dataloader.dataset.pipeline
    assert test[1].scale == (2048, 1024)


@pytest.mark.parametrize('name', [
    COCO, CITYSCAPES, 'cityscapes/semantic-fpn_r50_fpn_65k_cityscapes.py',
    'cityscapes/semantic-fpn_x101_fpn_65k_cityscapes.py',
    'mmseg/semantic-fpn_r50_fpn_65k_cityscapes.py',
    'options/panoptic-fpn_r50_fpn_lsj-3x_coco.py'
])
def test_cudnn_searches_for_kernels_where_sizes_are_fixed(name):
    """A mask head sees another number of boxes in each iteration."""
    assert load(name).env_cfg.cudnn_benchmark == ('semantic' in name)


def test_colour_and_bootstrapping_are_for_the_largest_backbones():
    for depth in ('r101', 'x101'):
        name = f'cityscapes/semantic-fpn_{depth}_fpn_65k_cityscapes.py'
        steps = transforms_of(name)
        assert steps['PanopticRandomResizeCrop'].bootstrap
        assert 'PhotoMetricDistortion' in steps
        sampler = load(name).train_dataloader.sampler
        assert sampler.type == 'ClassUniformInfiniteSampler'
    for name in ('cityscapes/semantic-fpn_r50_fpn_65k_cityscapes.py',
                 'cityscapes/panoptic-fpn_r101_fpn_65k_cityscapes.py'):
        steps = transforms_of(name)
        assert not steps['PanopticRandomResizeCrop'].get('bootstrap')
        assert 'PhotoMetricDistortion' not in steps


@pytest.mark.parametrize('name', SEMANTIC)
def test_semantic_fpn_has_no_region_branch_and_derives_no_instances(name):
    cfg = load(name)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert not model.with_rpn and not model.with_roi_head
    assert model.loss_weights['semantic'] == 1.0
    assert transforms_of(name)['DerivePanopticTargets'].instances is False
    metrics = [metric.type for metric in cfg.val_evaluator.metrics]
    assert metrics[0] == 'PanopticQualityMetric' and 'IoU' in metrics[1]
    assert len(metrics) == 2
    assert cfg.default_hooks.checkpoint.save_best == 'mIoU'


def test_semantic_fpn_has_three_backbones_on_both_data_sets():
    recipes = [name for name in SEMANTIC if not name.startswith('paper')]
    assert len(recipes) == 6
    for name in recipes:
        backbone = load(name).model.backbone
        kind = name.split('semantic-fpn_')[1].split('_')[0]
        assert backbone.depth == int(kind[1:])
        assert backbone.type == ('ResNeXt' if kind[0] == 'x' else 'ResNet')
        if kind == 'x101':
            assert (backbone.groups, backbone.base_width,
                    backbone.style) == (64, 4, 'pytorch')
            preprocessor = load(name).model.data_preprocessor
            assert preprocessor.std == [58.395, 57.120, 57.375]
            assert preprocessor.bgr_to_rgb


def test_ap_settings_are_not_the_merges():
    test_cfg = load(COCO).model.test_cfg
    assert test_cfg.rcnn.score_thr == 0.05
    assert test_cfg.rcnn.max_per_img == 100
    assert test_cfg.panoptic == dict(
        score_thr=0.5, overlap_thr=0.5, stuff_area=4096)


@pytest.mark.parametrize('name', [COCO, CITYSCAPES])
def test_r101_is_a_delta(name):
    first, second = load(name), load(name.replace('r50', 'r101'))
    assert second.model.backbone.depth == 101
    assert 'resnet101' in second.model.backbone.init_cfg.checkpoint
    first.model.backbone, second.model.backbone = None, None
    assert first.to_dict() == second.to_dict()


def test_cityscapes_lies_where_its_scripts_expect_it(monkeypatch):
    monkeypatch.setenv('CITYSCAPES_DATASET', '/elsewhere/cs')
    for name in (CITYSCAPES, 'mmseg/semantic-fpn_r50_fpn_65k_cityscapes.py'):
        cfg = load(name)
        for loader in (cfg.train_dataloader, cfg.val_dataloader,
                       cfg.test_dataloader):
            assert loader.dataset.data_root == '/elsewhere/cs'


def test_metafile_names_existing_configs():
    import yaml
    root = ROOT.parent
    index = yaml.safe_load((root / 'model-index.yml').read_text())
    listed = []
    for path in index['Import']:
        content = yaml.safe_load((root / path).read_text())
        names = {one['Name']: one['README'] for one in content['Collections']}
        for model in content['Models']:
            assert (root / model['Config']).is_file()
            page = model.get('README', names[model['In Collection']])
            assert (root / page).is_file()
            assert model['Weights'] is None or '://' in model['Weights']
            listed.append(model['Config'])
            schedule = load(model['Config'].split('configs/')[1])
            assert schedule.train_cfg.max_iters == model['Metadata'][
                'Iterations']
            assert schedule.auto_scale_lr.base_batch_size == model['Metadata'][
                'Batch Size']
    assert len(set(listed)) == len(listed) == 11
