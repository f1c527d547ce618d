"""Channel of each pixel at image resolution, from logits at stride 4.

In    logits    (K, h, w), float32; steps of resizing and cropping, ``Step``
Out   channels  (H, W) int64, as ``resize(logits, steps).argmax(0)`` gives it

On a CPU the upsampled logits (K, H, W) never exist. A pixel of bilinear
interpolation is a mean of few logits, and rounding keeps order:

- where one channel leads at all pixels that a mean is taken of, it leads in
  the mean. That decides most pixels of a segmentation, at stride 4;
- where a channel's largest logit is below the smallest of another, it cannot
  lead in the mean. That leaves two or three channels along boundaries.

Only these are interpolated: torch interpolates along x, then along y, in
float32, and :func:`interpolate` does the same operations in the same order, so
it gives the same bits. Elsewhere three kernels resize all and find the best,
unless they would not fit.

Below, y and x (P, ) are pixels after the last step.
"""
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import use_fast

#: The size (h, w) to resize to, and the size to crop the result to.
Step = Tuple[Tuple[int, int], Tuple[int, int]]

# Height + width of a step up to which torch interpolates in another order.
SMALL = 128
# Logits that are interpolated at once. Torch leaves up to this many to one
# thread, and they stay in its cache: waiting for a second one costs more where
# cores are busy, and gathering is done by one anyway.
ELEMENTS = 2**15
# What rounding may add to a mean, relative: two steps round 8 times, each by
# 2**-24 at most. And absolute, for logits so small that it is not relative.
SLACK, TINY = 2.0**-17, 2.0**-100
# Share of undecided pixels from which on all are interpolated, the resized
# logits that exist at once (32 MB, which malloc keeps), and the least number
# of channels for torch's kernel for many: that for fewer rounds otherwise.
MANY = 0.5
DENSE_ELEMENTS = 2**23
MIN_CHANNELS = 4
# The same off the CPU: 1 GB, twice that in two steps.
GPU_ELEMENTS = 2**28
# Windows with more channels are interpolated over all.
MAX_CANDIDATES = 16


def resize(logits: Tensor,
           steps: Sequence[Step],
           align_corners: bool = False) -> Tensor:
    """Bilinear interpolation of (K, h, w) to (K, H, W), then a crop at the
    top left, for each of one or more steps."""
    for size, (height, width) in steps:
        logits = F.interpolate(
            logits[None],
            size=size,
            mode='bilinear',
            align_corners=align_corners)[0, :, :height, :width]
    return logits


def upsampled_argmax(logits: Tensor,
                     steps: Sequence[Step],
                     align_corners: bool = False) -> Tensor:
    """Channel with the largest resized logit; the first of equal ones.

    Args:
        logits (Tensor): (K, h, w), float32, contiguous.
        steps (Sequence[Step]): See :func:`resize`.
        align_corners (bool): Setting of the interpolation.

    Returns:
        Tensor: int64 (H, W).
    """
    logits = logits.detach()
    steps = [((h, w), (y, x)) for (h, w), (y, x) in steps]
    if not use_fast():
        return resize(logits, steps, align_corners).argmax(dim=0)
    if logits.device.type != 'cpu' or _is_special(logits, steps):
        return _best_resized(logits, steps, align_corners)[1]
    axes = _axes(logits, steps, align_corners)
    sure = _sure_channels(logits, axes)
    channels = sure.flatten().long()
    pixels = _nonzero(sure.flatten() == len(logits))
    if len(pixels) > MANY * len(channels):
        return _best_resized(logits, steps, align_corners, ordinary=True)[1]
    y = torch.div(pixels, sure.shape[1], rounding_mode='floor')
    x = pixels - y * sure.shape[1]
    best = _best_of_few
    if len(logits) <= MAX_CANDIDATES or not axes or not len(pixels):
        best = _best_of_all
    channels[pixels] = best(logits, axes, y, x)
    return channels.view(sure.shape)


def _is_special(logits: Tensor, steps: Sequence[Step]) -> bool:
    """Whether torch uses another kernel, as for three channels, small images
    and one pixel, or a logit is not finite."""
    if (len(logits) < 4 or logits[0].numel() == 1
            or any(sum(size) <= SMALL for size, _ in steps)):
        return True
    low, high = torch.aminmax(logits)
    # products with the largest floats are not finite; NaN is not less
    return not (-2.0**120 < low.item() and high.item() < 2.0**120)


