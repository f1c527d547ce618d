"""Cross-entropy of upsampled logits without the upsampled logits.

In    logits    (N, C, h, w), float32 or float64
      target    (N, H, W), integers; channel of each pixel, negative where void
Out   scalar: mean over the labelled pixels of the batch

Bilinear interpolation is linear in each axis: the upsampled map of a channel
is ``up_y @ map @ up_x.T``, and a tile of it needs few rows and columns of the
logits. The loss is a scalar, so a tile's share of the gradient is known up to
one factor while the tile is at hand: only a gradient of the size of the logits
is kept. Products obey torch's float32 precision: TF32 on a GPU, if allowed.
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
        setting = (align_corners, _tile_side(logits), logits.dtype,
                   logits.device)
        rows = _pieces(logits.shape[2], target.shape[1], *setting)
        columns = _pieces(logits.shape[3], target.shape[2], *setting)
        # clamp: an all-void batch gives 0 / 1, not 0 / 0
        labelled = (target >= 0).sum().clamp(min=1)
        scale = labelled.to(logits.dtype).reciprocal()
        loss = logits.new_zeros(())
        gradient = torch.zeros_like(logits)
        for n, image in enumerate(logits):
            for y, source_y, up_y in rows:
                for x, source_x, up_x in columns:
                    # (h, C, w): each axis is then upsampled by one product
                    source = image[:, source_y, source_x].transpose(0, 1)
                    tile_loss, tile = _tile_loss(
                        _upsample(source, up_y, up_x), target[n, y, x], scale)
                    loss += tile_loss
                    back = _upsample(tile, up_y.T, up_x.T)
                    gradient[n, :, source_y, source_x] += back.transpose(0, 1)
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


def _tile_loss(tile: Tensor, target: Tensor,
               scale: Tensor) -> Tuple[Tensor, Tensor]:
    """Cross-entropy of logits (s, C, t) and its derivative; ``scale`` is the
    weight of a labelled pixel."""
    target = target.long()[:, None]
    weight = (target >= 0) * scale
    index = target.clamp(min=0)
    tile = F.log_softmax(tile, 1)
    at_target = tile.gather(1, index)
    loss = -(at_target * weight).sum()
    # softmax - 1 at the target, without the cancellation
    tile = tile.exp_().mul_(weight)
    return loss, tile.scatter_(1, index, at_target.expm1() * weight)
