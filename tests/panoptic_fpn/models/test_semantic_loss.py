"""The semantic loss in parts against the plain one at full resolution."""
import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import semantic_loss as benchmark
from panoptic_fpn.models.semantic_loss import semantic_cross_entropy
from panoptic_fpn.ops import FAST_OPS, tiled_cross_entropy
from tests.oracles.semantic_loss import full_resolution_cross_entropy


@pytest.fixture(params=['tiles', 'images'], autouse=True)
def parts(request, monkeypatch):
    """What a batch is taken apart into: as on a CPU, as elsewhere."""
    monkeypatch.setattr(tiled_cross_entropy, '_uses_tiles',
                        lambda logits: request.param == 'tiles')
    return request.param


@pytest.fixture
def tile(monkeypatch):
    """Sets the elements of a tile on the CPU, and of images elsewhere."""
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 1)

    def set_elements(elements):
        for name in ('CPU_TILE_ELEMENTS', 'GPU_ELEMENTS'):
            monkeypatch.setattr(tiled_cross_entropy, name, elements)

    return set_elements


def case(n, c, h, w, height, width, dtype=torch.float32, seed=0):
    """Random logits, some far apart, and a target with a quarter void."""
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(n, c, h, w, generator=generator)
    target = torch.randint(c, (n, height, width), generator=generator)
    void = torch.rand(n, height, width, generator=generator) < 0.25
    return logits.to(dtype), target.where(~void, -1)


def loss_and_gradient(function, logits, target, *args, scale=1):
    logits = logits.detach().clone().requires_grad_()
    loss = function(logits, target, *args)
    (scale * loss).backward()
    return loss.detach(), logits.grad


def assert_same(logits, target, *args, tolerance=1e-5, **kwargs):
    """Loss and gradient of both, relative to the largest gradient."""
    loss, gradient = loss_and_gradient(semantic_cross_entropy, logits, target,
                                       *args, **kwargs)
    expected, plain = loss_and_gradient(full_resolution_cross_entropy, logits,
                                        target, *args, **kwargs)
    assert loss.dtype == expected.dtype and gradient.dtype == logits.dtype
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    largest = plain.abs().max().item()
    assert (gradient - plain).abs().max().item() <= tolerance * largest


SHAPES = [
    (2, 19, 8, 16, 32, 64),
    (1, 54, 13, 21, 50, 84),
    # no multiples, primes, both less and more than twice
    (1, 3, 7, 5, 23, 31),
    (3, 2, 13, 11, 17, 53),
    # same size, smaller, one axis smaller
    (1, 4, 9, 6, 9, 6),
    (1, 4, 30, 41, 11, 7),
    (2, 5, 30, 4, 7, 29),
    # one pixel, line, channel
    (1, 3, 1, 1, 8, 5),
    (1, 3, 1, 9, 1, 33),
    (1, 3, 6, 7, 1, 1),
    (2, 1, 3, 4, 12, 16),
    (3, 200, 1, 1, 1, 1),
    (2, 200, 6, 5, 24, 20),
]


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('shape', SHAPES)
def test_equals_the_plain_loss(tile, shape, align_corners):
    for side in (2, 5, 16, 17, 512):
        tile(shape[1] * side * side)
        assert_same(*case(*shape), align_corners)


def test_the_switch_runs_the_plain_loss(monkeypatch):
    monkeypatch.setenv(FAST_OPS, '0')
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        logits, target = case(2, 5, 12, 9, 31, 62, dtype)
        target = target.where(target >= 0, -100)
        found, plain = (
            loss_and_gradient(function, logits, target)
            for function in (semantic_cross_entropy,
                             full_resolution_cross_entropy))
        assert found[0] == plain[0] and torch.equal(found[1], plain[1])


def test_equals_a_loop_over_pixels():
    """Void is left out of the mean; float64."""
    logits, target = case(2, 4, 3, 5, 12, 20)
    big = torch.nn.functional.interpolate(
        logits.double(), scale_factor=4, mode='bilinear').numpy()
    total = []
    for n, y, x in np.argwhere(target.numpy() >= 0):
        pixel = big[n, :, y, x]
        total.append(np.log(np.exp(pixel).sum()) - pixel[target[n, y, x]])
    loss = semantic_cross_entropy(logits, target)
    assert loss.item() == pytest.approx(np.mean(total), rel=1e-5)