def _best_resized(logits: Tensor,
                  steps: Sequence[Step],
                  align_corners: bool,
                  ordinary: bool = False) -> Tuple[Tensor, Tensor]:
    """Largest resized logit (H, W) and its channel, half the channels at a
    time where all would not fit; ``ordinary``: finite logits on a CPU."""
    pixels = max(height * width for (height, width), _ in steps)
    fitting = (DENSE_ELEMENTS if ordinary else GPU_ELEMENTS) // pixels
    if len(logits) <= max(fitting, 2 * MIN_CHANNELS - 1):
        values = resize(logits, steps, align_corners)
        return _best(values) if ordinary else values.max(dim=0)
    halves = logits.tensor_split(2)
    (one, first), (other, second) = (
        _best_resized(half, steps, align_corners, ordinary) for half in halves)
    # the first of equal ones, and of NaNs
    later = ~((other <= one) | one.isnan())
    channels = torch.where(later, second + len(halves[0]), first)
    return one.maximum(other), channels


# ------------------------------------------------- interpolation of pixels


class Axis(NamedTuple):
    """Linear interpolation along an axis; each (pixels of the output, )."""

    low: Tensor
    high: Tensor
    low_weight: Tensor
    high_weight: Tensor


#: Along y and x, for each step that changes the size.
Axes = List[Tuple[Axis, Axis]]


def _axes(logits: Tensor, steps: Sequence[Step], align_corners: bool) -> Axes:
    axes, shape = [], tuple(logits.shape[1:])
    for size, crop in steps:
        if (size, crop) != (shape, shape):
            along_y, along_x = (
                _axis(*sides, align_corners)
                for sides in zip(shape, size, crop))
            axes.append((along_y, along_x))
        shape = tuple(map(min, size, crop))
    return axes


def _axis(inputs: int, size: int, crop: int, align_corners: bool) -> Axis:
    """From ``inputs`` to the first ``crop`` of ``size`` pixels; indices and
    weights as torch's kernel finds them, in float32."""
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
    return Axis(low, high, 1 - weight, weight)


def interpolate(logits: Tensor,
                axes: Axes,
                y: Tensor,
                x: Tensor,
                candidates: Optional[Tensor] = None) -> Tensor:
    """Resized logits (n, P) of some pixels: of the channels ``candidates``
    (n, P), or of all K."""
    if not axes:
        index = y * logits.shape[2] + x
        if candidates is None:
            return logits.flatten(1).index_select(1, index)
        index = candidates * logits[0].numel() + index
        return _take(logits.view(-1), index)
    *before, (rows, columns) = axes
    left, right, left_weight, right_weight = (_take(t, x) for t in columns)

    def along_x(y: Tensor) -> Tensor:
        first = interpolate(logits, before, y, left, candidates)
        second = interpolate(logits, before, y, right, candidates)
        return second.mul_(right_weight).addcmul_(first, left_weight)

    low, high, low_weight, high_weight = (_take(t, y) for t in rows)
    lower = along_x(high).mul_(high_weight)
    return lower.addcmul_(along_x(low), low_weight)


# ------------------------------------------- which channels, which pixels


def _sure_channels(logits: Tensor, axes: Axes) -> Tensor:
    """Channels that need no interpolation, (H, W); K where not decided."""
    num = len(logits)
    near = _at_least(logits, _below(logits.amax(0)))
    sure = _first(near).masked_fill_(near.sum(0, dtype=torch.int16) > 1, num)
    for rows, columns in axes:
        for dim, axis in ((1, columns), (0, rows)):
            # for a pixel and the next one
            length = sure.shape[dim] - 1
            pair = sure.clone()
            pair.narrow(dim, 0, length).masked_fill_(
                sure.narrow(dim, 0, length) != sure.narrow(dim, 1, length),
                num)
            sure = pair.index_select(dim, axis.low)
    return sure


def _below(values: Tensor) -> Tensor:
    """Bound that stays below ``values`` however both are rounded."""
    return values - (values.abs() * SLACK + TINY)


