"""Channels without full-size logits against argmax of interpolated ones."""
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from panoptic_fpn.models import SemanticFPNHead
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


def assert_same(logits, steps, align_corners=False, shares=(2, -1)):
    """Undecided pixels one by one, and by way of all of them."""
    expected = plain(logits, steps, align_corners)
    for share in shares:
        with mock.patch.object(fast, 'MANY', share):
            found = upsampled_argmax(logits, steps, align_corners)
        assert found.dtype == torch.int64 and found.shape == expected.shape
        assert (found != expected).sum() == 0


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('channels', [1, 2, 3, 4, 12, 54])
@pytest.mark.parametrize('name', SIZES)
def test_equals_full_size_logits(name, channels, align_corners):
    shape, steps = SIZES[name]
    assert_same(scene(channels, shape), steps, align_corners)


@pytest.mark.parametrize('channels', [16, 17, 133, 254, 255, 256, 300])
def test_any_number_of_channels(channels):
    for name in ('x4', 'x4, cut, down'):
        shape, steps = SIZES[name]
        assert_same(scene(channels, shape), steps)


@pytest.mark.parametrize('seed', range(20))
def test_random_sizes(seed):
    generator = torch.Generator().manual_seed(seed)
    h, w, *sizes = torch.randint(2, 200, (8, ), generator=generator).tolist()
    middle, last = (sizes[0] + 128, sizes[1]), (sizes[2], sizes[3] + 128)
    crop = [min(side, limit) for side, limit in zip(middle, sizes[4:])]
    logits = scene(int(sizes[0] % 40) + 4, (h // 4 + 1, w // 4 + 1), .3, seed)
    assert_same(logits, [(middle, crop), (last, last)], bool(seed % 2))


@pytest.mark.parametrize('channels', [12, 54])
@pytest.mark.parametrize('noise', [0, 1, 30])
def test_noise(noise, channels):
    for name in ('x4', 'x4, cut, down', 'x4, cut, up'):
        shape, steps = SIZES[name]
        assert_same(scene(channels, shape, noise), steps)


@pytest.mark.parametrize('channels', [12, 54])
def test_equal_logits_go_to_the_first_channel(channels):
    shape, steps = SIZES['x4, cut, up']
    assert_same(torch.zeros(channels, *shape), steps)
    assert_same(torch.full((channels, *shape), -3.7), steps)
    # many ties, of two channels that are the same, and of rounded values
    logits = scene(channels, shape)
    logits[7] = logits[2]
    assert_same(logits, steps)
    assert_same(logits.round(), steps)
    assert_same((logits > 3).float(), steps)


@pytest.mark.parametrize('scale', [1e-42, 1e-38, 1e-20, 1e20, 1e38])
def test_any_scale(scale):
    shape, steps = SIZES['x4, cut, up']
    assert_same(scene(12, shape) * scale, steps)


@pytest.mark.parametrize('channels', [12, 54])
def test_leads_as_small_as_rounding(channels):
    """Neighbours differ by a few units in the last place of large values."""
    shape, steps = SIZES['x4, cut, up']
    generator = torch.Generator().manual_seed(0)
    steps_up = torch.randint(
        0, 4, (channels, *shape), generator=generator).float()
    assert_same(1000 + steps_up * 2**-13, steps)
    assert_same(1000 + steps_up * 2**-13 + scene(channels, shape), steps)


@pytest.mark.parametrize(
    'value', [float('nan'), float('inf'), -float('inf'), 3e38])
def test_not_finite(value):
    shape, steps = SIZES['x4, cut, up']
    logits = scene(12, shape)
    logits[3, 5:9, 20] = logits[8, 7, 20:24] = value
    assert_same(logits, steps)
    logits[:] = value
    assert_same(logits, steps)


def test_a_very_low_channel_is_no_obstacle():
    """As where somebody masks a class."""
    shape, steps = SIZES['x4, cut, down']
    for channels in (12, 54):
        logits = scene(channels, shape)
        logits[2] = -1e9
        logits[5, ::2] = -1e9
        assert_same(logits, steps)


@pytest.mark.parametrize('elements', [1, 1000])
def test_pieces_of_any_size(monkeypatch, elements):
    monkeypatch.setattr(fast, 'ELEMENTS', elements)
    steps = [((40, 120), (37, 120))]
    for channels in (12, 54):
        assert_same(scene(channels, (10, 30)), steps)


def test_threads_do_not_matter():
    shape, steps = SIZES['x4, cut, up']
    logits, threads = scene(54, (120, 160)), torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            assert_same(logits, [((480, 640), (480, 640))])
    finally:
        torch.set_num_threads(threads)


def head(**kwargs):
    torch.manual_seed(0)
    result = SemanticFPNHead(
        num_things_classes=3,
        num_stuff_classes=30,
        in_channels=[32] * 4,
        channels=32,
        **kwargs)
    result.init_weights()
    return result


def features(dtype=torch.float32, layout=torch.contiguous_format):
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(2, 32, 160 // s, 224 //
                    s, generator=generator).to(dtype, memory_format=layout)
        for s in (4, 8, 16, 32))


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


@pytest.mark.parametrize('rescale', [True, False])
@pytest.mark.parametrize('layout',
                         [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_channels_are_argmax_of_logits(dtype, layout, rescale):
    model = head().to(dtype, memory_format=layout)
    feats = features(dtype, layout)
    expected = [
        logits.argmax(0) for logits in model.predict(feats, METAS, rescale)
    ]
    found = model.predict_channels(feats, METAS, rescale)
    assert len(found) == 2
    for channels, reference in zip(found, expected):
        assert torch.equal(channels, reference)
        assert len(reference.unique()) > 3


def test_balance_of_classes_is_respected():
    model, feats = head(), features()
    before = model.predict_channels(feats, METAS)
    model.log_prior = torch.linspace(-3, 3, 31)
    after = model.predict_channels(feats, METAS)
    expected = [logits.argmax(0) for logits in model.predict(feats, METAS)]
    for old, new, reference in zip(before, after, expected):
        assert torch.equal(new, reference) and not torch.equal(new, old)


def test_aligned_corners_are_respected():
    model, feats = head(align_corners=True), features()
    expected = [logits.argmax(0) for logits in model.predict(feats, METAS)]
    for new, old in zip(model.predict_channels(feats, METAS), expected):
        assert torch.equal(new, old)


@pytest.mark.parametrize('channels', [4, 12, 54, 300])
def test_logits_of_all_pixels_are_never_held(monkeypatch, channels):
    """Else every comparison above would compare the same code."""

    def fail(*args):
        raise AssertionError('all pixels are interpolated')

    monkeypatch.setattr(fast, 'resize', fail)
    regular = [name for name in SIZES if name.startswith('x4')]
    for name in regular + ['not by an integer', 'down, then up']:
        shape, steps = SIZES[name]
        assert_same(scene(channels, shape), steps, shares=[2])
