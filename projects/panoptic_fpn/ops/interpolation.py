"""Bilinear interpolation of whole images, and of some pixels as torch does it.

In    logits  (K, h, w), steps of resizing and cropping, see ``Step``
Out   (K, H, W), or (n, P) of P pixels

Torch interpolates along x, then along y, in float32. :func:`interpolate` does
the same operations in the same order, so on a CPU it gives the same bits.
"""
from typing import List, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Of height + width of a step: up to it torch interpolates in another order.
SMALL = 128

#: Resized to this (h, w), then cropped to that (h, w).
Step = Tuple[Tuple[int, int], Tuple[int, int]]


class Axis(NamedTuple):
    """Linear interpolation along an axis; each (pixels of the output, )."""

    low: Tensor
    high: Tensor
    low_weight: Tensor
    high_weight: Tensor


#: Along y and x, for each step that changes the size.
Axes = List[Tuple[Axis, Axis]]


def resize(logits: Tensor,
           steps: Sequence[Step],
           align_corners: bool = False) -> Tensor:
    """Bilinear interpolation, then a crop at the top left, for each step.

    Args:
        logits (Tensor): (K, h, w).
        steps (Sequence[Step]): One or more.
        align_corners (bool): Of the interpolation.

    Returns:
        Tensor: (K, H, W).
    """
    for size, (height, width) in steps:
        logits = F.interpolate(
            logits[None],
            size=size,
            mode='bilinear',
            align_corners=align_corners)[0, :, :height, :width]
    return logits


def is_special(logits: Tensor, steps: Sequence[Step]) -> bool:
    """Whether torch's kernel is another one, or a logit is not finite.

    It takes others for three channels, for small images and for one pixel.
    """
    if (len(logits) < 4 or logits[0].numel() == 1
            or any(sum(size) <= SMALL for size, _ in steps)):
        return True
    low, high = torch.aminmax(logits)
    # products with the largest floats are not finite; NaN is not less
    return not (-2.0**120 < low.item() and high.item() < 2.0**120)


def axes_of(logits: Tensor, steps: Sequence[Step],
            align_corners: bool) -> Axes:
    """Interpolation along y and x of each step that changes the size."""
    axes, shape = [], tuple(logits.shape[1:])
    for size, crop in steps:
        if (size, crop) != (shape, shape):
            along_y, along_x = (
                _axis(*sides, align_corners, logits.device)
                for sides in zip(shape, size, crop))
            axes.append((along_y, along_x))
        shape = tuple(map(min, size, crop))
    return axes


def _axis(inputs: int, size: int, crop: int, align_corners: bool,
          device: torch.device) -> Axis:
    """As torch's kernel finds indices and weights, in float32.

    Args:
        inputs (int): Of the input, pixels.
        size (int): Of the output, pixels.
        crop (int): How many of the output are wanted, the first ones.
        align_corners (bool): Of the interpolation.
        device (torch.device): Of the result.
    """
    # on the CPU: processors of graphics round otherwise
    output = torch.arange(min(crop, size), dtype=torch.float32)
    if align_corners:
        centre = output * (torch.tensor(inputs - 1.) / max(size - 1, 1))
    else:
        scale = torch.tensor(float(inputs)) / size
        # fused or not as in the kernel: both are compiled for one processor
        centre = torch.addcmul(torch.tensor(-0.5), output + 0.5, scale)
        centre = centre.clamp(min=0)
    low = centre.long().clamp(max=inputs - 1)
    weight = (centre - low).clamp(0, 1)
    high = (low + 1).clamp(max=inputs - 1)
    return Axis(*(t.to(device) for t in (low, high, 1 - weight, weight)))


def interpolate(logits: Tensor,
                axes: Axes,
                y: Tensor,
                x: Tensor,
                candidates: Optional[Tensor] = None) -> Tensor:
    """Resized logits of some pixels.

    Args:
        logits (Tensor): (K, h, w).
        axes (Axes): Of each step.
        y, x (Tensor): (P, ), pixels after the last step.
        candidates (Tensor, optional): (n, P): channels of each pixel. None:
            all K.

    Returns:
        Tensor: (n, P).
    """
    if not axes:
        index = y * logits.shape[2] + x
        if candidates is None:
            return logits.flatten(1).index_select(1, index)
        index = candidates * logits[0].numel() + index
        return take(logits.view(-1), index)
    *before, (rows, columns) = axes
    left, right, left_weight, right_weight = (take(t, x) for t in columns)

    def along_x(y: Tensor) -> Tensor:
        first = interpolate(logits, before, y, left, candidates)
        second = interpolate(logits, before, y, right, candidates)
        return second.mul_(right_weight).addcmul_(first, left_weight)

    low, high, low_weight, high_weight = (take(t, y) for t in rows)
    lower = along_x(high).mul_(high_weight)
    return lower.addcmul_(along_x(low), low_weight)


def take(values: Tensor, index: Tensor) -> Tensor:
    """``values[index]`` of (n, ), five times as fast on a CPU."""
    return values.index_select(0, index.view(-1)).view_as(index)
