"""Cross-entropy of upsampled logits, a part of a batch at a time.

In    logits    (N, C, h, w), float32 or float64
      target    (N, H, W), integers; channel of each pixel, negative where void
Out   scalar: mean over the labelled pixels of the batch

The upsampled logits of the batch never exist, only those of a part. The loss
is a scalar, so the part's share of the gradient is known up to one factor
while it is at hand: only a gradient of the size of the logits is kept.

On a CPU a part is a tile, which stays in the cache. Bilinear interpolation is
linear in each axis: the upsampled map of a channel is ``up_y @ map @ up_x.T``,
and a tile of it needs few rows and columns of the logits. Products obey
torch's float32 precision: TF32 on a GPU, if allowed.

Elsewhere tiles cost more launches of kernels than time in them, so a part is
an image, or some small ones, and torch interpolates. The backward pass of its
interpolation adds in any order, so deterministic runs take tiles there, too.
"""
from functools import lru_cache
from math import isqrt
from typing import Any, List, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Upsampled logits in one tile, over all channels, for each thread of a CPU: a
# thread's share should stay in the cache of its core. Of 2**15 to 2**22,
# 2**17 to 2**19 took least time with 19, 54 and 133 channels.
CPU_TILE_ELEMENTS = 2**18
# Elsewhere launching a kernel costs more than missing a cache. 16 MB in
# float32; a guess, no GPU was at hand.
GPU_TILE_ELEMENTS = 2**22
# Upsampled logits up to which images are taken together: 256 MB in float32, an
# image of COCO or 6 crops of Cityscapes.
GPU_ELEMENTS = 2**26

# Pixels of the output and of the input along an axis, and the matrix from the
# latter to the former.
Piece = Tuple[slice, slice, Tensor]


def tiled_cross_entropy(logits: Tensor,
                        target: Tensor,
                        align_corners: bool = False) -> Tensor:
    """Loss of a batch; its plain twin is in ``models.semantic_loss``.

    A logit that is not finite makes the loss so, even where all pixels around
    it are void: the gradient would not be finite there either.

    Raises:
        RuntimeError: In backward, if a second derivative is prepared.
    """
    return _SemanticCrossEntropy.apply(logits, target, align_corners)