def _best_of_all(logits: Tensor, axes: Axes, y: Tensor, x: Tensor) -> Tensor:
    """Best channels of some pixels, int64 (P, )."""
    size = max(ELEMENTS // len(logits), 1)
    return torch.cat([
        _best(interpolate(logits, axes, *part))[1]
        for part in zip(y.split(size), x.split(size))
    ])


def _best_of_few(logits: Tensor, axes: Axes, y: Tensor, x: Tensor) -> Tensor:
    """Same as :func:`_best_of_all`, from only the channels that can lead."""
    # windows that hold every logit that a pixel is made of: where they start,
    # by row and column of the pixel, and their (h, w)
    begins, sizes = [], []
    for side, chain in zip(logits.shape[1:], zip(*axes)):
        low = high = torch.arange(side)
        for axis in chain:
            low, high = low[axis.low], high[axis.high]
        begins.append(low)
        sizes.append(int((high - low).max()) + 1)
    start = _take(begins[0], y) * logits.shape[2] + _take(begins[1], x)
    used = torch.zeros(logits[0].numel(), dtype=torch.bool)
    starts = _nonzero(used.index_fill_(0, start, True))
    listed, counts = _list_candidates(logits, starts, sizes)
    # for each pixel: how many, and where the last one stands
    index = torch.searchsorted(starts, start)
    counts, ends = _take(counts, index), _take(counts.cumsum(0) - 1, index)
    channels = torch.empty_like(start)
    least = 0
    for most in (2, 4, 8, MAX_CANDIDATES):
        group = _nonzero((counts > least) & (counts <= most))
        for part in group.split(ELEMENTS // most):
            # where there are fewer, the last one stands repeatedly
            slot = torch.arange(1 - most, 1)[:, None]
            slot = slot.maximum(1 - _take(counts, part))
            candidates = _take(listed, slot + _take(ends, part))
            values = interpolate(logits, axes, _take(y, part), _take(x, part),
                                 candidates)
            best = _best(values)[1]
            channels[part] = candidates.gather(0, best[None])[0]
        least = most
    rest = _nonzero(counts > least)
    channels[rest] = _best_of_all(logits, axes, y[rest], x[rest])
    return channels


def _list_candidates(logits: Tensor, starts: Tensor,
                     size: Sequence[int]) -> Tuple[Tensor, Tensor]:
    """Channels that can lead in a window.

    Args:
        logits (Tensor): (K, h, w).
        starts (Tensor): (U, ), where windows start; y * w + x.
        size (Sequence[int]): (h, w) of the windows. Those that leave the
            image are smaller.

    Returns:
        tuple[Tensor, Tensor]: The channels, in ascending order for each
        window, one window after the other; how many each has, int64 (U, ).
    """
    num, height, width = logits.shape
    flat = logits.flatten(1)
    listed, counts = [], []
    for part in starts.split(max(ELEMENTS // num, 1)):
        y = torch.div(part, width, rounding_mode='floor')
        x = part - y * width
        least = most = flat.index_select(1, part)
        for shift in range(1, size[0] * size[1]):
            down, right = divmod(shift, size[1])
            index = (y + down).clamp(max=height - 1) * width
            index += (x + right).clamp(max=width - 1)
            values = flat.index_select(1, index)
            least, most = least.minimum(values), most.maximum(values)
        found = _at_least(most, _below(least.amax(0)))
        counts.append(found.sum(0, dtype=torch.int16))
        listed.append(_nonzero(found.T.reshape(-1)) % num)
    return torch.cat(listed), torch.cat(counts).long()


def _first(found: Tensor) -> Tensor:
    """First channel of those found, uint8 (...); int16 for 256 or more.

    Args:
        found (Tensor): uint8 (K, ...), 0 or 1, with one or more per pixel.
    """
    num = len(found)
    dtype = torch.uint8 if num < 256 else torch.int16
    # torch's argmax takes ten times as long as its maximum
    rank = torch.arange(num, 0, -1, dtype=dtype)
    return num - (found * rank.view(-1, *[1] * (found.dim() - 1))).amax(0)


def _best(values: Tensor) -> Tuple[Tensor, Tensor]:
    """``max`` over the first dimension."""
    largest = values.amax(0)
    return largest, _first(_at_least(values, largest)).long()


def _take(values: Tensor, index: Tensor) -> Tensor:
    """``values[index]`` of (n, ), five times as fast."""
    return values.index_select(0, index.view(-1)).view_as(index)


# NumPy's comparisons and nonzero take a fourth of the time of torch's.


def _at_least(values: Tensor, threshold: Tensor) -> Tensor:
    """``values >= threshold`` as uint8."""
    found = np.greater_equal(values.numpy(), threshold.numpy())
    return torch.from_numpy(found.view(np.uint8))


def _nonzero(mask: Tensor) -> Tensor:
    """Indices of what is not 0 in (n, )."""
    return torch.from_numpy(np.flatnonzero(mask.numpy()))
