"""Two iterations of each option's own config, small, and its evaluation.

Backbone, head widths, sizes and data are shrunk; the option, the pipeline,
hooks and the solver are the config's.
"""
import json
from pathlib import Path

import pytest
import torch
from mmcv.ops import ModulatedDeformConv2d
from mmengine.config import Config
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from panoptic_apps.toy_data.synthetic_shapes import write_dataset
from panoptic_fpn.training import PanopticRunner

from .conftest import needs_compiled
from .oracles.perturb import instances_of
from .test_paper_training import shrink_backbone

OPTIONS = Path(__file__).resolve().parents[1] / 'configs' / 'options'
NAMES = [
    pytest.param(name, marks=needs_compiled) if 'mdconv' in name else name
    for name in sorted(path.stem for path in OPTIONS.glob('*.py'))
]
#: Side of the images, and the one that training and testing bring them to.
SIDE, SCALED = 64, 96
RECIPE = dict(num_train=4, num_val=2, size=SIDE, seed=3)
ITERATIONS = 2


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('options') / 'shapes'
    write_dataset(str(root), **RECIPE)
    # what COCO's configs read
    content = instances_of(root / 'annotations/panoptic_train.json')
    path = root / 'annotations/instances_train2017.json'
    path.write_text(json.dumps(content))
    return f'{root}/'


def shrink_model(model):
    """Few channels, and the classes of the synthetic shapes."""
    if model.backbone.type == 'SwinTransformer':
        model.backbone.update(
            embed_dims=16, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8])
        model.backbone.init_cfg = None
        model.neck.in_channels = [16, 32, 64, 128]
    else:
        shrink_backbone(model, 8)
        if 'dcn' in model.backbone:
            # blocks end in norms that begin at 0; the recipe's are frozen
            model.backbone.norm_cfg.requires_grad = True
            model.backbone.norm_eval = False
    heads = model.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.update(num_classes=4, fc_out_channels=32)
        if 'Conv' in head.type:
            head.conv_out_channels = 32
    model.roi_head.mask_head.update(num_classes=4, num_convs=1)
    for name in ('semantic_head', 'panoptic_fusion_head'):
        model[name].update(num_things_classes=4, num_stuff_classes=5)
    rcnn = model.train_cfg.rcnn
    for stage in rcnn if isinstance(rcnn, list) else [rcnn]:
        stage.sampler.num = 32
    for proposals in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        proposals.update(nms_pre=100, max_per_img=50)
    # an untrained model puts its guesses on the map
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=20)
    model.test_cfg.panoptic = dict(
        score_thr=0.0, overlap_thr=0.9, stuff_area=0)


def shrink_sizes(cfg):
    """Of the pipelines, and what pads to the size of one."""
    size = (SCALED, SCALED)
    small = dict(
        RandomChoiceResize=dict(scales=[size]),
        RandomResize=dict(scale=[(SCALED, SIDE), size]),
        PanopticRandomResizeCrop=dict(scale=size, crop_size=size),
        PanopticResize=dict(scale=size))
    for name in ('train', 'val'):
        for step in cfg[f'{name}_dataloader'].dataset.pipeline:
            step.update(small.get(step.type, {}))
    for pad in cfg.model.data_preprocessor.get('batch_augments') or ():
        pad.size = size


def small(name, work_dir, data_root):
    """The config with a small model on small synthetic data."""
    cfg = Config.fromfile(OPTIONS / f'{name}.py')
    shrink_model(cfg.model)
    shrink_sizes(cfg)
    for split, loader in (('train', cfg.train_dataloader),
                          ('val', cfg.val_dataloader)):
        loader.update(
            batch_size=2,
            num_workers=0,
            persistent_workers=False,
            dataset=dict(
                type='SyntheticShapesDataset',
                data_root=data_root,
                generate=RECIPE,
                ann_file=f'annotations/panoptic_{split}.json',
                data_prefix=dict(
                    img=f'{split}/', seg=f'annotations/panoptic_{split}/'),
                test_mode=split == 'val',
                pipeline=loader.dataset.pipeline))
    cfg.val_evaluator.metrics[1].pop('ann_file')
    cfg.train_cfg.update(max_iters=ITERATIONS, val_interval=ITERATIONS)
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.default_hooks.checkpoint.update(save_best=None)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'{name}-{work_dir.name}'
    cfg.launcher = 'none'
    return cfg


class Run:
    """A finished run; losses and batches (inputs, samples) of each iteration,
    samples that were predicted, and weights in each step of the validation."""

    def __init__(self, cfg):
        self.losses, self.batches, self.predicted = [], [], []
        self.weights = []
        self.runner = PanopticRunner.from_cfg(cfg)
        model = self.runner.model
        self._note(model, 'train_step',
                   lambda args, out: self.losses.append(out))
        self._note(model, 'loss', lambda args, out: self.batches.append(args))
        self._note(model, 'val_step', self._validated)
        self.runner.train()

    @staticmethod
    def _note(model, name, take):
        method = getattr(model, name)

        def noting(*args, **kwargs):
            out = method(*args, **kwargs)
            take((*args, *kwargs.values()), out)
            return out

        setattr(model, name, noting)

    def _validated(self, args, out):
        self.predicted += out
        self.weights.append({
            key: value.clone()
            for key, value in self.runner.model.state_dict().items()
        })


@pytest.fixture(scope='module')
def runs(data_root, tmp_path_factory):
    """Finished runs by config, trained once."""
    finished = {}

    def get(name):
        if name not in finished:
            folder = tmp_path_factory.mktemp('run')
            finished[name] = Run(small(name, folder, data_root))
        return finished[name]

    return get


