"""mmdet's cascade as the region branch: weights, merge, augmentation."""
import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mmengine_exact.errors import InputError
from panoptic_fpn.labels import LabelSpace
from panoptic_fpn.models import PanopticTTAModel
from panoptic_fpn.training.label_check import check_class_counts

from .test_fast_inference import spread
from .test_panoptic_fpn import (NUM_STUFF, NUM_THINGS, ROOT,
                                assert_region_branch_is_mmdets, build, config,
                                losses_of)
from .test_tta import FLIP, PLAIN, assert_same, data_of, images, plain

OPTION = ROOT / 'configs/options/panoptic-fpn_r50_fpn_cascade-1x_coco.py'
STAGE_WEIGHTS = [1, 0.5, 0.25]


def cascade_config(**loss_weights):
    """The tiny model with the option's region branch."""
    model, option = config(), Config.fromfile(OPTION).model
    head, rcnn = model.roi_head, model.train_cfg.rcnn
    for key in ('type', 'num_stages', 'stage_loss_weights'):
        head[key] = option.roi_head[key]
    head.bbox_head = [
        dict(
            head.bbox_head,
            reg_class_agnostic=stage.reg_class_agnostic,
            bbox_coder=stage.bbox_coder) for stage in option.roi_head.bbox_head
    ]
    model.train_cfg.rcnn = [
        dict(rcnn, assigner=stage.assigner) for stage in option.train_cfg.rcnn
    ]
    model.loss_weights = loss_weights or dict(instance=1.0, semantic=1.0)
    model.test_cfg.rcnn.max_per_img = 30
    model.test_cfg.panoptic = dict(
        score_thr=0.3, overlap_thr=0.5, stuff_area=20)
    return model


def test_losses_of_all_stages_are_weighted_once():
    """lambda_i on top of the stages' own weights; RPN's losses stay."""
    cfg = cascade_config()
    cfg.roi_head.stage_loss_weights = [1, 1, 1]
    plain_losses = losses_of(build(cfg))
    weighted = losses_of(build(cascade_config(instance=0.25, semantic=3.0)))
    assert set(weighted) == set(plain_losses)
    for stage, weight in enumerate(STAGE_WEIGHTS):
        for name in ('cls', 'bbox', 'mask'):
            key = f's{stage}.loss_{name}'
            torch.testing.assert_close(weighted[key],
                                       plain_losses[key] * weight * 0.25)
        torch.testing.assert_close(weighted[f's{stage}.acc'],
                                   plain_losses[f's{stage}.acc'])
    for name in ('loss_rpn_cls', 'loss_rpn_bbox'):
        torch.testing.assert_close(weighted[name], plain_losses[name])
    torch.testing.assert_close(weighted['loss_seg'],
                               plain_losses['loss_seg'] * 3)


def test_region_branch_is_mmdets_cascade():
    cfg = cascade_config(instance=1.0, semantic=0.0)
    assert_region_branch_is_mmdets(spread(cfg), cfg, 'CascadeRCNN')


def test_augmentation_and_panoptic_only():
    """One plain view is plain prediction, and more are something else."""
    cfg = cascade_config()
    tta = PanopticTTAModel(spread(cfg)).eval()
    data = data_of(images(), [64], [PLAIN])
    wanted = plain(tta.module, data)
    more = tta.test_step(data_of(images(), [64], [PLAIN, FLIP]))
    scores = torch.cat([s.pred_instances.scores for s in wanted])
    for sample, other, several in zip(tta.test_step(data), wanted, more):
        assert_same(sample, other)
        assert not torch.equal(several.pred_panoptic_seg.sem_seg,
                               sample.pred_panoptic_seg.sem_seg)
    cfg.test_cfg.panoptic.score_thr = scores.median().item()
    wanted = plain(spread(cfg), data)
    cfg.test_cfg.panoptic_only = True
    few = plain(spread(cfg), data)
    for sample, other in zip(few, wanted):
        assert torch.equal(sample.pred_panoptic_seg.sem_seg,
                           other.pred_panoptic_seg.sem_seg)
    counts = [
        sum(len(s.pred_instances) for s in part) for part in (few, wanted)
    ]
    assert 0 < counts[0] < counts[1]


def test_a_class_count_of_one_stage():
    cfg = cascade_config()
    cfg.roi_head.bbox_head[1].num_classes = NUM_THINGS + 1
    categories = [
        dict(id=i, name=str(i), isthing=int(i < NUM_THINGS))
        for i in range(NUM_THINGS + NUM_STUFF)
    ]
    model = MODELS.build(copy.deepcopy(cfg))
    with pytest.raises(
            InputError, match=r'bbox_head\[1\].num_classes=5.*has 4 '):
        check_class_counts(model, LabelSpace.from_coco(categories))
