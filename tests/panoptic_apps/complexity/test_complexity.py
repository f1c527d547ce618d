"""Parts of a detector: other counters, two networks, errors."""
import json
import resource

import pytest
import torch
from mmengine.config import Config
from torch import nn

import panoptic_fpn  # noqa: F401  registers
from mmengine_exact.errors import InputError
from panoptic_apps.complexity import (Cost, build_on_meta, complexity,
                                      complexity_table)
from tests.conftest import REPO_ROOT, call_tool, needs_compiled

CONFIGS = REPO_ROOT / 'configs'
TINY = CONFIGS / 'synthetic' / 'panoptic-fpn_tiny_synthetic.py'
R50 = CONFIGS / 'coco' / 'panoptic-fpn_r50_fpn_1x_coco.py'
PARTS = ['backbone', 'neck', 'region branch', 'semantic branch']


class Hooks:
    """Plain counter: weights' shapes and outputs of each layer's calls."""

    def __init__(self, model):
        self.multiply_adds = self.activations = 0
        self.handles = [
            layer.register_forward_hook(self.count)
            for layer in model.modules()
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))
        ]

    def count(self, layer, inputs, output):
        # places at which the whole weight is applied
        places = output[0].numel() // output.shape[1]
        if isinstance(layer, nn.ConvTranspose2d):
            places = inputs[0][0].numel() // inputs[0].shape[1]
        self.multiply_adds += len(output) * places * layer.weight.numel()
        if isinstance(layer, nn.Conv2d):
            self.activations += output.numel()

    def take(self):
        taken = (self.multiply_adds, self.activations)
        self.multiply_adds = self.activations = 0
        return taken


def test_parts_equal_hooks_on_real_tensors():
    cfg = Config.fromfile(TINY)
    result = complexity(build_on_meta(cfg), (64, 96), rois=7, detections=3)
    from mmdet.registry import MODELS
    model = MODELS.build(cfg.model).eval()
    hooks, expected = Hooks(model), {}
    with torch.no_grad():
        maps = model.backbone(torch.zeros(1, 3, 64, 96))
        expected['backbone'] = hooks.take()
        feats = model.neck(maps)
        expected['neck'] = hooks.take()
        model.rpn_head(feats)
        model.roi_head.bbox_head(torch.zeros(7, 64, 7, 7))
        model.roi_head.mask_head(torch.zeros(3, 64, 14, 14))
        expected['region branch'] = hooks.take()
        model.semantic_head(feats)
        expected['semantic branch'] = hooks.take()
    assert list(result.parts) == PARTS
    for name, cost in result.parts.items():
        assert (cost.multiply_adds, cost.activations) == expected[name]
    assert result.total.parameters == sum(p.numel()
                                          for p in model.parameters())
    parts = list(result.parts.values())
    assert result.total == parts[0] + parts[1] + parts[2] + parts[3]
    assert result.trunk == parts[0] + parts[1]
    assert (result.stride, result.rois, result.detections) == (4, 7, 3)


def test_region_heads_count_per_roi():
    model = build_on_meta(TINY)

    def region(rois, detections):
        return complexity(model, (64, 64), rois,
                          detections).parts['region branch']

    rpn = region(0, 0)
    box = 64 * 49 * 256 + 256 * 256 + 256 * (5 + 4 * 4)
    assert region(3, 0).multiply_adds - rpn.multiply_adds == 3 * box
    mask = (2 * 14 * 14 * 64 * 64 * 9 + 14 * 14 * 4 * 64 * 64 +
            28 * 28 * 64 * 4)
    assert region(0, 5).multiply_adds - rpn.multiply_adds == 5 * mask
    assert region(0, 5).transposed_outputs == 5 * 64 * 28 * 28
    assert rpn.parameters == region(9, 9).parameters


def test_nothing_is_allocated():
    model = build_on_meta(TINY)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    huge = complexity(model, (100000, 100000)).parts['backbone']
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300 * 1024  # kB; the image alone would be 120 GB
    small = complexity(model, (32, 32)).parts['backbone']
    assert huge.multiply_adds == 3125**2 * small.multiply_adds


