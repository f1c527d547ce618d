"""The parts with fewer waits, beside mmdet's: the same bits."""
import copy

import pytest
import torch
from mmdet.models.task_modules import AssignResult
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.config import Config
from mmengine.structures import InstanceData

import panoptic_fpn  # noqa: F401  registers

MODEL = 'configs/_base_/models/panoptic-fpn_tiny.py'


def both(registry, kind, **settings):
    """mmdet's and ours."""
    return [
        registry.build(dict(type=prefix + kind, **settings))
        for prefix in ('', 'SyncFree')
    ]


def assert_same(ours, theirs):
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def boxes(number, generator, step=1.):
    """Corners on a grid of ``step``: equal boxes and equal IoUs."""
    low = torch.rand(number, 2, generator=generator) * 60
    size = torch.rand(number, 2, generator=generator) * 40
    corners = torch.cat([low, low + size], dim=1)
    return (corners / step).round() * step


def instances(bboxes, generator):
    return InstanceData(
        bboxes=bboxes,
        labels=torch.randint(9, (len(bboxes), ), generator=generator))


def assert_same_assignment(settings, priors, truth, ignored=None):
    theirs, ours = both(TASK_UTILS, 'MaxIoUAssigner', **settings)
    wanted, found = (
        assigner.assign(
            InstanceData(priors=priors), truth,
            None if ignored is None else InstanceData(bboxes=ignored))
        for assigner in (theirs, ours))
    assert found.num_gts == wanted.num_gts
    for name in ('gt_inds', 'max_overlaps', 'labels'):
        assert_same(getattr(found, name), getattr(wanted, name))
    return found


SETTINGS = [
    dict(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3),
    dict(
        pos_iou_thr=0.5,
        neg_iou_thr=0.5,
        min_pos_iou=0.5,
        match_low_quality=False,
        ignore_iof_thr=0.7),
    dict(pos_iou_thr=0.6, neg_iou_thr=0.4, gt_max_assign_all=False),
    dict(pos_iou_thr=0.5, neg_iou_thr=(0.1, 0.4), ignore_iof_thr=0.3),
    dict(
        pos_iou_thr=0.5,
        neg_iou_thr=0.4,
        ignore_iof_thr=0.5,
        ignore_wrt_candidates=False,
        gpu_assign_thr=3),
]


@pytest.mark.parametrize('settings', SETTINGS)
def test_assignment_is_mmdets(settings):
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        numbers = torch.randint(0, 12, (2, ), generator=generator).tolist()
        step = [0.01, 5, 20][seed % 3]
        priors = boxes(40 * numbers[0], generator, step)
        truth = instances(boxes(numbers[1], generator, step), generator)
        ignored = boxes(seed % 4, generator, step) if seed % 5 else None
        assert_same_assignment(settings, priors, truth, ignored)


@pytest.mark.parametrize('priors, truth', [(0, 0), (0, 3), (5, 0), (1, 1),
                                           (3, 200)])
@pytest.mark.parametrize('settings', SETTINGS)
def test_assignment_of_odd_numbers(settings, priors, truth):
    generator = torch.Generator().manual_seed(0)
    assert_same_assignment(settings, boxes(priors, generator),
                           instances(boxes(truth, generator), generator))


@pytest.mark.parametrize('every', [True, False])
def test_the_last_of_equal_ground_truth_has_the_box(every):
    """Boxes that are the best of several, also where another one has the
    larger IoU; a box without an area has none."""
    truth = InstanceData(
        bboxes=torch.tensor([[0., 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 30],
                             [50, 50, 50, 60]]),
        labels=torch.tensor([3, 4, 5, 6]))
    priors = torch.tensor([[0., 0, 10, 10], [0, 0, 10, 10], [70, 70, 80, 80]])
    found = assert_same_assignment(
        dict(
            pos_iou_thr=0.7,
            neg_iou_thr=0.3,
            min_pos_iou=0.3,
            gt_max_assign_all=every), priors, truth)
    # the third one is nearest to both boxes, to the first of them in index
    assert found.gt_inds.tolist() == [3, 3 if every else 1, 0]
    assert found.labels.tolist() == [5, 5 if every else 3, -1]


