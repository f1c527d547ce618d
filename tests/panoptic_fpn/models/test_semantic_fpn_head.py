"""The semantic branch against mmdet's, and its loss against a plain one."""
import pytest
import torch
from mmdet.models.seg_heads import PanopticFPNHead
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData
from torch import nn

from panoptic_fpn.models import SemanticFPNHead


def features(batch=2):
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(batch, 32, 64 // s, 64 // s, generator=generator)
        for s in (4, 8, 16, 32))


def head(**kwargs):
    torch.manual_seed(0)
    kwargs = dict(
        dict(
            num_things_classes=3,
            num_stuff_classes=5,
            in_channels=[32] * 4,
            channels=32), **kwargs)
    result = SemanticFPNHead(**kwargs)
    result.init_weights()
    return result


def test_same_weights_give_the_logits_of_mmdets_head():
    ours = head()
    theirs = PanopticFPNHead(3, 5, in_channels=32, inner_channels=32)
    theirs.init_weights()
    # both are lists of convolution + group norm per level, finest first
    own_convs = [
        m for m in ours.scale_heads.modules() if isinstance(m, nn.Conv2d)
    ] + [ours.conv_seg]
    their_convs = [
        m for m in theirs.conv_upsample_layers.modules()
        if isinstance(m, nn.Conv2d)
    ] + [theirs.conv_logits]
    assert len(own_convs) == len(their_convs) == 1 + 1 + 2 + 3 + 1
    for own, other in zip(own_convs, their_convs):
        own.load_state_dict(other.state_dict())
    feats = features()
    torch.testing.assert_close(
        ours(feats), theirs(feats)['seg_preds'], atol=1e-5, rtol=1e-5)


def test_defaults_are_the_papers():
    model = SemanticFPNHead()
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.GroupNorm)]
    assert [c.kernel_size for c in convs].count((3, 3)) == 7
    assert len(norms) == 7 and all(n.num_groups == 32 for n in norms)
    assert model.conv_seg.weight.shape == (54, 128, 1, 1)
    assert not any(isinstance(m, nn.Dropout2d) for m in model.modules())
    # 4 convolutions from 256, 3 from 128 channels, GN, and the classifier
    assert sum(p.numel()
               for p in model.parameters()) == (9 * 128 * (4 * 256 + 3 * 128) +
                                                7 * 2 * 128 + 54 * 129)


@pytest.mark.parametrize('kwargs, num_convs, classifier', [
    (dict(channels=64), 7, 64),
    (dict(aggregation='concat'), 7, 4 * 32),
    (dict(convs_per_stage=2), 14, 32),
    (dict(convs_per_stage=2, aggregation='concat'), 14, 4 * 32),
])
def test_variants(kwargs, num_convs, classifier):
    model = head(**kwargs)
    convs = [
        m for m in model.modules()
        if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)
    ]
    assert len(convs) == num_convs
    assert model.conv_seg.in_channels == classifier
    assert model(features()).shape == (2, 6, 16, 16)


def test_concat_of_equal_blocks_is_a_sum():
    """Concatenation with the classifier repeated equals the sum."""
    total, concat = head(), head(aggregation='concat')
    concat.scale_heads.load_state_dict(total.scale_heads.state_dict())
    concat.conv_seg.weight.data = total.conv_seg.weight.data.repeat(1, 4, 1, 1)
    concat.conv_seg.bias.data = total.conv_seg.bias.data
    feats = features()
    torch.testing.assert_close(concat(feats), total(feats))


@pytest.mark.parametrize('predict_things, channels', [(False, 6), (True, 8)])
def test_labels_reach_their_channels(predict_things, channels):
    """Training on one label pushes up exactly its channel."""
    model = head(predict_things=predict_things)
    feats = features(batch=1)
    assert model(feats).shape[1] == channels
    for label in (0, 2, 3, 7):
        sample = DetDataSample(
            gt_sem_seg=PixelData(sem_seg=torch.full((1, 64, 64), label)))
        model.zero_grad()
        model.loss(feats, [sample])['loss_seg'].backward()
        pushed = model.conv_seg.bias.grad.argmin().item()
        if predict_things:
            assert pushed == label
        else:
            assert pushed == (label - 3 if label >= 3 else 5)


def test_predict_crops_the_padding_and_rescales():
    model = head()
    meta = dict(
        batch_input_shape=(64, 64), img_shape=(60, 40), ori_shape=(30, 20))
    logits, = model.predict(features(batch=1), [meta], rescale=True)
    assert logits.shape == (6, 30, 20)
    logits, = model.predict(features(batch=1), [meta], rescale=False)
    assert logits.shape == (6, 60, 40)
    full = nn.functional.interpolate(
        model(features(batch=1)), scale_factor=4, mode='bilinear')
    torch.testing.assert_close(logits, full[0, :, :60, :40])