def test_grouped_fpn_counts_what_each_branch_sees():
    grouped = complexity(
        build_on_meta(CONFIGS / 'paper' / 'table3d' /
                      'panoptic-fpn_r50_fpn_1x_coco_grouped.py'), (256, 256))
    whole = complexity(build_on_meta(R50), (256, 256))
    assert grouped.trunk == whole.trunk
    for part in PARTS[2:]:
        for name in ('multiply_adds', 'parameters'):
            assert getattr(grouped.parts[part],
                           name) < getattr(whole.parts[part], name)
        assert (
            grouped.parts[part].activations == whole.parts[part].activations)


def test_two_networks_are_both_counted():
    both, joint, *singles = (
        complexity(build_on_meta(TINY, options), (64, 64))
        for options in ({
            'model.type': 'TwoNetworkPanopticFPN'
        }, {}, {
            'model.loss_weights.semantic': 0.0
        }, {
            'model.loss_weights.instance': 0.0
        }))
    names = ('instance_network', 'semantic_network')
    assert both.parts == {
        f'{name} {part}': cost
        for name, single in zip(names, singles)
        for part, cost in single.parts.items()
    }
    assert both.total == singles[0].total + singles[1].total
    assert both.trunk == joint.trunk + joint.trunk
    assert (both.rois, both.detections) == (joint.rois, joint.detections)


def test_table_and_json_of_the_tool(monkeypatch, capsys, tmp_path):
    out = tmp_path / 'new' / 'complexity.json'
    assert call_tool(monkeypatch, 'complexity', TINY, '--shape', 50, 90,
                     '--rois', 7, '--out', out) == 0
    result = complexity(build_on_meta(TINY), (64, 96), rois=7)
    text = capsys.readouterr().out
    assert text.splitlines()[0] == (
        '--shape 50 90: padded to 64 96, as the model pads')
    assert complexity_table(str(TINY), result) in text
    assert '7 RoIs, 100 detections' in text
    content = json.loads(out.read_text())
    assert content['shape'] == [64, 96] and content['output_stride'] == 4
    assert (content['rois'], content['detections']) == (7, 100)
    assert Cost(**content['total']) == result.total
    assert Cost(**content['trunk']) == result.trunk
    assert {
        name: Cost(**cost)
        for name, cost in content['parts'].items()
    } == result.parts


@pytest.mark.parametrize('args, words', [
    (['nothing.py'], 'nothing.py: no such file'),
    ([TINY, '--shape', 0, 5], '--shape 0 5'),
    ([TINY, '--rois', -1], '--rois -1'),
])
def test_wrong_arguments(monkeypatch, capsys, args, words):
    assert call_tool(monkeypatch, 'complexity', *args) == 2
    assert words in capsys.readouterr().err


RETINA = dict(
    type='RetinaNet',
    backbone=dict(type='ResNet', depth=18),
    neck=dict(
        type='FPN',
        in_channels=[64, 128, 256, 512],
        out_channels=8,
        num_outs=5),
    bbox_head=dict(
        type='RetinaHead', num_classes=2, in_channels=8, feat_channels=8))


@pytest.mark.parametrize('config, words', [
    (CONFIGS / '_base_/default_runtime.py', 'default_runtime.py: its model'),
    (CONFIGS / 'mmseg/semantic-fpn_r50_fpn_65k_cityscapes.py',
     'not a detector'),
    (Config(dict(model=dict(type='ResNet', depth=18))), 'not a detector'),
    pytest.param(
        CONFIGS / 'options/panoptic-fpn_r50-mdconv-c3-c5_fpn_1x_coco.py',
        'ResNet: cannot run on shapes alone',
        marks=needs_compiled),
    (Config(dict(model=RETINA)), 'RetinaNet has parameters in its bbox_head'),
])
def test_what_cannot_be_counted(config, words):
    with pytest.raises(InputError, match=words):
        complexity(build_on_meta(config), (64, 64))
