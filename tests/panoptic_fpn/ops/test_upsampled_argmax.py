"""Channels without full-size logits against argmax of interpolated ones."""
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from panoptic_fpn.models import SemanticFPNHead
from panoptic_fpn.ops import FAST_OPS
from panoptic_fpn.ops import upsampled_argmax as fast
from panoptic_fpn.ops.upsampled_argmax import upsampled_argmax

#: Shape (h, w) of the logits, and for each step its size and its crop.
SIZES = {
    'x4': ((40, 60), [((160, 240), (160, 240))]),
    'x4, twice the same': ((40, 60), [((160, 240), ) * 2] * 2),
    'x4, padding cut off': ((40, 60), [((160, 240), (151, 203))]),
    'x4, cut, down': ((40, 60), [((160, 240), (151, 203)), ((95, 127), ) * 2]),
    'x4, cut, up': ((40, 60), [((160, 240), (151, 203)), ((233, 313), ) * 2]),
    'x4, cut, down by 2.3': ((40, 60), [((160, 240), (160, 233)),
                                        ((70, 101), ) * 2]),
    'x4, cut, in x down and in y up': ((40, 60), [((160, 240), (160, 233)),
                                                  ((191, 97), ) * 2]),
    'not by an integer': ((37, 51), [((101, 130), (101, 130))]),
    'down, then up': ((80, 90), [((70, 61), (69, 60)), ((201, 190), ) * 2]),
    'same size': ((80, 90), [((80, 90), (80, 90))]),
    'same size, cut': ((80, 90), [((80, 90), (41, 80))]),
    'one row': ((1, 60), [((4, 240), (4, 240))]),
    'one column': ((60, 1), [((240, 4), (240, 1))]),
    'one pixel': ((1, 1), [((100, 100), (100, 100))]),
    'to one pixel': ((40, 60), [((160, 240), (160, 240)), ((1, 1), ) * 2]),
    'to one row': ((40, 60), [((160, 240), (160, 240)), ((1, 200), ) * 2]),
    'over one pixel': ((40, 60), [((160, 240), (1, 1)), ((90, 90), ) * 2]),
    'small': ((10, 12), [((40, 48), (39, 48)), ((99, 99), ) * 2]),
}


def plain(logits, steps, align_corners=False):
    """Full-size logits, as any framework has them."""
    for size, (height, width) in steps:
        logits = F.interpolate(
            logits[None], size, mode='bilinear',
            align_corners=align_corners)[0][:, :height, :width]
    return logits.argmax(dim=0)