@pytest.mark.parametrize('settings', [
    dict(num=32, pos_fraction=0.5, add_gt_as_proposals=False),
    dict(num=64, pos_fraction=0.25, add_gt_as_proposals=True),
    dict(num=20, pos_fraction=0.25, neg_pos_ub=2),
    dict(num=20, pos_fraction=0.5, neg_pos_ub=0),
])
def test_samples_are_mmdets(settings):
    theirs, ours = both(TASK_UTILS, 'RandomSampler', **settings)
    for seed, (truth, priors) in enumerate([(0, 0), (0, 50), (5, 0), (1, 1),
                                            (5, 300), (40, 300), (200, 10)]):
        generator = torch.Generator().manual_seed(seed)
        gt = instances(boxes(truth, generator), generator)
        gt_inds = torch.randint(
            -1, min(truth, 3) + 1, (priors, ), generator=generator)
        assigned = AssignResult(truth, gt_inds, torch.zeros(priors),
                                gt_inds - 1)
        found = []
        for sampler in (theirs, ours):
            torch.manual_seed(seed)
            found.append(
                sampler.sample(
                    copy.deepcopy(assigned),
                    InstanceData(
                        priors=boxes(priors, generator.manual_seed(9))), gt))
            found[-1].next_draw = torch.rand(3)
        for name, value in vars(found[0]).items():
            mine = vars(found[1])[name]
            if isinstance(value, torch.Tensor):
                assert_same(mine, value)
            else:
                assert mine == value


def rpn(switch, monkeypatch, **train_cfg):
    """Losses, proposals and gradients of an RPN head, on images of different
    sizes in a batch, one of them without ground truth."""
    monkeypatch.setenv('PANOPTIC_FAST_OPS', switch)
    cfg = Config.fromfile(MODEL).model
    torch.manual_seed(0)
    head = MODELS.build(
        dict(
            cfg.rpn_head,
            train_cfg=dict(cfg.train_cfg.rpn, **train_cfg),
            test_cfg=cfg.test_cfg.rpn))
    feats = [
        torch.randn(3, 64, 96 // 2**i, 64 // 2**i).requires_grad_()
        for i in range(5)
    ]
    generator = torch.Generator().manual_seed(1)
    metas = [
        dict(img_shape=shape, pad_shape=shape, scale_factor=(1, 1))
        for shape in ((384, 256), (201, 250, 3), (32, 32))
    ]
    truth = [
        instances(boxes(n, generator) * scale, generator)
        for n, scale in ((7, 2.5), (3, 2), (0, 1))
    ]
    for one in truth:
        one.labels.zero_()
    outputs = head(feats)
    losses = head.loss_by_feat(*outputs, truth, metas)
    sum(sum(values) for values in losses.values()).backward()
    found = head.predict_by_feat(
        *outputs, batch_img_metas=metas, cfg=cfg.test_cfg.rpn)
    return [
        *(loss for values in losses.values() for loss in values),
        *(part for one in found for part in (one.bboxes, one.scores)),
        *(feat.grad for feat in feats), *(p.grad for p in head.parameters()),
        torch.rand(1)
    ]


@pytest.mark.parametrize(
    'settings', [
        dict(),
        dict(pos_weight=2.5),
        dict(
            assigner=dict(
                type='MaxIoUAssigner', pos_iou_thr=0.6, neg_iou_thr=0.3),
            sampler=dict(type='RandomSampler', num=64, pos_fraction=0.5))
    ],
    ids=['plain', 'weight', 'parts of mmdet'])
def test_rpn_is_mmdets(settings, monkeypatch):
    ours, theirs = (rpn(switch, monkeypatch, **settings) for switch in '10')
    assert len(ours) == len(theirs)
    for mine, wanted in zip(ours, theirs):
        assert_same(mine, wanted)