class _SemanticCrossEntropy(torch.autograd.Function):
    """The loss, with the gradient found on the way."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor,
                align_corners: bool) -> Tensor:
        labelled = target >= 0
        # clamp: an all-void batch gives 0 / 1, not 0 / 0
        count = labelled.sum().clamp(min=1)
        scale = count.to(logits.dtype).reciprocal()
        of_batch = _of_tiles if _uses_tiles(logits) else _of_images
        loss, gradient = of_batch(logits,
                                  target.long().clamp(min=0), labelled, scale,
                                  align_corners)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tuple[Tensor, None, None]:
        # once_differentiable lets a penalty on the gradient vanish silently
        if torch.is_grad_enabled():
            raise RuntimeError('The semantic loss has no second derivative: '
                               'create_graph must be False.')
        gradient, = ctx.saved_tensors
        return gradient * grad_output, None, None


def _uses_tiles(logits: Tensor) -> bool:
    # inference mode has no gradients, not even these
    return (logits.device.type == 'cpu' or torch.is_inference_mode_enabled()
            or torch.are_deterministic_algorithms_enabled())


def _of_images(logits: Tensor, target: Tensor, labelled: Tensor, scale: Tensor,
               align_corners: bool) -> Tuple[Tensor, Tensor]:
    """Loss and gradient; ``target`` is int64 and not negative, ``scale`` the
    weight of a labelled pixel."""
    # as for tiles, where 0 * inf is NaN
    largest = torch.linalg.vector_norm(logits, torch.inf)
    scale = torch.add(scale, largest, alpha=0)
    loss = logits.new_zeros(())
    gradient = torch.empty_like(logits)
    size = GPU_ELEMENTS // max(logits.shape[1] * target[:1].numel(), 1)
    # log_softmax would copy upsampled logits whose channels are last
    batch = (logits.contiguous(), target, labelled, gradient)
    for part, truth, mask, result in zip(*(t.split(max(size, 1))
                                           for t in batch)):
        log_likelihood, derivative = _of_part(part, truth, mask, align_corners)
        loss -= log_likelihood
        result.copy_(derivative)
    return loss.mul_(scale), gradient.mul_(scale)


# A function: what it holds is freed before the next part.
def _of_part(logits: Tensor, target: Tensor, labelled: Tensor,
             align_corners: bool) -> Tuple[Tensor, Tensor]:
    with torch.enable_grad():
        logits = logits.detach().requires_grad_()
        upsampled = F.interpolate(
            logits,
            target.shape[1:],
            mode='bilinear',
            align_corners=align_corners)
    log_likelihood, derivative = _of_pixels(upsampled.detach(), target,
                                            labelled)
    return log_likelihood, *torch.autograd.grad(upsampled, logits, derivative)


def _of_tiles(logits: Tensor, target: Tensor, labelled: Tensor, scale: Tensor,
              align_corners: bool) -> Tuple[Tensor, Tensor]:
    """Same as :func:`_of_images`."""
    setting = (align_corners, _tile_side(logits), logits.dtype, logits.device)
    rows = _pieces(logits.shape[2], target.shape[1], *setting)
    columns = _pieces(logits.shape[3], target.shape[2], *setting)
    loss = logits.new_zeros(())
    gradient = torch.zeros_like(logits)
    for n, image in enumerate(logits):
        for y, source_y, up_y in rows:
            for x, source_x, up_x in columns:
                # (h, C, w): each axis is then upsampled by one product
                source = image[:, source_y, source_x].transpose(0, 1)
                log_likelihood, tile = _of_pixels(
                    _upsample(source, up_y, up_x), target[n, y, x],
                    labelled[n, y, x] * scale)
                loss -= log_likelihood
                back = _upsample(tile, up_y.T, up_x.T)
                gradient[n, :, source_y, source_x] += back.transpose(0, 1)
    return loss, gradient


def _tile_side(logits: Tensor) -> int:
    """Height and width of a tile in pixels of the output."""
    elements = GPU_TILE_ELEMENTS
    if logits.device.type == 'cpu':
        elements = CPU_TILE_ELEMENTS * torch.get_num_threads()
    side = max(isqrt(elements // logits.shape[1]), 1)
    # whole vector registers: 10 % faster
    return side - side % 16 if side > 16 else side


# Kept, because copying them makes a GPU wait: those of one crop size, or of a
# few sizes of a data set of photographs.
@lru_cache(maxsize=16)
def _pieces(inputs: int, size: int, align_corners: bool, length: int,
            dtype: torch.dtype, device: torch.device) -> List[Piece]:
    """Linear interpolation of ``inputs`` to ``size`` pixels along an axis as
    matrices, in pieces of ``length`` pixels of the output."""
    # interpolated unit vectors have torch's own rule for borders and rounding;
    # on the CPU: the bounds below are Python integers
    units = torch.eye(inputs, dtype=dtype, device='cpu')
    matrix = F.interpolate(
        units[None], size, mode='linear', align_corners=align_corners)[0].T
    device_matrix = matrix.to(device)
    pieces = []
    for start in range(0, size, length):
        out = slice(start, start + length)
        used = matrix[out].any(0).nonzero()
        source = slice(int(used[0]), int(used[-1]) + 1)
        pieces.append((out, source, device_matrix[out, source]))
    return pieces


def _upsample(source: Tensor, up_y: Tensor, up_x: Tensor) -> Tensor:
    """(h, C, w) to (s, C, t) with matrices (s, h) and (t, w)."""
    height, channels, width = source.shape
    wide = source.reshape(-1, width) @ up_x.T
    tall = up_y @ wide.view(height, -1)
    return tall.view(len(up_y), channels, -1)


def _of_pixels(logits: Tensor, target: Tensor,
               weight: Tensor) -> Tuple[Tensor, Tensor]:
    """Log-likelihood of the target and the derivative of its negative.

    Args:
        logits (Tensor): (n, C, ...).
        target (Tensor): (n, ...), int64, not negative.
        weight (Tensor): (n, ...), 0 where void.
    """
    weight, index = weight[:, None], target[:, None]
    log_softmax = F.log_softmax(logits, 1)
    at_target = log_softmax.gather(1, index)
    log_likelihood = (at_target * weight).sum()
    # softmax - 1 at the target, without the cancellation
    derivative = log_softmax.exp_().scatter_(1, index, at_target.expm1())
    return log_likelihood, derivative.mul_(weight)