def scene(channels, shape, noise=0.2, seed=0):
    """Logits (K, h, w) of smooth regions with noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = [max(side // 8, 1) for side in shape]
    smooth = F.interpolate(
        4 * torch.randn(1, channels, *coarse, generator=generator),
        shape,
        mode='bicubic')[0]
    return smooth + noise * torch.randn(smooth.shape, generator=generator)


def off_the_cpu(logits, steps, align_corners):
    """As on a GPU, where no more than 8 channels at once would fit."""
    largest = max(height * width for (height, width), _ in steps)
    with mock.patch.object(fast, 'GPU_ELEMENTS', 8 * largest):
        return fast._best_resized(logits, steps, align_corners)[1]


def assert_same(logits, steps, align_corners=False, shares=(2, -1, None)):
    """Undecided pixels one by one, by way of all of them, off the CPU."""
    expected = plain(logits, steps, align_corners)
    for share in shares:
        if share is None:
            found = off_the_cpu(logits, steps, align_corners)
        else:
            with mock.patch.object(fast, 'MANY', share):
                found = upsampled_argmax(logits, steps, align_corners)
        assert found.dtype == torch.int64 and found.shape == expected.shape
        assert (found != expected).sum() == 0


@pytest.mark.parametrize('channels', [12, 54])
def test_leads_as_small_as_rounding(channels):
    """Neighbours differ by a few units in the last place of large values."""
    shape, steps = SIZES['x4, cut, up']
    generator = torch.Generator().manual_seed(0)
    steps_up = torch.randint(
        0, 4, (channels, *shape), generator=generator).float()
    assert_same(1000 + steps_up * 2**-13, steps)
    assert_same(1000 + steps_up * 2**-13 + scene(channels, shape), steps)


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('name', SIZES)
def test_equals_full_size_logits(name, align_corners):
    shape, steps = SIZES[name]
    for channels in (1, 3, 4, 12, 54):
        assert_same(scene(channels, shape), steps, align_corners)


@pytest.mark.parametrize('channels', [16, 17, 133, 254, 255, 256, 300])
def test_any_number_of_channels(channels):
    shape, steps = SIZES['x4, cut, down']
    assert_same(scene(channels, shape), steps)


@pytest.mark.parametrize('channels', [12, 54])
def test_ties_noise_and_masked_channels(channels):
    shape, steps = SIZES['x4, cut, up']
    assert_same(torch.full((channels, *shape), -3.7), steps)
    # many ties, of two channels that are the same, and of rounded values
    logits = scene(channels, shape)
    logits[7] = logits[2]
    assert_same(logits, steps)
    assert_same(logits.round(), steps)
    assert_same((logits > 3).float(), steps)
    assert_same(scene(channels, shape, noise=30), steps)
    logits[2] = -1e9
    logits[5, ::2] = -1e9
    assert_same(logits, steps)


def test_any_scale_and_what_is_not_finite():
    shape, steps = SIZES['x4, cut, up']
    for scale in (1e-42, 1e-38, 1e-20, 1e20, 1e38):
        assert_same(scene(12, shape) * scale, steps)
    for value in (float('nan'), float('inf'), -float('inf'), 3e38):
        logits = scene(12, shape)
        logits[3, 5:9, 20] = logits[8, 7, 20:24] = value
        assert_same(logits, steps)
        logits[:] = value
        assert_same(logits, steps)


def test_threads_do_not_matter():
    logits, threads = scene(54, (60, 80)), torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            assert_same(logits, [((240, 320), (240, 320))])
    finally:
        torch.set_num_threads(threads)


METAS = [
    dict(
        batch_input_shape=(160, 224),
        img_shape=(150, 203),
        ori_shape=(90, 121)),
    dict(
        batch_input_shape=(160, 224),
        img_shape=(160, 201, 3),
        ori_shape=(240, 300, 3))
]


@pytest.mark.parametrize('dtype, layout, align_corners', [
    (torch.float32, torch.contiguous_format, False),
    (torch.float32, torch.channels_last, True),
    (torch.bfloat16, torch.channels_last, False),
])
def test_channels_of_a_head_are_argmax_of_its_logits(dtype, layout,
                                                     align_corners):
    torch.manual_seed(0)
    model = SemanticFPNHead(
        3, 30, in_channels=[32] * 4, channels=32, align_corners=align_corners)
    model.init_weights()
    model.to(dtype, memory_format=layout)
    feats = tuple(
        torch.randn(2, 32, 160 // s, 224 // s).to(dtype, memory_format=layout)
        for s in (4, 8, 16, 32))
    before = None
    for prior in (None, torch.linspace(-.03, .03, 31)):
        model.log_prior = prior
        for rescale in (True, False):
            logits = list(model.predict(feats, METAS, rescale))
            found = model.predict_channels(feats, METAS, rescale)
            assert len(found) == len(logits) == 2
            for channels, single in zip(found, logits):
                assert torch.equal(channels, single.argmax(0))
                assert len(channels.unique()) > 3
        assert before is None or not torch.equal(found[0], before)
        before = found[0]


def test_no_more_logits_are_resized_at_once_than_fit(monkeypatch):
    """Off the CPU, as device 'meta' is."""
    shape, steps = SIZES['x4, cut, up']
    logits = torch.empty(54, *shape, device='meta')
    sizes, resize = [], fast.resize

    def listed(part, *args):
        sizes.append(len(part))
        return resize(part, *args)

    monkeypatch.setattr(fast, 'resize', listed)
    assert upsampled_argmax(logits, steps).shape == (233, 313)
    monkeypatch.setattr(fast, 'GPU_ELEMENTS', 14 * 233 * 313)
    assert upsampled_argmax(logits, steps).shape == (233, 313)
    assert sizes == [54, 14, 13, 14, 13]
    monkeypatch.setenv(FAST_OPS, '0')
    upsampled_argmax(logits, steps)
    assert sizes[5:] == [54]


@pytest.mark.parametrize('channels', [4, 54, 300])
def test_logits_of_all_pixels_are_never_held(monkeypatch, channels):
    """Else every comparison above would compare the same code."""

    def fail(*args):
        raise AssertionError('all pixels are interpolated')

    monkeypatch.setattr(fast, 'resize', fail)
    for name in ('x4', 'x4, cut, up', 'not by an integer', 'down, then up'):
        shape, steps = SIZES[name]
        assert_same(scene(channels, shape), steps, shares=[2])
