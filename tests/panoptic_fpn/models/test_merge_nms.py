"""``test_cfg.panoptic.nms_iou_thr``: repeated boxes leave the map alone."""
import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms

import panoptic_fpn  # noqa: F401  registers
from panoptic_apps.sweep_merge.branch_files import PanopticBranchWriter
from panoptic_apps.sweep_merge.sweep import sweep_merge
from panoptic_fpn.fusion import class_agnostic_nms
from tests.oracles.merge import merge_by_sets
from tests.panoptic_apps.test_sweep import expected_quality
from tests.panoptic_fpn.metrics.data import make_case, run_metric, space_of

from .test_fast_inference import predict, spread
from .test_panoptic_fpn import NUM_STUFF, NUM_THINGS, build, config, eager

THRESHOLDS = dict(
    score_thr=0.3, overlap_thr=0.9, stuff_area=0, nms_iou_thr=0.4)


def model_of(nms_iou_thr, panoptic_only=False):
    cfg = config()
    cfg.test_cfg.panoptic = dict(THRESHOLDS, nms_iou_thr=nms_iou_thr)
    cfg.test_cfg.panoptic_only = panoptic_only
    return spread(cfg)


@pytest.fixture(scope='module')
def results():
    """Samples without and with it, of the same weights."""
    models = model_of(None), model_of(THRESHOLDS['nms_iou_thr'])
    return [predict(model) for model in models]


def test_the_map_is_the_oracles(results):
    """And instances and semantic map are those without."""
    changed = 0
    for plain, sample in zip(*results):
        instances = sample.pred_instances
        for key in ('bboxes', 'scores', 'labels', 'masks'):
            assert torch.equal(plain.pred_instances[key], instances[key])
        assert torch.equal(plain.pred_sem_seg.sem_seg,
                           sample.pred_sem_seg.sem_seg)
        panoptic = sample.pred_panoptic_seg
        expected = merge_by_sets(
            instances.masks.numpy(),
            instances.scores.numpy(),
            instances.labels.numpy(),
            sample.pred_sem_seg.sem_seg[0].numpy(),
            NUM_THINGS,
            NUM_STUFF,
            boxes=instances.bboxes.numpy(),
            **dict(THRESHOLDS, score_thr=np.float32(0.3)))
        found = panoptic.sem_seg[0].numpy()
        assert (found == expected).all()
        for number, index in enumerate(panoptic.instance_indices, 1):
            code = instances.labels[index] + 1000 * number
            assert instances.masks[index].numpy()[found == code.item()].all()
        changed += not torch.equal(panoptic.sem_seg,
                                   plain.pred_panoptic_seg.sem_seg)
    assert changed


def test_panoptic_only_is_the_same_map(results):
    only = model_of(THRESHOLDS['nms_iou_thr'], panoptic_only=True)
    for sample, wanted in zip(predict(only), results[1]):
        assert torch.equal(sample.pred_panoptic_seg.sem_seg,
                           wanted.pred_panoptic_seg.sem_seg)
        assert len(sample.pred_instances) < len(wanted.pred_instances)


def test_the_boxes_that_stay_are_mmcvs():
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        corner, extent, score = (
            torch.rand(60, n, generator=generator) for n in (2, 2, 1))
        boxes = torch.cat([corner * 80, corner * 80 + extent * 60], 1)
        order = score[:, 0].argsort(descending=True)
        _, wanted = batched_nms(
            boxes, score[:, 0],
            torch.arange(60) % 5,
            dict(type='nms', iou_threshold=0.5, class_agnostic=True))
        assert order[class_agnostic_nms(boxes[order],
                                        0.5)].tolist() == wanted.tolist()
        assert 10 < len(wanted) < 60


def test_a_sweep_keeps_it(tmp_path):
    """Of the saved branches: PQ of the config's own point."""
    data, _, samples = make_case(11, num_images=3)
    for sample in samples:
        pred = sample['pred_instances']
        pred['bboxes'][:, 0], pred['bboxes'][:, 2] = 0, 56
    start = dict(
        score_thr=0.3, overlap_thr=0.5, stuff_area=20, nms_iou_thr=0.2)
    space = space_of(data)
    qualities = []
    for name, thresholds in (('with', start), ('without',
                                               dict(start, nms_iou_thr=None))):
        folder = str(tmp_path / name)
        run_metric(
            PanopticBranchWriter(folder, thresholds=thresholds), samples,
            space.metainfo())
        rows, own = sweep_merge(folder, [0.3], [0.5], [20], num_workers=1)
        wanted = expected_quality(data, samples, **thresholds)['PQ']
        assert own['PQ'] == rows[0]['PQ'] == wanted
        qualities.append(own['PQ'])
    assert qualities[0] != qualities[1]


def test_a_model_without_semantic_branch():
    cfg = eager()
    cfg.loss_weights = dict(instance=1.0, semantic=0.0)
    cfg.test_cfg.panoptic.nms_iou_thr = 0.0
    for sample in predict(build(cfg).eval()):
        kept = sample.pred_instances[sample.pred_panoptic_seg.instance_indices]
        assert class_agnostic_nms(kept.bboxes, 0.0) == list(range(len(kept)))
