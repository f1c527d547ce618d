"""The decode head for mmseg: the same module as the detector's branch."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.models.losses import accuracy
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from panoptic_fpn.models import SemanticFPNDecodeHead, SemanticFPNHead

CLASSES = 6


def features():
    """FPN levels of two images of 64 x 96."""
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(2, 32, 64 // s, 96 // s, generator=generator)
        for s in (4, 8, 16, 32))


def head(**kwargs):
    torch.manual_seed(0)
    kwargs = dict(
        dict(num_classes=CLASSES, in_channels=[32] * 4, channels=32), **kwargs)
    result = MODELS.build(dict(type='mmseg.SemanticFPNHead', **kwargs))
    result.init_weights()
    return result


def test_one_name_two_registries():
    assert MODELS.get('SemanticFPNHead') is SemanticFPNDecodeHead
    assert MMDET_MODELS.get('SemanticFPNHead') is SemanticFPNHead
    assert MMDET_MODELS.get('mmseg.FPNHead') is not SemanticFPNDecodeHead


@pytest.mark.parametrize('kwargs', [
    dict(),
    dict(aggregation='concat', convs_per_stage=2, align_corners=True),
])
def test_parameters_and_logits_are_the_detectors(kwargs):
    theirs = head(**kwargs)
    ours = SemanticFPNHead(
        2, 4, True, in_channels=[32] * 4, channels=32, **kwargs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(
        ours(features()), theirs(features()), rtol=0, atol=0)


def truth(ignored=255):
    """Random labels (2, 64, 96), a quarter of them void, and samples."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES + 2, (2, 64, 96), generator=generator)
    labels[labels >= CLASSES] = ignored
    return labels, [
        SegDataSample(gt_sem_seg=PixelData(data=single[None]))
        for single in labels
    ]


def test_loss_and_accuracy():
    """The mean over labelled pixels in float64; accuracy as mmseg's."""
    model, feats, (labels, samples) = head(), features(), truth()
    with torch.no_grad():
        big = F.interpolate(
            model(feats).double(),
            scale_factor=4,
            mode='bilinear',
            align_corners=False)
    probability = big.softmax(1).numpy()
    total = [
        -np.log(probability[n, labels[n, y, x], y, x])
        for n, y, x in np.argwhere(labels.numpy() != 255)
    ]
    losses = model.loss(feats, samples, train_cfg=None)
    assert set(losses) == {'loss_seg', 'acc_seg'}
    assert losses['loss_seg'].item() == pytest.approx(np.mean(total), rel=1e-5)
    assert losses['acc_seg'].item() == pytest.approx(
        accuracy(big, labels, ignore_index=255).item(), abs=1e-3)
    assert not losses['acc_seg'].requires_grad
    other = head(ignore_index=CLASSES + 2)
    assert other.loss(feats,
                      truth(CLASSES + 2)[1],
                      None)['loss_seg'] == losses['loss_seg']


def test_losses_of_mmseg_on_request():
    """Averaged over labelled pixels, mmseg's loss is the paper's."""
    init_default_scope('mmseg')
    try:
        model = head(
            loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True))
    finally:
        init_default_scope('mmdet')
    data = features(), truth()[1], None
    torch.testing.assert_close(
        model.loss(*data)['loss_ce'],
        head().loss(*data)['loss_seg'])


def segmentor(**test_cfg):
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='mmseg.EncoderDecoder',
            backbone=dict(
                type='mmseg.ResNet',
                depth=18,
                base_channels=8,
                stem_channels=8,
                norm_cfg=dict(type='BN')),
            neck=dict(
                type='mmseg.FPN',
                in_channels=[8, 16, 32, 64],
                out_channels=32,
                num_outs=4),
            decode_head=dict(
                type='mmseg.SemanticFPNHead',
                num_classes=CLASSES,
                in_channels=[32] * 4,
                channels=32),
            test_cfg=ConfigDict(test_cfg)))
    model.init_weights()
    return model.eval()


@torch.no_grad()
def test_whole_and_slide_in_a_segmentor():
    """Of logits upsampled in float32."""
    with torch.autocast('cpu', torch.bfloat16):
        logits = head().predict(features(), [dict(img_shape=(64, 96))], None)
    assert logits.dtype == torch.float32 and logits.shape[2:] == (64, 96)
    image = torch.randn(1, 3, 64, 96)
    whole = segmentor(mode='whole')
    logits = whole.predict(image)[0].seg_logits.data
    expected = F.interpolate(
        whole(image, mode='tensor'), scale_factor=4, mode='bilinear')
    torch.testing.assert_close(logits, expected[0])
    assert (
        whole.predict(image)[0].pred_sem_seg.data == logits.argmax(0)).all()

    covering = segmentor(mode='slide', crop_size=(64, 96), stride=(64, 96))
    torch.testing.assert_close(
        covering.predict(image)[0].seg_logits.data, logits)
    # two windows side by side: each is the network on its half
    halves = segmentor(mode='slide', crop_size=(64, 48), stride=(64, 48))
    right = whole.predict(image[..., 48:])[0].seg_logits.data
    torch.testing.assert_close(
        halves.predict(image)[0].seg_logits.data[..., 48:], right)
