"""RoIAlign by matrix products, beside mmcv's kernel on the same boxes."""
import pickle
from contextlib import nullcontext

import pytest
import torch
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS

import panoptic_fpn  # noqa: F401  registers
from panoptic_fpn.ops.roi_align import SeparableRoIAlign
from tests.conftest import needs_compiled


def boxes(number, size, images=2, seed=0):
    """Of all sizes, many of them partly outside the image."""
    generator = torch.Generator().manual_seed(seed)
    h, w = size
    center = torch.rand(number, 2, generator=generator)
    center = (center * 1.4 - 0.2) * torch.tensor([w, h])
    extent = torch.rand(
        number, 2, generator=generator)**3 * torch.tensor([w * 1.2, h * 1.2
                                                           ]) + 0.2
    index = torch.randint(0, images, (number, 1), generator=generator)
    return torch.cat([index, center - extent / 2, center + extent / 2], dim=1)


def forward_and_gradient(layer, features, rois):
    features = features.clone().requires_grad_()
    out = layer(features, rois)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    out.backward(weight)
    return out.detach(), features.grad


def assert_mmcvs(features, rois, *setting):
    ours, gradient = forward_and_gradient(
        SeparableRoIAlign(*setting), features, rois)
    expected, wanted = forward_and_gradient(RoIAlign(*setting), features, rois)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize('samples', [0, 1, 2, 3])
@pytest.mark.parametrize('size', [7, (3, 5), 1])
@pytest.mark.parametrize('aligned', [True, False])
def test_is_mmcvs_forward_and_backward(samples, size, aligned):
    threads = torch.get_num_threads()
    assert_mmcvs(
        torch.randn(2, 16, 25, 38), boxes(60, (200, 304)), size, 1 / 8,
        samples, 'avg', aligned)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    'rois', [
        torch.zeros(0, 5),
        torch.tensor([[0., 5000, 5000, 6000, 6000]]),
        torch.tensor([[1., -900, -900, -800, -800]]),
        torch.tensor([[0., 30, 30, 30, 30]]),
        torch.tensor([[0., -1e3, -1e3, 1e3, 1e3]]),
        torch.tensor([[0., 0, 0, 304, 200], [1., 303, 199, 304, 200]]),
    ],
    ids=['none', 'beyond', 'before', 'point', 'around', 'border'])
def test_odd_boxes(rois):
    for samples in (0, 2):
        assert_mmcvs(torch.randn(2, 8, 25, 38), rois, 7, 1 / 8, samples)


def test_boxes_that_are_no_numbers_harm_no_other():
    features = torch.randn(1, 4, 10, 10)
    layer = SeparableRoIAlign(7, 1 / 8, 2)
    for value in (float('nan'), float('inf')):
        rois = torch.tensor([[0, 8., 8, 40, 40], [0, value, 0, 8, 8]])
        torch.testing.assert_close(
            layer(features, rois)[:1], layer(features, rois[:1]))


def test_half_precision_keeps_positions():
    """Also where autocast is around backward."""
    features = torch.randn(2, 16, 25, 38).bfloat16().requires_grad_()
    rois = boxes(30, (200, 304))
    layer = SeparableRoIAlign(7, 1 / 8, 2)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        ours = layer(features, rois)
        ours.sum().backward()
    assert ours.dtype == features.grad.dtype == torch.bfloat16
    assert torch.equal(ours, layer(features.float(), rois).bfloat16())


def test_a_sample_by_hand():
    """One bin, one sample at (1.25, 0.5): a quarter and a half between."""
    features = torch.tensor([[0., 1., 2.], [10., 20., 40.]])[None, None]
    # pixel centres at half integers: x = 1.25 + 0.5, y = 0.5 + 0.5
    rois = torch.tensor([[0, 0.75, 0., 2.75, 2.]])
    out = SeparableRoIAlign(1, 1., 1)(features, rois)
    assert out.item() == pytest.approx(0.5 * (0.75 * 1 + 0.25 * 2) + 0.5 *
                                       (0.75 * 20 + 0.25 * 40))