@pytest.mark.parametrize('align_corners', [False, True])
def test_gradcheck(tile, align_corners):
    tile(3 * 16)
    logits, target = case(2, 3, 3, 4, 10, 13, torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: semantic_cross_entropy(x, target, align_corners),
        logits.requires_grad_())


@pytest.mark.parametrize('dtype, precision', [(torch.bfloat16, 2**-8),
                                              (torch.float16, 2**-11)])
def test_half_precision_is_only_that_of_the_input(dtype, precision):
    """The gradients are rounded once, at the end."""
    logits, target = case(2, 19, 16, 32, 64, 128, dtype)
    # a scale as GradScaler's: without it the float16 gradients vanish
    assert_same(logits, target, scale=2**12, tolerance=precision)
    assert semantic_cross_entropy(logits, target).dtype == torch.float32


@pytest.mark.parametrize('dtype', [torch.int8, torch.int32, torch.uint8])
def test_integers_of_any_size(dtype):
    logits, target = case(2, 19, 8, 8, 32, 32)
    if dtype == torch.uint8:
        target = target.clamp(min=0)
    expected = semantic_cross_entropy(logits, target)
    assert semantic_cross_entropy(logits, target.to(dtype)) == expected


@pytest.mark.parametrize('layout', [
    lambda x: x.to(memory_format=torch.channels_last),
    lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    lambda x: x[:1].expand(2, -1, -1, -1),
    lambda x: x[:, :, ::2, 1:],
])
def test_layouts(tile, layout):
    """Strided logits and targets; the gradient reaches the original."""
    tile(5 * 10**2)
    logits, target = case(2, 5, 12, 9, 31, 62)
    assert not layout(logits).is_contiguous()
    found, plain = (
        loss_and_gradient(lambda x, t: function(layout(x), t), logits,
                          target[:, :, ::2])
        for function in (semantic_cross_entropy,
                         full_resolution_cross_entropy))
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-7)


def test_the_gradient_is_laid_out_as_the_logits():
    """Else convolutions whose channels are last would copy it."""
    logits, target = case(2, 5, 12, 9, 31, 62)
    logits = logits.to(memory_format=torch.channels_last).requires_grad_()
    gradient, = torch.autograd.grad(
        semantic_cross_entropy(logits, target), logits)
    assert gradient.stride() == logits.stride()


def test_no_labelled_pixel():
    for value in (-1, -100):
        logits, target = case(2, 5, 3, 4, 12, 16)
        loss, gradient = loss_and_gradient(semantic_cross_entropy, logits,
                                           torch.full_like(target, value))
        assert loss == 0 and (gradient == 0).all()


def test_one_labelled_pixel(tile):
    """Worked out by hand: four logits, weights of 1/8 and 7/8."""
    tile(2 * 4**2)
    logits = torch.randn(1, 2, 3, 3)
    target = torch.full((1, 12, 12), -1)
    target[0, 5, 6] = 1
    # centres: row 5 is at 5.5 / 4 - 0.5 = 0.875, column 6 at 1.125
    weights = torch.zeros(3, 3)
    weights[:2, 1:] = torch.tensor([[1 / 8], [7 / 8]]) * torch.tensor(
        [[7 / 8, 1 / 8]])
    pixel = (logits[0] * weights).sum((1, 2))
    loss, gradient = loss_and_gradient(semantic_cross_entropy, logits, target)
    assert loss.item() == pytest.approx(
        math.log(1 + math.exp(pixel[0] - pixel[1])), rel=1e-5)
    share = torch.sigmoid(pixel[0] - pixel[1])
    torch.testing.assert_close(
        gradient[0],
        torch.stack([share, -share])[:, None, None] * weights)
    assert_same(logits, target)


def test_large_margins_do_not_overflow():
    """Softmax without a maximum taken off would be 0 / 0 or inf / inf."""
    logits, target = case(2, 5, 8, 8, 32, 32)
    assert_same(1000 * logits, target)


