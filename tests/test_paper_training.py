"""One iteration of each row's code path: the row's own config, small.

Backbone, head widths and data are shrunk; what the row is about, the branches,
the losses, hooks and the solver are the config's.
"""
import math

import pytest
import torch
from mmengine.config import Config

from panoptic_apps.toy_data.synthetic_shapes import write_dataset
from panoptic_fpn.training import PanopticRunner

from .tiny import REPO_ROOT

CONFIGS = REPO_ROOT / 'configs'
SIZE = 64
RECIPE = dict(num_train=4, num_val=2, size=SIZE, seed=3)

#: Config, and the losses that its first two iterations have.
BOTH = {'loss_rpn_cls', 'loss_mask', 'loss_seg'}
PATHS = {
    'coco/panoptic-fpn_r50_fpn_1x_coco': [BOTH],
    'cityscapes/panoptic-fpn_r50_fpn_65k_cityscapes': [BOTH],
    'cityscapes/semantic-fpn_x101_fpn_65k_cityscapes': [{'loss_seg'}],
    'paper/table1c/semantic-fpn_r50_fpn_1x_coco_width-64': [{'loss_seg'}],
    'paper/table1d/semantic-fpn_r50_fpn_65k_cityscapes_concat': [{'loss_seg'}],
    'paper/table2a/panoptic-fpn_r50_fpn_1x_coco_lambda-s-0.0':
    [BOTH - {'loss_seg'}],
    'paper/table2b/panoptic-fpn_r50_fpn_65k_cityscapes_lambda-s-0.0':
    [BOTH - {'loss_seg'}],
    'paper/table2c/panoptic-fpn_r50_fpn_1x_coco_lambda-i-0.1': [BOTH],
    'paper/table3a/panoptic-fpn_r50x2_fpn_1x_coco': [BOTH],
    'paper/table3c/panoptic-fpn_r50_fpn_2x_coco_alternate':
    [BOTH - {'loss_seg'}, {'loss_seg'}],
    'paper/table3c/panoptic-fpn_r50_fpn_130k_cityscapes_alternate':
    [BOTH - {'loss_seg'}, {'loss_seg'}],
    'paper/table3d/panoptic-fpn_r50_fpn_65k_cityscapes_grouped': [BOTH],
    'paper/figure4/semantic-fpn_r101-d8_65k_cityscapes': [{'loss_seg'}],
    'paper/figure4/semantic-fpn_r101-d16_65k_cityscapes': [{'loss_seg'}],
    'paper/figure4/semantic-fpn_r101-symmetric_65k_cityscapes': [{'loss_seg'}],
    'paper/miniature/deeper': [BOTH],
}


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('rows') / 'shapes'
    write_dataset(str(root), **RECIPE)
    return f'{root}/'


