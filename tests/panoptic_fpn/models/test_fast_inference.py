"""Options that make inference faster, beside the plain model."""
import copy
from types import SimpleNamespace

import pytest
import torch
from mmcv.ops import RoIAlign
from mmdet.registry import MODELS
from mmengine.config import Config

from mmengine_exact import (RunError, apply_memory_format, enable_test_amp,
                            half_precision)
from mmengine_exact.errors import InputError
from panoptic_apps.sweep_merge import save_branches
from panoptic_fpn.metrics import (CityscapesInstanceAPMetric,
                                  PanopticInstanceAPMetric)
from panoptic_fpn.training.runner import PanopticRunner
from panoptic_fpn.training.test_options import (draw_test_pictures,
                                                enable_panoptic_only)

from .test_panoptic_fpn import ROOT, batch, build, config, losses_of


@torch.no_grad()
def spread(cfg=None, scale=30.):
    """An untrained model some of whose guesses are confident."""
    model = build(cfg or config()).eval()
    for name, parameter in model.named_parameters():
        if name.endswith('fc_cls.weight'):
            parameter *= scale
        elif name.endswith('conv_seg.weight'):
            parameter *= 10
    return model


@torch.no_grad()
def predict(model):
    return model(**batch(model, False), mode='predict')


def last_of(model):
    apply_memory_format(model, Config(dict(channels_last=True)))
    return model


def test_channels_last_changes_rounding_alone():
    models = [last_of(spread()), spread()]
    apply_memory_format(models[1], Config(dict()))
    last, first = (m.backbone.layer1[0].conv1.weight for m in models)
    assert torch.equal(last, first)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert not first.is_contiguous(memory_format=torch.channels_last)
    feats = [m.extract_feat(batch(m, False)['inputs']) for m in models]
    for a, b in zip(*feats):
        assert a.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    for name, value in losses_of(models[0].train()).items():
        wanted = losses_of(models[1].train())[name]
        torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5)


def test_the_same_seed_draws_the_same_weights():
    models = []
    for lay_out in (last_of, lambda m: m):
        torch.manual_seed(3)
        model = lay_out(MODELS.build(copy.deepcopy(config())))
        model.init_weights()
        models.append(model)
    model, other = models
    for (name, a), b in zip(model.named_parameters(), other.parameters()):
        assert torch.equal(a, b), name
    weight = model.backbone.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_panoptic_only_leaves_ap_out():
    """Of an evaluator, or of a list of metrics."""
    metrics = [
        dict(type=f'{name}Metric')
        for name in ('PanopticQuality', 'CityscapesInstanceAP',
                     'PanopticInstanceAP')
    ]
    for evaluator in (dict(type='PanopticEvaluator', metrics=metrics),
                      dict(type='PanopticEvaluator', metrics=metrics[0]),
                      [*metrics, dict(type='CocoMetric')]):
        cfg = Config(
            dict(
                model=dict(type='TwoStagePanopticFPN', test_cfg=dict()),
                test_evaluator=copy.deepcopy(evaluator)))
        enable_panoptic_only(cfg)
        assert cfg.model.test_cfg.panoptic_only
        assert cfg.test_evaluator.metrics == metrics[:1]
    cfg.test_evaluator = dict(type='PanopticInstanceAPMetric')
    with pytest.raises(RunError, match='InstanceAPMetric.*alone'):
        enable_panoptic_only(cfg)


def test_pictures_of_a_config_without_their_hook():
    for hooks in ({}, dict(visualization=None), dict(timer=dict(type='T'))):
        cfg = Config(dict(default_hooks=hooks))
        draw_test_pictures(cfg, 'out')
        assert cfg.default_hooks == dict(
            hooks,
            visualization=dict(
                type='PanopticVisualizationHook',
                draw=True,
                test_out_dir='out'))


@pytest.mark.parametrize('kind',
                         ['TwoStagePanopticFPN', 'TwoNetworkPanopticFPN'])
def test_ap_refuses_a_model_that_leaves_instances_out(kind):
    cfg = config()
    cfg.type = kind
    whole = MODELS.build(copy.deepcopy(cfg))
    cfg.test_cfg.panoptic_only = True
    model = MODELS.build(cfg)
    for metric in (PanopticInstanceAPMetric(), CityscapesInstanceAPMetric()):
        metric.check_model(whole)
        with pytest.raises(InputError, match='panoptic_only'):
            metric.check_model(model)
    with pytest.raises(InputError, match='--save-branches'):
        save_branches(SimpleNamespace(model=model), 'nowhere')


