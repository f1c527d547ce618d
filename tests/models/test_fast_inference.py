"""Options that make inference faster, beside the plain model."""
import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from projects.panoptic_fpn.engine import (EngineError, apply_memory_format,
                                          enable_panoptic_only,
                                          enable_test_amp, half_precision)
from projects.panoptic_fpn.errors import PanopticError

from .test_panoptic_fpn import batch, build, config, losses_of


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
    with pytest.raises(PanopticError, match="'soft_nms'"):
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
    enable_panoptic_only(cfg)
    assert cfg.model.test_cfg.panoptic_only
    assert [m['type'] for m in cfg.test_evaluator.metrics
            ] == ['PanopticQualityMetric']
    cfg.test_evaluator.metrics = [dict(type='PanopticInstanceAPMetric')]
    with pytest.raises(EngineError, match='no metric but AP'):
        enable_panoptic_only(cfg)


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
    with pytest.raises(EngineError, match='test_cfg'):
        enable_test_amp(Config(dict()))


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