@pytest.mark.parametrize('scale', [-3., 1e-4, 65536.])
def test_gradient_follows_the_loss_weight(scale):
    """As with lambda_s, accumulation and GradScaler; autocast and a graph
    that is walked twice change nothing, and inputs are left alone."""
    logits, target = case(1, 5, 8, 8, 32, 32)
    assert_same(logits, target, scale=scale)
    inputs = logits.clone().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        loss = semantic_cross_entropy(inputs, target)
        loss.backward(retain_graph=True)
        (scale * loss).backward()
    assert torch.equal(inputs, logits) and loss.dtype == torch.float32
    expected, once = loss_and_gradient(semantic_cross_entropy, logits, target)
    assert loss == expected
    torch.testing.assert_close(inputs.grad, (1 + scale) * once)


def test_has_no_second_derivative():
    logits, target = case(1, 3, 4, 4, 16, 16)
    loss = semantic_cross_entropy(logits.requires_grad_(), target)
    with pytest.raises(RuntimeError, match='create_graph must be False'):
        torch.autograd.grad(loss, logits, create_graph=True)


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_a_logit_that_is_not_finite_spoils_the_loss(tile, value):
    """NonFiniteLossHook relies on it; under void the gradient is spoilt."""
    tile(5 * 10**2)
    logits, target = case(2, 5, 8, 8, 32, 32)
    target[1, :20] = -1
    for place in ((0, 2, 4, 4), (1, 0, 0, 0), (1, 4, 2, 3)):
        spoilt = logits.clone()
        spoilt[place] = value
        loss, gradient = loss_and_gradient(semantic_cross_entropy, spoilt,
                                           target)
        assert not loss.isfinite() and not gradient.isfinite().all()
        with torch.no_grad():
            assert not semantic_cross_entropy(spoilt, target).isfinite()


class LargestTensor(TorchDispatchMode):
    """Elements of the largest memory that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                size = tensor.untyped_storage().nbytes()
                self.elements = max(self.elements, size // tensor.itemsize)
        return result


def largest_of(function, logits, target):
    with LargestTensor() as mode:
        loss_and_gradient(function, logits, target)
    return mode.elements


@pytest.mark.parametrize('parts', ['tiles'], indirect=True)
def test_no_tensor_is_larger_than_a_tile_or_the_logits(tile):
    logits, target = case(2, 7, 32, 48, 128, 192)
    full = 7 * target.numel()
    # that this measures at all
    assert largest_of(full_resolution_cross_entropy, logits, target) == full
    for side in (16, 48, 64):
        tile(7 * side**2)
        bound = max(7 * side**2, logits.numel(), target.numel())
        found = largest_of(semantic_cross_entropy, logits, target)
        assert found <= bound < full / 6


@pytest.mark.parametrize('parts', ['images'], indirect=True)
@pytest.mark.parametrize('most, together', [(0, 1), (1, 1), (1.9, 1), (2, 2),
                                            (4, 3)])
def test_as_many_images_at_once_as_are_allowed(tile, most, together):
    logits, target = case(3, 7, 32, 48, 128, 192)
    image = 7 * target[0].numel()
    tile(int(most * image))
    found = largest_of(semantic_cross_entropy, logits, target)
    assert found == together * image


def test_what_is_kept_for_backward_has_the_size_of_the_logits():
    kept = []

    def pack(tensor):
        kept.append(tensor.numel())
        return tensor

    logits, target = case(2, 7, 32, 48, 128, 192)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        semantic_cross_entropy(logits.requires_grad_(), target)
    assert kept == [logits.numel()]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_gpu_gives_the_same(monkeypatch):
    for name in ('GPU_TILE_ELEMENTS', 'GPU_ELEMENTS'):
        monkeypatch.setattr(tiled_cross_entropy, name, 19 * 48**2)
    logits, target = case(2, 19, 32, 64, 128, 256)
    loss, gradient = loss_and_gradient(semantic_cross_entropy, logits.cuda(),
                                       target.cuda())
    expected, plain = loss_and_gradient(full_resolution_cross_entropy, logits,
                                        target)
    torch.testing.assert_close(loss.cpu(), expected, rtol=1e-5, atol=0)
    assert (gradient.cpu() - plain).abs().max() <= 1e-5 * plain.abs().max()


@pytest.mark.parametrize('parts', ['tiles'], indirect=True)
def test_variants_of_the_benchmark_agree():
    case = dict(shape=(1, 3, 64, 96), device='cpu')
    found = benchmark.timings(case, 1)
    assert len(found) == 3
    for seconds, difference in found.values():
        assert min(seconds) > 0 and difference <= benchmark.TOLERANCE
