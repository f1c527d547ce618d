"""The semantic loss at full resolution, and the channel of every pixel,
against the resized logits in memory."""
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from panoptic_fpn.models.semantic_loss import semantic_cross_entropy
from panoptic_fpn.ops import tiled_cross_entropy
from panoptic_fpn.ops import upsampled_argmax as fast
from panoptic_fpn.ops.upsampled_argmax import upsampled_argmax
from tests.oracles.semantic_loss import full_resolution_cross_entropy

from . import strategies


@st.composite
def losses(draw):
    """Logits, target with void, and how many logits are upsampled at once."""
    logits = torch.from_numpy(draw(strategies.semantic_logits()))
    size = draw(strategies.shapes(40))
    classes = logits.shape[1]
    void = draw(st.sampled_from([0, 1, 3, 30]))
    target = [
        draw(strategies.channel_maps(size, classes + void)) for _ in logits
    ]
    target = torch.from_numpy(np.array(target))
    # any negative number is void
    target = target.where(target < classes, draw(st.sampled_from([-1, -100])))
    kind = draw(st.sampled_from([torch.int64, torch.int32, torch.int16]))
    elements, align_corners = draw(st.integers(1, 5000)), draw(st.booleans())
    return logits, target.to(kind), elements, align_corners


def loss_and_gradient(function, logits, *args):
    logits = logits.clone().requires_grad_()
    loss = function(logits, *args)
    loss.backward()
    return loss.detach(), logits.grad


@given(losses(), st.sampled_from([torch.float32, torch.float64]))
def test_loss_and_gradient_are_those_of_upsampled_logits(case, dtype):
    logits, target, elements, align_corners = case
    expected, gradient = loss_and_gradient(full_resolution_cross_entropy,
                                           logits.double(), target,
                                           align_corners)
    with mock.patch.object(tiled_cross_entropy, 'CPU_TILE_ELEMENTS', elements):
        loss, found = loss_and_gradient(semantic_cross_entropy,
                                        logits.to(dtype), target,
                                        align_corners)
        with torch.no_grad():
            again = semantic_cross_entropy(
                logits.to(dtype), target, align_corners)
    assert loss.dtype == found.dtype == dtype and loss == again
    # what rounding does to logits, and to a sum of as many terms as pixels
    error = torch.finfo(dtype).eps * (16 + target.numel()) * (
        1 + logits.abs().max().double())
    assert (loss - expected).abs() <= error
    assert (found - gradient).abs().max() <= error
    # the sum of the softmax is 1: nothing flows into all channels together
    assert found.sum(dim=1).abs().max() <= error
    if not (target >= 0).any():
        assert loss == 0 and not found.any()


@st.composite
def upsamplings(draw):
    """Logits (K, h, w), and one or two steps of resizing and cropping."""
    channels = draw(st.integers(1, 24))
    shape = draw(strategies.shapes(24))
    rng = np.random.default_rng(draw(strategies.SEEDS))
    kind = draw(
        st.sampled_from(
            ['noise', 'areas', 'tied', 'near', 'lead', 'constant', 'one']))
    logits = rng.normal(0, 3, (channels, *shape))
    if kind == 'areas':
        winner = draw(strategies.channel_maps(shape, channels))
        logits += 20 * (np.arange(channels)[:, None, None] == winner)
    elif kind == 'tied':
        logits = rng.integers(-1, 2, logits.shape)
    elif kind == 'near':  # leads as small as rounding
        logits = logits[:1] * (1 + rng.integers(-3, 4, logits.shape) * 2.**-24)
    elif kind == 'lead':  # everywhere the same
        lead = rng.integers(-2, 3, (channels, 1, 1)) * 2.**-23
        logits = logits[:1] * (1 + lead)
    elif kind == 'constant':
        logits = np.zeros_like(logits)
    elif kind == 'one' and draw(st.booleans()):
        logits[0] = draw(st.sampled_from([1e30, -1e30, 1e-40, np.inf]))
    sides = st.integers(1, 130)
    steps = []
    for _ in range(draw(st.integers(1, 2))):
        size = draw(st.tuples(sides, sides))
        crop = size if draw(st.booleans()) else tuple(
            draw(st.integers(1, side)) for side in size)
        steps.append((size, crop))
    logits = torch.from_numpy(logits.astype(np.float32))
    return logits, steps, draw(st.booleans())


@given(upsamplings(), st.sampled_from([2, fast.MANY, -1]),
       st.sampled_from([fast.DENSE_ELEMENTS, 10_000]))
def test_channels_are_the_argmax_of_upsampled_logits(case, share, elements):
    """However many pixels are interpolated, and channels at once."""
    logits, steps, align_corners = case
    full = logits
    for size, (height, width) in steps:
        full = F.interpolate(
            full[None], size, mode='bilinear',
            align_corners=align_corners)[0][:, :height, :width]
    with mock.patch.multiple(fast, MANY=share, DENSE_ELEMENTS=elements):
        channels = upsampled_argmax(logits, steps, align_corners)
    assert channels.dtype == torch.int64
    assert torch.equal(channels, full.argmax(dim=0))
