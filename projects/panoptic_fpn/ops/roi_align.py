"""RoIAlign as two small matrix products for each box (Mask R-CNN, section 3).

In    features (N, C, H, W), any memory layout
      rois     (n, 5): index of the image, x1, y1, x2, y2 in pixels
Out   (n, C, P, P), P bins each way

A bin is the mean of bilinear samples on a grid, and a sample's weights are a
product of those of its row and of its column. So a box is ``A_y @ window @
A_x.T`` of the window of the features that it touches, (P, h) and (P, w) being
the weights of rows and columns. The products run along the channels, with a
BLAS's speed forward and backward; mmcv's CPU kernel gathers sample by sample
on one core.
"""
from contextlib import contextmanager
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple

import torch
from mmcv.ops import RoIAlign
from torch import Tensor, nn

from . import use_fast

#: Image and window y1, x1, y2, x2 (half open) of a box, in feature pixels.
Window = Tuple[int, int, int, int, int]


class SeparableRoIAlign(RoIAlign):
    """mmcv's ``RoIAlign``, as matrix products where the features are on a CPU.

    The same numbers up to rounding. Elsewhere its plain twin runs, mmcv's
    kernel, on a contiguous copy where need be: it reads slices of channels and
    channels-last memory as if they were contiguous, without an error. Its
    backward adds in any order, so products are computed there, too, in
    training with ``torch.use_deterministic_algorithms(True)``.
    """

    @property
    def equal_bits(self) -> bool:
        """bool: Whether that setting gives equal gradients on a GPU."""
        return self.pool_mode == 'avg'

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """See the module for shapes; the result is of the input's type."""
        if not uses_products(self, input):
            return super().forward(input.contiguous(), rois)
        return align_levels([self], [input], rois, [slice(None)])


def uses_products(layer: nn.Module, features: Tensor) -> bool:
    """Whether a layer on these features is computed by matrix products."""
    return (isinstance(layer, SeparableRoIAlign) and layer.pool_mode == 'avg'
            and (use_fast(features.device) or
                 (torch.are_deterministic_algorithms_enabled()
                  and torch.is_grad_enabled())))


def align_levels(layers: Sequence[RoIAlign], feats: Sequence[Tensor],
                 rois: Tensor, picks: Sequence) -> Tensor:
    """Bins (n, C, P, P) of boxes ``rois`` (n, 5) from several levels
    (N, C, h, w); ``picks`` index the boxes of each level, on the CPU."""
    # windows are Python integers, so what leads to them is on the CPU
    rois, device = rois.float().cpu(), feats[0].device
    # autocast would take positions within a pixel to 8 bits
    with torch.autocast(device.type, enabled=False):
        levels = [
            _boxes_of(layer, feat, rois,
                      torch.arange(len(rois))[pick])
            for layer, feat, pick in zip(layers, feats, picks)
        ]
        bins = _SeparableRoIAlign.apply(levels, layers[0].output_size,
                                        len(rois),
                                        *(feat.float() for feat in feats))
    return bins.to(feats[0].dtype)


class _Boxes(NamedTuple):
    """Boxes of one level.

    Args:
        indices (list[int]): Indices among all boxes.
        windows (list[Window]): Windows of the features.
        rows, columns (Tensor): Weights, (n, P, h) and (n, P, w), h and w of
            the largest window.
    """

    indices: List[int]
    windows: List[Window]
    rows: Tensor
    columns: Tensor

    def products(self, pixels: Tensor, bins: Tensor) -> Iterator[tuple]:
        """For each box that touches a pixel its bins (P, P, C), its window
        (h, w * C), (P, h) and (P, w)."""
        per_image, per_row, per_pixel, _ = pixels.stride()
        channels = pixels.shape[-1]
        for index, (image, y1, x1, y2,
                    x2), row, column in zip(self.indices, self.windows,
                                            self.rows, self.columns):
            h, w = y2 - y1, x2 - x1
            if h <= 0 or w <= 0:
                continue
            window = pixels.as_strided(
                (h, w * channels), (per_row, 1),
                image * per_image + y1 * per_row + x1 * per_pixel)
            yield bins[index], window, row[:, :h], column[:, :w]


