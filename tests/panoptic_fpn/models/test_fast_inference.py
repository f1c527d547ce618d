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
from panoptic_fpn.ops.roi_align import SeparableRoIAlign
from panoptic_fpn.training.runner import PanopticRunner
from panoptic_fpn.training.test_options import enable_panoptic_only

from .test_panoptic_fpn import ROOT, batch, build, config, losses_of


def spread(cfg=None, scale=30.):
    """An untrained model some of whose guesses are confident."""
    model = build(cfg or config()).eval()
    with torch.no_grad():
        model.roi_head.bbox_head.fc_cls.weight *= scale
        model.semantic_head.conv_seg.weight *= 10
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


def test_both_of_two_networks_are_laid_out():
    cfg = config()
    cfg.type = 'TwoNetworkPanopticFPN'
    model = last_of(MODELS.build(cfg))
    for network in (model.instance_network, model.semantic_network):
        assert network.memory_format == torch.channels_last


def test_checkpoint_of_one_layout_is_loaded_in_the_other():
    source, target = build(config()), last_of(spread())
    target.load_state_dict(source.state_dict())
    weight = target.backbone.layer1[0].conv1.weight
    assert torch.equal(weight, source.backbone.layer1[0].conv1.weight)
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_panoptic_only_is_the_same_map_with_fewer_masks():
    cfg = config()
    cfg.test_cfg.panoptic = dict(score_thr=0.3, stuff_area=0)
    full, cfg = spread(cfg), copy.deepcopy(cfg)
    cfg.test_cfg.panoptic_only = True
    only = spread(cfg)
    only.load_state_dict(full.state_dict())
    found = []
    for sample, wanted in zip(predict(only), predict(full)):
        assert torch.equal(sample.pred_panoptic_seg.sem_seg,
                           wanted.pred_panoptic_seg.sem_seg)
        instances, all_instances = (sample.pred_instances,
                                    wanted.pred_instances)
        confident = all_instances[all_instances.scores >= 0.3]
        assert torch.equal(instances.scores, confident.scores)
        assert torch.equal(instances.masks, confident.masks)
        found.append((len(instances), len(all_instances)))
    assert any(0 < few < many for few, many in found)


def test_panoptic_only_needs_scores_that_stay():
    cfg = config()
    cfg.test_cfg.panoptic_only = True
    cfg.test_cfg.rcnn.nms = dict(type='soft_nms', iou_threshold=0.5)
    with pytest.raises(InputError, match="'soft_nms'"):
        build(cfg)


def test_panoptic_only_leaves_ap_out():
    cfg = Config(
        dict(
            model=dict(type='TwoStagePanopticFPN', test_cfg=dict()),
            test_evaluator=dict(
                type='PanopticEvaluator',
                metrics=[
                    dict(type='PanopticQualityMetric'),
                    dict(type='CityscapesInstanceAPMetric'),
                    dict(type='PanopticInstanceAPMetric')
                ])))
    listed = list(cfg.test_evaluator.metrics) + [dict(type='CocoMetric')]
    enable_panoptic_only(cfg)
    assert cfg.model.test_cfg.panoptic_only
    assert [m['type']
            for m in cfg.test_evaluator.metrics] == ['PanopticQualityMetric']
    # an evaluator may be written as a list of metrics, too
    cfg.test_evaluator = listed
    enable_panoptic_only(cfg)
    assert [m['type']
            for m in cfg.test_evaluator.metrics] == ['PanopticQualityMetric']
    cfg.test_evaluator = dict(type='PanopticInstanceAPMetric')
    with pytest.raises(RunError, match='InstanceAPMetric.*alone'):
        enable_panoptic_only(cfg)


@pytest.mark.parametrize(
    'metric', [PanopticInstanceAPMetric, CityscapesInstanceAPMetric])
@pytest.mark.parametrize('kind',
                         ['TwoStagePanopticFPN', 'TwoNetworkPanopticFPN'])
def test_ap_refuses_a_model_that_leaves_instances_out(metric, kind):
    cfg = config()
    cfg.type = kind
    metric().check_model(MODELS.build(copy.deepcopy(cfg)))
    cfg.test_cfg.panoptic_only = True
    model = MODELS.build(cfg)
    with pytest.raises(InputError, match='panoptic_only'):
        metric().check_model(model)
    with pytest.raises(InputError, match='--save-branches'):
        save_branches(SimpleNamespace(model=model), 'nowhere')


def test_a_run_lays_its_model_out_as_its_config_says():
    for path in ('coco/panoptic-fpn_r50_fpn_1x_coco.py',
                 'cityscapes/panoptic-fpn_r50_fpn_65k_cityscapes.py',
                 'synthetic/panoptic-fpn_tiny_synthetic.py'):
        assert Config.fromfile(ROOT / 'configs' / path).channels_last is True
    runner = PanopticRunner.__new__(PanopticRunner)
    for value in (True, False):
        runner.cfg = Config(dict(channels_last=value))
        model = runner.build_model(copy.deepcopy(config()))
        assert (model.memory_format == torch.channels_last) is value


def test_roi_align_under_an_autocast_around_backward():
    layer = SeparableRoIAlign(7, 1 / 4, 2)
    features = torch.randn(1, 4, 10, 10, requires_grad=True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        layer(features, torch.tensor([[0., 1, 1, 30, 30]])).sum().backward()
    assert features.grad.dtype == torch.float32


@pytest.mark.parametrize('layer', [RoIAlign, 'RoIAlign'])
def test_layers_of_mmcv_see_memory_that_they_read_rightly(layer):
    found = []
    for lay_out in (last_of, lambda m: m):
        cfg = config()
        for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
            size = cfg.roi_head[name].roi_layer.output_size
            cfg.roi_head[name].roi_layer = dict(type=layer, output_size=size)
        model = lay_out(spread(cfg, scale=3.))
        feats = model.extract_feat(batch(model, False)['inputs'])
        rois = torch.tensor([[0., 4, 4, 60, 50], [1., 0, 0, 95, 63]])
        found.append(model.roi_head.bbox_roi_extractor(feats[:4], rois))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


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


def test_amp_of_a_test():
    cfg = Config(dict(test_cfg=dict(type='TestLoop')))
    enable_test_amp(cfg)
    assert cfg.test_cfg.fp16 is True


def test_mmdets_extractor_sees_memory_that_it_reads_rightly():
    cfg = config()
    for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
        cfg.roi_head[name].type = 'SingleRoIExtractor'
    theirs, ours = last_of(spread(cfg)), last_of(spread())
    for sample, wanted in zip(predict(ours), predict(theirs)):
        for key in ('bboxes', 'scores'):
            torch.testing.assert_close(
                sample.pred_instances[key],
                wanted.pred_instances[key],
                rtol=1e-4,
                atol=1e-3)