@pytest.mark.parametrize('name', NAMES)
def test_an_option_trains_and_is_evaluated(name, runs):
    run = runs(name)
    assert len(run.losses) == ITERATIONS
    for losses in run.losses:
        assert {'loss_rpn_cls', 'loss_seg'} < set(losses)
        assert 'cascade' not in name or {
            f's{stage}.loss_{part}'
            for stage in range(3)
            for part in ('cls', 'bbox', 'mask')
        } < set(losses)
        assert any(key.endswith('loss_mask') for key in losses)
        assert all(
            torch.isfinite(torch.as_tensor(v)).all() for v in losses.values())
    assert len(run.predicted) == RECIPE['num_val']
    for sample in run.predicted:
        assert len(sample.pred_instances) > 0
        assert sample.pred_instances.masks.shape[1:] == (SIDE, SIDE)
        assert sample.pred_panoptic_seg.sem_seg.shape == (1, SIDE, SIDE)
    folder = Path(run.runner.work_dir)
    assert (folder / f'iter_{ITERATIONS}.pth').is_file()
    metrics = json.loads((folder / 'metrics.json').read_text())
    assert {'coco_panoptic/PQ', 'coco/segm_mAP', 'mIoU'} <= set(metrics)


def test_large_scale_jitter_crops_and_pads_to_one_size(runs):
    """Image, masks and map, whatever scale was drawn; padding is void."""
    run = runs('panoptic-fpn_r50_fpn_lsj-3x_coco')
    padded, cropped = 0, 0
    for inputs, samples in run.batches:
        assert inputs.shape == (2, 3, SCALED, SCALED)
        for sample in samples:
            assert sample.batch_input_shape == (SCALED, SCALED)
            assert sample.gt_instances.masks.masks.shape[1:] == (SCALED,
                                                                 SCALED)
            labels = sample.gt_sem_seg.sem_seg[0]
            assert labels.shape == (SCALED, SCALED)
            height, width = sample.img_shape
            outside = torch.ones(SCALED, SCALED, dtype=torch.bool)
            outside[:height, :width] = False
            assert (labels[outside] == -1).all()
            padded += outside.any().item()
            cropped += not outside.any()
            scale = sample.scale_factor[0] * SIDE / SCALED
            assert 0.1 * 0.9 <= scale <= 2
    assert padded + cropped == 2 * ITERATIONS and padded


def test_multi_scale_draws_any_side(runs):
    run = runs('panoptic-fpn_r50_fpn_ms-3x_coco')
    sides = [
        min(sample.img_shape) for _, samples in run.batches
        for sample in samples
    ]
    assert all(SIDE <= side <= SCALED for side in sides)
    assert len(set(sides)) > 1


def test_the_average_is_validated_and_saved(runs):
    run = runs('panoptic-fpn_r50_fpn_ema-1x_coco')
    saved = torch.load(
        Path(run.runner.work_dir) / f'iter_{ITERATIONS}.pth',
        weights_only=True)
    averaged, validated = saved['state_dict'], run.weights[-1]
    raw = run.runner.model.state_dict()
    key = 'roi_head.bbox_head.fc_cls.weight'
    assert torch.equal(validated[key], averaged[key])
    assert torch.equal(saved['ema_state_dict'][f'module.{key}'], raw[key])
    assert not torch.equal(averaged[key], raw[key])
    # frozen parts are what they were
    key = 'backbone.conv1.weight'
    assert torch.equal(averaged[key], raw[key])


def test_batch_norm_of_one_process(runs):
    """mmengine turns SyncBN, which needs GPUs, back where there is one."""
    model = runs('panoptic-fpn_r50_fpn_syncbn-head-1x_coco').runner.model
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in model.modules())
    norms = [
        m for part in (model.neck, model.roi_head, model.semantic_head)
        for m in part.modules() if isinstance(m, _BatchNorm)
    ]
    assert norms and all(m.num_batches_tracked == 2 for m in norms)
    for norm in norms:
        assert torch.isfinite(norm.running_mean).all()
        assert torch.isfinite(norm.running_var).all()


@needs_compiled
def test_deformable_layers_learn_where_to_look(runs):
    """Offsets begin at 0; mmcv's operator takes contiguous weights alone."""
    model = runs('panoptic-fpn_r50-mdconv-c3-c5_fpn_1x_coco').runner.model
    assert model.memory_format == torch.channels_last
    weight = model.backbone.layer1[0].conv2.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    layers = {
        name: module
        for name, module in model.backbone.named_modules()
        if isinstance(module, ModulatedDeformConv2d)
    }
    assert len(layers) == 4 + 6 + 3
    assert {name.split('.')[0]
            for name in layers} == {'layer2', 'layer3', 'layer4'}
    for layer in layers.values():
        assert layer.conv_offset.weight.abs().sum() > 0
        assert layer.weight.is_contiguous()
        assert layer.conv_offset.weight.is_contiguous()


def test_groups_of_swins_solver(runs):
    runner = runs('panoptic-fpn_swin-t-p4-w7_fpn_1x_coco').runner
    decays = {
        id(parameter): group['weight_decay']
        for group in runner.optim_wrapper.optimizer.param_groups
        for parameter in group['params']
    }
    for name, parameter in runner.model.named_parameters():
        table = 'relative_position_bias_table' in name
        plain = table or ('norm' in name and 'backbone' in name)
        assert decays[id(parameter)] == (0 if plain else 0.05), name
