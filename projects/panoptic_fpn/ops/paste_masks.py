"""Masks of boxes on an image, sampled inside the boxes alone.

In    probabilities  (n, 1, 28, 28), float32, on a CPU; boxes (n, 4)
Out   masks          (n, h, w) bool

The plain twin is ``_do_paste_mask`` of mmdet, which gives the same bits. The
memory of (n, h, w) is touched inside the boxes only.
"""
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmengine_exact.allocator import lazy_zeros


def paste_masks(probabilities: Tensor, boxes: Tensor, height: int, width: int,
                threshold: float) -> Tensor:
    """Masks on an image of ``height`` x ``width`` where probabilities reach a
    threshold; boxes are x1, y1, x2, y2 in its pixels. An instance whose box
    has no pixel of the image is empty."""
    masks = lazy_zeros((len(boxes), height, width))
    x1, y1, x2, y2 = boxes.unbind(1)
    grid_x = _coordinates(width, x1, x2)
    grid_y = _coordinates(height, y1, y2)
    low = (boxes[:, :2].floor() - 1).clamp(min=0)
    high = (boxes[:, 2:].ceil() + 1).minimum(boxes.new_tensor([width, height]))
    windows = torch.cat([low, high], dim=1)
    # not a number: no window either
    windows = windows.nan_to_num(nan=0).clamp(0, max(height, width)).int()
    for i, (left, top, right, bottom) in enumerate(windows.tolist()):
        if left >= right or top >= bottom:
            continue
        grid = torch.empty(2, bottom - top, right - left)
        grid[0] = grid_x[i, left:right]
        grid[1] = grid_y[i, top:bottom, None]
        sampled = F.grid_sample(
            probabilities[i:i + 1],
            grid.permute(1, 2, 0)[None],
            align_corners=False)
        np.greater_equal(
            sampled[0, 0].numpy(),
            threshold,
            out=masks[i, top:bottom, left:right])
    return torch.from_numpy(masks)


def _coordinates(size: int, low: Tensor, high: Tensor) -> Tensor:
    """Pixel centres of an axis in boxes that reach from -1 to 1: (n, size);
    the middle of a box without extent."""
    centres = torch.arange(size, dtype=torch.float32) + 0.5
    low, high = low[:, None], high[:, None]
    inside = (centres - low) / (high - low) * 2 - 1
    return inside.masked_fill_(inside.isinf(), 0)