def test_bfloat16_predicts_what_float32_does():
    model = spread(scale=3.)
    wanted = predict(model)
    seen = []
    model.backbone.register_forward_hook(
        lambda *args: seen.append(args[-1][0].dtype))
    with half_precision(torch.device('cpu')):
        results = predict(model)
    assert seen == [torch.bfloat16]
    for sample, other in zip(results, wanted):
        assert sample.pred_instances.bboxes.dtype == torch.float32
        same = sample.pred_sem_seg.sem_seg == other.pred_sem_seg.sem_seg
        # random features: more ties than a trained model has
        assert same.float().mean() > 0.97
    cfg = Config(dict(test_cfg=dict(type='TestLoop')))
    enable_test_amp(cfg)
    assert cfg.test_cfg.fp16 is True


def test_panoptic_only_is_the_same_map_with_fewer_masks():
    cfg = config()
    cfg.test_cfg.panoptic = dict(score_thr=0.3, stuff_area=0)
    full = predict(spread(cfg))
    cfg.test_cfg.panoptic_only = True
    found = []
    for sample, wanted in zip(predict(spread(cfg)), full):
        assert torch.equal(sample.pred_panoptic_seg.sem_seg,
                           wanted.pred_panoptic_seg.sem_seg)
        instances, others = sample.pred_instances, wanted.pred_instances
        confident = others[others.scores >= 0.3]
        assert torch.equal(instances.scores, confident.scores)
        assert torch.equal(instances.masks, confident.masks)
        found.append((len(instances), len(others)))
    assert any(0 < few < many for few, many in found)
    cfg.test_cfg.rcnn.nms = dict(type='soft_nms', iou_threshold=0.5)
    with pytest.raises(InputError, match="'soft_nms'"):
        build(cfg)


def test_a_run_lays_its_model_out_as_its_config_says():
    for path in ('coco/panoptic-fpn_r50_fpn_1x_coco.py',
                 'cityscapes/panoptic-fpn_r50_fpn_65k_cityscapes.py',
                 'synthetic/panoptic-fpn_tiny_synthetic.py'):
        assert Config.fromfile(ROOT / 'configs' / path).channels_last is True
    runner = PanopticRunner.__new__(PanopticRunner)
    two = config()
    two.type = 'TwoNetworkPanopticFPN'
    for value in (True, False):
        runner.cfg = Config(dict(channels_last=value))
        model = runner.build_model(config())
        assert (model.memory_format == torch.channels_last) is value
        model = runner.build_model(copy.deepcopy(two))
        for network in (model.instance_network, model.semantic_network):
            assert (network.memory_format == torch.channels_last) is value


@pytest.mark.parametrize('switch', '01')
def test_kernels_get_converted_levels_once(switch, monkeypatch):
    """The box and the mask extractor share them; matrix products read any
    layout."""
    monkeypatch.setenv('PANOPTIC_FAST_OPS', switch)
    model, seen = last_of(spread()), []
    for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
        getattr(model.roi_head, name).register_forward_hook(
            lambda module, inputs, output: seen.append(inputs[0]))
    predict(model)
    (box, mask) = seen
    assert [level.data_ptr()
            for level in box] == [level.data_ptr() for level in mask]
    assert all(level.is_contiguous() == (switch == '0') for level in box)


@pytest.mark.parametrize('change', [
    dict(type='SingleRoIExtractor'),
    dict(type='SingleRoIExtractor', roi_layer=RoIAlign),
    dict(roi_layer='RoIAlign'),
])
def test_extractors_see_memory_that_they_read_rightly(change):
    """mmcv's RoIAlign reads channels-last memory wrongly."""
    cfg = config()
    for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
        extractor = cfg.roi_head[name]
        extractor.type = change.get('type', extractor.type)
        extractor.roi_layer.type = change.get('roi_layer', 'RoIAlign')
    last, first, ours = last_of(spread(cfg)), spread(cfg), spread()
    for found in zip(predict(last), predict(first), predict(ours)):
        for key in ('bboxes', 'scores'):
            wanted, *others = (s.pred_instances[key] for s in found)
            for other in others:
                torch.testing.assert_close(other, wanted, rtol=1e-4, atol=1e-3)
