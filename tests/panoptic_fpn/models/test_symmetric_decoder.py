"""Backbones of Figure 5: the symmetric decoder, and dilation by config."""
import copy

import pytest
import torch
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData

import panoptic_fpn  # noqa: F401  registers
from panoptic_fpn.models import SymmetricDecoder
from tests.conftest import REPO_ROOT

CONFIGS = REPO_ROOT / 'configs' / 'paper'
FIGURE4 = {
    'semantic-fpn_r101-d16_65k_cityscapes.py': 16,
    'semantic-fpn_r101-d8_65k_cityscapes.py': 8,
    'semantic-fpn_r101-symmetric_65k_cityscapes.py': 4,
}
WIDTH = 8
GROUPS = dict(type='GN', num_groups=4)


def model_config(name):
    return Config.fromfile(CONFIGS / 'figure4' / name).model


def decoder(depth=50, **kwargs):
    torch.manual_seed(0)
    model = SymmetricDecoder(
        depth, base_channels=WIDTH, norm_cfg=GROUPS, **kwargs)
    model.init_weights()
    # blocks start as shortcuts; here they have to do something
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter)
    return model.eval()


def encoder_maps(height=64, width=96, expansion=4):
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(
            2,
            WIDTH * 2**i * expansion,
            height // 2**(i + 2),
            width // 2**(i + 2),
            generator=generator).requires_grad_() for i in range(4)
    ]


@pytest.mark.parametrize('depth', [18, 50, 101])
def test_stages_mirror_the_encoder(depth):
    """Blocks of a stage but the first have the encoder's weights' shapes."""
    with torch.device('meta'):
        encoder, mirror = ResNet(depth), SymmetricDecoder(depth)

    def shapes(block):
        return [tuple(p.shape) for p in block.parameters() if p.dim() == 4]

    for i, stage in enumerate(mirror.stages):
        blocks = getattr(encoder, f'layer{i + 1}')
        assert len(stage) == len(blocks)
        assert type(stage[0]) is type(blocks[0])
        for one, other in zip(list(stage)[1:], list(blocks)[1:]):
            assert shapes(one) == shapes(other)
        assert all(m.stride == (1, 1) for m in stage.modules()
                   if isinstance(m, torch.nn.Conv2d))


@pytest.mark.parametrize('depth, expansion', [(18, 1), (50, 4)])
def test_a_map_depends_on_coarser_ones_alone(depth, expansion):
    """The finest sees every lateral connection; maps keep their shapes."""
    for level in (0, 2):
        feats = encoder_maps(68, 100, expansion)
        outs = decoder(depth)(feats)
        assert [out.shape for out in outs] == [feat.shape for feat in feats]
        outs[level].square().sum().backward()
        for i, feat in enumerate(feats):
            assert (feat.grad is not None and feat.grad.any()) == (i >= level)


def test_blocks_start_as_their_shortcuts():
    model = SymmetricDecoder(50, base_channels=WIDTH, norm_cfg=GROUPS)
    model.init_weights()
    for stage in model.stages:
        assert all((block.norm3.weight == 0).all() for block in stage)
        assert all((block.norm1.weight == 1).all() for block in stage)


@pytest.mark.parametrize('name', list(FIGURE4)[:2])
def test_dilation_is_the_same_network_at_more_places(name):
    """Of the dilated map every other (4th) pixel is the original's."""
    settings = model_config(name).backbone
    settings.update(depth=50, base_channels=WIDTH, init_cfg=None)
    dilated = MODELS.build(copy.deepcopy(settings))
    settings.update(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1))
    original = MODELS.build(copy.deepcopy(settings))
    original.load_state_dict(dilated.state_dict())
    original.eval(), dilated.eval()
    image = torch.randn(1, 3, 128, 192)
    with torch.no_grad():
        coarse, fine = original(image)[0], dilated(image)[0]
    step = 32 // FIGURE4[name]
    assert fine.shape[2:] == (128 // FIGURE4[name], 192 // FIGURE4[name])
    torch.testing.assert_close(
        fine[..., ::step, ::step], coarse, rtol=1e-4, atol=1e-4)


def tiny(name):
    """A config of Figure 4 with ResNet-50, 1/8 of its channels, from scratch.
    """
    cfg = model_config(name)
    cfg.backbone.update(
        depth=50,
        base_channels=WIDTH,
        init_cfg=None,
        frozen_stages=-1,
        norm_cfg=dict(requires_grad=True),
        norm_eval=False,
        zero_init_residual=True)  # learns in a few steps
    if cfg.neck:
        cfg.neck.update(depth=50, base_channels=WIDTH, norm_cfg=GROUPS)
    head = cfg.semantic_head
    head.in_channels = [n * WIDTH // 64 for n in head.in_channels]
    head.update(channels=32)
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    return model


def batch(model, training):
    generator = torch.Generator().manual_seed(3)
    labels = torch.zeros(1, 128, 192, dtype=torch.long)
    labels[:, :, 96:] = 12
    sample = DetDataSample(
        metainfo=dict(
            img_shape=(128, 192), ori_shape=(64, 96), scale_factor=(2., 2.)))
    sample.gt_instances = InstanceData()
    sample.gt_sem_seg = PixelData(sem_seg=labels)
    image = torch.randint(0, 120, (3, 128, 192), generator=generator)
    image[:, :, 96:] += 120
    return model.data_preprocessor(
        dict(inputs=[image.byte()], data_samples=[sample]), training)


@pytest.mark.parametrize('name', FIGURE4)
def test_each_backbone_trains_and_predicts(name):
    model = tiny(name).train()
    assert model.semantic_head.feature_strides == (FIGURE4[name], )
    trained = [p for p in model.parameters() if p.requires_grad]
    solver = torch.optim.SGD(trained, lr=0.05, momentum=0.9)
    losses = []
    for _ in range(10):
        loss = model(**batch(model, True), mode='loss')['loss_seg']
        solver.zero_grad()
        loss.backward()
        solver.step()
        losses.append(loss.item())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    # every part moves once blocks have left their shortcuts
    assert all(p.grad.abs().sum() > 0 for p in trained if p.dim() == 4)
    assert losses[-1] < 0.3 * losses[0]
    model.eval()
    with torch.no_grad():
        sample, = model(**batch(model, False), mode='predict')
    predicted = sample.pred_sem_seg.sem_seg
    assert predicted.shape == (1, 64, 96)
    assert (predicted[0, :, :40] == 0).float().mean() > 0.9
    assert (predicted[0, :, 56:] == 12).float().mean() > 0.9


def test_maps_are_doubled_before_they_meet_the_encoders():
    """Nearest upsampling, then concatenation: by plain repetition."""
    model, feats = decoder(18), encoder_maps(expansion=1)
    with torch.no_grad():
        above = model.stages[3](feats[3])
        doubled = above.repeat_interleave(2, 2).repeat_interleave(2, 3)
        expected = model.stages[2](torch.cat([doubled, feats[2]], dim=1))
        outs = model(feats)
    torch.testing.assert_close(outs[3], above)
    torch.testing.assert_close(outs[2], expected)