def shrink_backbone(model, scale):
    """A backbone of two blocks a stage and 1 / ``scale`` of the channels."""
    backbone = model.backbone
    if 'base_channels' in backbone:
        return  # the tiny model
    # untrained, with norms that are fixed: features stay small enough for the
    # recipe's learning rate if blocks begin as their shortcuts
    backbone.update(
        depth=50,
        base_channels=64 // scale,
        zero_init_residual=True,
        init_cfg=None,
        frozen_stages=0)
    if backbone.type == 'ResNeXt':
        backbone.update(groups=4, base_width=16)
    stages = [256 // scale * 2**i for i in range(4)]
    if not model.get('neck'):
        model.semantic_head.in_channels = stages[-1:]
    elif model.neck.type == 'SymmetricDecoder':
        model.neck.update(
            depth=50,
            base_channels=64 // scale,
            norm_cfg=dict(type='GN', num_groups=4))
        model.semantic_head.in_channels = stages[:1]
    else:
        model.neck.in_channels = stages


def small(name, work_dir, data_root, iterations):
    """The config with a small backbone on synthetic data."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    shrink_backbone(cfg.model, 8)
    counts = dict(num_things_classes=4, num_stuff_classes=5)
    cfg.model.semantic_head.update(counts)
    cfg.model.panoptic_fusion_head.update(counts)
    if roi_head := cfg.model.get('roi_head'):
        roi_head.bbox_head.update(num_classes=4, fc_out_channels=32)
        roi_head.mask_head.update(num_classes=4, num_convs=1)
    steps = ('LoadPanopticImage', 'LoadPanopticMap', 'DerivePanopticTargets',
             'PackPanopticInputs')
    pipeline = [dict(type=name) for name in steps]
    dataset = dict(
        type='SyntheticShapesDataset',
        data_root=data_root,
        generate=RECIPE,
        ann_file='annotations/panoptic_train.json',
        instances_ann_file=None,
        data_prefix=dict(img='train/', seg='annotations/panoptic_train/'),
        pipeline=pipeline)
    cfg.train_dataloader.update(
        batch_size=2, num_workers=0, persistent_workers=False, dataset=dataset)
    cfg.train_cfg.max_iters = iterations
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.default_hooks.checkpoint.update(save_best=None)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'{name}-{work_dir.name}'.replace('/', '-')
    cfg.launcher = 'none'
    return cfg


@pytest.mark.parametrize('name', PATHS)
def test_a_row_trains(name, data_root, tmp_path):
    """Losses of each iteration, all finite, and a checkpoint."""
    expected = PATHS[name]
    cfg = small(name, tmp_path, data_root, len(expected))
    runner = PanopticRunner.from_cfg(cfg)
    seen = []
    train_step = runner.model.train_step

    def noting(*args, **kwargs):
        losses = train_step(*args, **kwargs)
        seen.append(losses)
        return losses

    runner.model.train_step = noting
    runner.train()
    assert len(seen) == len(expected)
    for losses, names in zip(seen, expected):
        assert {key for key in BOTH if key in losses} == names
        assert all(
            torch.isfinite(torch.as_tensor(v)).all() for v in losses.values())
    assert (tmp_path / f'iter_{len(expected)}.pth').is_file()


def miniature(name, work_dir, data_root, **changes):
    """A config of the miniature, one iteration, evaluated on two images."""
    cfg = Config.fromfile(CONFIGS / 'paper' / 'miniature' / f'{name}.py')
    for loader, batch in ((cfg.train_dataloader, 2), (cfg.test_dataloader, 1)):
        loader.update(
            batch_size=batch, num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=data_root, generate=RECIPE)
    cfg.train_cfg.max_iters = 1
    # an untrained model puts its guesses on the map
    cfg.model.test_cfg.panoptic = dict(
        score_thr=0.0, overlap_thr=0.9, stuff_area=0)
    cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=20)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'{name}-{work_dir.parent.name}'
    cfg.launcher = 'none'
    cfg.update(changes)
    return cfg


def score(name, work_dir, data_root, **changes):
    """Metrics of a config, where asked for after its one iteration."""
    if 'load_from' not in changes:
        PanopticRunner.from_cfg(miniature(name, work_dir, data_root)).train()
        changes['load_from'] = str(work_dir / 'iter_1.pth')
    cfg = miniature(name, work_dir / 'test', data_root, **changes)
    cfg.experiment_name += '-test'
    return PanopticRunner.from_cfg(cfg).test()


def test_two_networks_from_two_checkpoints_in_one_run(data_root, tmp_path):
    """Table 3a: AP is the one network's, mIoU the other's, PQ of both."""
    instance, semantic = tmp_path / 'instance', tmp_path / 'semantic'
    things = score('lambda-s-0.0', instance, data_root)
    stuff = score('lambda-i-0.0', semantic, data_root)
    both = score(
        'x2',
        tmp_path / 'x2',
        data_root,
        load_from=[str(instance / 'iter_1.pth'),
                   str(semantic / 'iter_1.pth')])
    assert both['coco/segm_mAP'] == things['coco/segm_mAP']
    assert both['mIoU'] == stuff['mIoU'] > 0
    for scores, known in ((things, '_th'), (stuff, '_st')):
        for group in ('', '_th', '_st'):
            value = scores[f'coco_panoptic/PQ{group}']
            assert math.isnan(value) == (group != known)
    # things lie as without stuff below them
    assert both['coco_panoptic/PQ_th'] == things['coco_panoptic/PQ_th']
    assert not math.isnan(both['coco_panoptic/PQ'])