def test_memory_layout_does_not_matter():
    """mmcv's kernel reads a slice or channels-last memory wrongly."""
    features, rois = torch.randn(2, 16, 25, 38), boxes(30, (200, 304))
    layer = SeparableRoIAlign(7, 1 / 8, 2)
    expected = layer(features, rois)
    last = features.contiguous(memory_format=torch.channels_last)
    assert torch.equal(layer(last, rois), expected)
    part = layer(features[:, 4:12], rois)
    torch.testing.assert_close(part, expected[:, 4:12])


def extractors(layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2)):
    setting = dict(
        roi_layer=layer, out_channels=8, featmap_strides=[4, 8, 16, 32])
    return (MODELS.build(dict(setting, type='SeparableRoIExtractor')),
            SingleRoIExtractor(**setting))


@pytest.mark.parametrize('number', [0, 1, 200])
@pytest.mark.parametrize('scale', [None, 1.3])
@pytest.mark.parametrize(
    'mode', ['avg', pytest.param('max', marks=needs_compiled)])
def test_extractor_is_mmdets(number, scale, mode):
    ours, theirs = extractors(
        dict(type='RoIAlign', output_size=7, sampling_ratio=2, pool_mode=mode))
    levels = [torch.randn(2, 8, 160 // s, 320 // s) for s in (4, 8, 16, 32)]
    rois = boxes(number, (160, 320))
    results = []
    for extractor in (ours, theirs):
        feats = [level.clone().requires_grad_() for level in levels]
        out = extractor(feats, rois, scale)
        (out * torch.linspace(-1, 1, 49).view(7, 7)).sum().backward()
        # every level takes part in the graph, also one without a box
        results.append((out.detach(), *(feat.grad for feat in feats)))
    for a, b in zip(*results):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)
        assert mode == 'avg' or torch.equal(a, b)


def test_extractor_builds_other_layers_as_mmdet():
    ours, theirs = extractors(dict(type='RoIPool', output_size=7))
    assert type(ours.roi_layers[0]) is type(theirs.roi_layers[0])
    assert isinstance(extractors()[0].roi_layers[0], SeparableRoIAlign)
    pickle.loads(pickle.dumps(extractors()[0]))


@pytest.fixture
def deterministic(monkeypatch):
    """Device 'meta' stands for a GPU: it has shapes, and no autocast."""
    monkeypatch.setattr(torch, 'autocast', lambda *_, **__: nullcontext())
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_products_on_other_devices_under_the_switch(deterministic):
    """Nothing that runs there is of the CPU, or the other way round."""
    ours, _ = extractors()
    levels = [
        torch.empty(2, 8, 160 // s, 320 // s, device='meta').requires_grad_()
        for s in (4, 8, 16, 32)
    ]
    rois = boxes(30, (160, 320))
    for out in (ours(levels, rois), ours.roi_layers[0](levels[0], rois)):
        assert out.shape == (30, 8, 7, 7) and out.device.type == 'meta'
        assert type(out.grad_fn).__name__ == '_SeparableRoIAlignBackward'
        out.sum().backward()
    assert all(level.grad.device.type == 'meta' for level in levels)


def test_mmcvs_kernel_elsewhere(deterministic, monkeypatch):
    """Where nothing is differentiated, and without the switch."""
    asked = []

    def kernel(self, features, rois):
        asked.append(features)
        return features.new_empty(len(rois), 8, 7, 7)

    monkeypatch.setattr(RoIAlign, 'forward', kernel)
    layer = SeparableRoIAlign(7, 1 / 8, 2)
    features = torch.empty(2, 8, 25, 38, device='meta')
    with torch.no_grad():
        layer(features, boxes(3, (200, 304)))
    torch.use_deterministic_algorithms(False)
    layer(features, boxes(3, (200, 304)))
    assert len(asked) == 2
    layer(torch.rand(2, 8, 25, 38), boxes(3, (200, 304)))
    assert len(asked) == 2
    assert layer.equal_bits
    assert not SeparableRoIAlign(7, 1 / 8, 2, pool_mode='max').equal_bits
