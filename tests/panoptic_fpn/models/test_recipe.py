"""The recipe of the paper's code base, where it is not mmdet's."""
import re
from math import sqrt

import pytest
import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.config import Config
from mmengine.structures import InstanceData

import panoptic_fpn  # noqa: F401  registers
from mmengine_exact.match import frozen_warning
from tests.conftest import REPO_ROOT

CONFIGS = REPO_ROOT / 'configs'
R50 = 'panoptic-fpn_r50_fpn_1x_coco'
#: Configs whose backbone may start without weights of ImageNet.
FROZEN = [R50, f'{R50}_detectron2-weights', f'{R50}_mmdet-weights']
#: Standard deviation of a tensor's initial values, by its name. XavierFill is
#: uniform within sqrt(3 / fan_in); MSRAFill normal, by fan_out.
DEVIATIONS = {
    r'neck\.lateral_convs\.0': 1 / sqrt(256),
    r'neck\.lateral_convs\.1': 1 / sqrt(512),
    r'neck\.lateral_convs\.2': 1 / sqrt(1024),
    r'neck\.lateral_convs\.3': 1 / sqrt(2048),
    r'neck\.fpn_convs\.\d': 1 / sqrt(9 * 256),
    r'rpn_head\.rpn_(conv|cls|reg)': 0.01,
    r'roi_head\.bbox_head\.shared_fcs\.0': 1 / sqrt(7 * 7 * 256),
    r'roi_head\.bbox_head\.shared_fcs\.1': 1 / sqrt(1024),
    r'roi_head\.bbox_head\.fc_cls': 0.01,
    r'roi_head\.bbox_head\.fc_reg': 0.001,
    r'roi_head\.mask_head\.convs\.\d': sqrt(2 / (9 * 256)),
    r'roi_head\.mask_head\.upsample': sqrt(2 / (4 * 256)),
    r'roi_head\.mask_head\.conv_logits': sqrt(2 / 80),
    r'semantic_head\.scale_heads\..*': sqrt(2 / (9 * 128)),
    r'semantic_head\.conv_seg': 0.01,
}
UNIFORM = ('neck', 'roi_head.bbox_head.shared_fcs')


def model_of(name):
    return Config.fromfile(CONFIGS / 'coco' / f'{name}.py').model


def test_initial_weights_of_new_layers():
    """At full size; a small backbone draws its own."""
    cfg = model_of(R50)
    cfg.backbone.update(base_channels=8, init_cfg=None)
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    used = set()
    for name, value in model.named_parameters():
        layer, _, kind = name.rpartition('.')
        if layer.startswith('backbone') or layer.endswith('.gn'):
            continue
        if kind == 'bias':
            assert not value.any(), name
            continue
        pattern, = (
            one for one in DEVIATIONS
            if re.fullmatch(rf'{one}(\.conv)?', layer))
        used.add(pattern)
        wanted = DEVIATIONS[pattern]
        # four deviations of a sample's deviation, and at least 1 %
        assert value.std().item() == pytest.approx(
            wanted, rel=max(0.01, 4 / sqrt(2 * value.numel()))), name
        if layer.startswith(UNIFORM):
            assert value.abs().max() <= sqrt(3) * wanted
        else:
            assert value.abs().max() > 2.5 * wanted
    assert used == set(DEVIATIONS)


def test_positives_in_a_crowd_are_kept():
    """A person before a crowd, a box that finds it, and one of the crowd."""
    crowd = InstanceData(bboxes=torch.tensor([[0., 0, 200, 100]]))
    person = InstanceData(
        bboxes=torch.tensor([[20., 10, 60, 90]]), labels=torch.tensor([0]))
    boxes = torch.tensor([[22., 10, 60, 90], [120, 10, 160, 90]])
    rcnn = model_of(R50).train_cfg.rcnn
    found = TASK_UTILS.build(rcnn.assigner).assign(
        InstanceData(priors=boxes), person, crowd)
    assert found.gt_inds.tolist() == [1, 0]


def test_proposals_of_an_image_in_training():
    cfg = model_of(R50).train_cfg.rpn_proposal
    assert (cfg.nms_pre, cfg.max_per_img) == (2000, 1000)


@pytest.mark.parametrize('name', FROZEN)
def test_gradients_reach_a_backbone_that_starts_at_random(name):
    """All 42 convolutions of C3 to C5 and of the blocks of C2; the others, and
    all norms, are frozen."""
    cfg = model_of(name).backbone
    cfg.update(base_channels=8, init_cfg=None)
    torch.manual_seed(0)
    backbone = MODELS.build(cfg)
    backbone.init_weights()
    backbone.train()
    sum(feat.square().mean()
        for feat in backbone(torch.randn(1, 3, 64, 64))).backward()
    trained = [p for p in backbone.parameters() if p.requires_grad]
    assert len(trained) == 42
    assert all(p.grad.abs().sum() > 0 for p in trained)


def test_a_frozen_backbone_without_weights_is_a_warning():
    cfg = model_of(R50)
    cfg.backbone.base_channels = 8
    assert not frozen_warning(MODELS.build(cfg))  # they are to be loaded
    cfg.backbone.init_cfg = None
    model = MODELS.build(cfg)
    assert frozen_warning(model).startswith('model.backbone: ')
    model.init_cfg = dict(type='Pretrained', checkpoint='whole.pth')
    assert not frozen_warning(model)
    two = MODELS.build(dict(cfg, type='TwoNetworkPanopticFPN'))
    assert frozen_warning(two).startswith(
        'model.instance_network.backbone, model.semantic_network.backbone: ')
    cfg.backbone.update(
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=dict(type='BN', requires_grad=True))
    assert not frozen_warning(MODELS.build(cfg))