class _SeparableRoIAlign(torch.autograd.Function):
    """Features to bins; boxes get no gradient, as in mmcv."""

    @staticmethod
    def forward(ctx: Any, levels: List[_Boxes], size: Tuple[int, int],
                num_boxes: int, *feats: Tensor) -> Tensor:
        ctx.levels = levels
        ctx.shapes = [feat.shape for feat in feats]
        bins = feats[0].new_zeros((num_boxes, *size, feats[0].shape[1]))
        with _one_thread():
            for boxes, feat in zip(levels, feats):
                for out, window, row, column in boxes.products(
                        _channels_last(feat), bins):
                    tall = (row @ window).view(len(row), column.shape[1], -1)
                    torch.matmul(column, tall, out=out)
        return bins.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        grad = _channels_last(grad)
        found = []
        # also where a user's autocast is around backward
        device = grad.device.type
        with torch.autocast(device, enabled=False), _one_thread():
            for boxes, (n, c, h, w) in zip(ctx.levels, ctx.shapes):
                pixels = grad.new_zeros((n, h, w, c))
                for bins, window, row, column in boxes.products(pixels, grad):
                    tall = torch.matmul(column.T, bins)
                    window.addmm_(row.T, tall.view(len(row), -1))
                found.append(pixels.permute(0, 3, 1, 2))
        return (None, None, None, *found)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: for thousands of products of microseconds each, threads
    wait longer than they compute, a hundred times so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _channels_last(maps: Tensor) -> Tensor:
    """(N, C, h, w) in any layout to contiguous (N, h, w, C)."""
    return maps.permute(0, 2, 3, 1).contiguous()


def _boxes_of(layer: RoIAlign, feat: Tensor, rois: Tensor,
              indices: Tensor) -> _Boxes:
    """Windows and weights of the boxes of a level."""
    rois = rois[indices]
    boxes = rois[:, 1:] * layer.spatial_scale - (0.5 if layer.aligned else 0.0)
    axes = []
    for low, high, length, bins in zip(boxes[:, [1, 0]].T, boxes[:, [3, 2]].T,
                                       feat.shape[-2:], layer.output_size):
        extent = high - low
        if not layer.aligned:
            extent = extent.clamp(min=1)
        axes.append(
            _axis_weights(low, extent, length, bins, layer.sampling_ratio))
    (y1, y2, rows), (x1, x2, columns) = axes
    windows = torch.stack([rois[:, 0].long(), y1, x1, y2, x2], dim=1)
    return _Boxes(indices.tolist(), windows.tolist(), rows.to(feat.device),
                  columns.to(feat.device))


def _axis_weights(start: Tensor, extent: Tensor, length: int, bins: int,
                  samples: int) -> Tuple[Tensor, Tensor, Tensor]:
    """Weights of the pixels along one axis.

    Args:
        start, extent (Tensor): (n, ), of the boxes in pixels of the features.
        length (int): Length of the axis.
        bins (int): P.
        samples (int): For each bin; 0 for one per pixel.

    Returns:
        tuple[Tensor, Tensor, Tensor]: First pixel and one past the last of
        each window, int64 (n, ), and weights (n, P, longest window).
    """
    step = extent / bins
    grid = torch.full_like(step, samples) if samples > 0 else step.ceil()
    number = torch.arange(max(int(grid.max()), 1) if len(grid) else 1)
    start, step, grid = (t[:, None, None] for t in (start, step, grid))
    offset = (number + 0.5) * (step / grid)
    position = start + torch.arange(bins)[:, None] * step + offset
    # a sample further than a pixel outside counts as 0
    inside = (number < grid) & (position >= -1) & (position <= length)
    position = position.clamp(0, length - 1)
    low = position.long()
    high = (low + 1).clamp(max=length - 1)
    share = position - low
    weight = torch.where(inside, 1 / grid, 0.)
    # NaN and grids of no sample touch nothing
    first = torch.where(inside, low, length).flatten(1).amin(1)
    last = torch.where(inside, high, -1).flatten(1).amax(1) + 1
    size = max(int((last - first).max()), 0) if len(first) else 0
    table = start.new_zeros((len(start), bins, size + 1))
    for index, part in ((low, 1 - share), (high, share)):
        # what counts as 0 goes to a column of its own
        column = torch.where(inside, index - first[:, None, None], size)
        table.scatter_add_(2, column, part * weight)
    return first, last, table[..., :size]
