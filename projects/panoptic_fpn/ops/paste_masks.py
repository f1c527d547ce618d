"""Masks of boxes on an image: on a CPU sampled inside the boxes alone, on a
GPU many masks at a time and without a wait of the host.

In    probabilities  (n, 1, 28, 28), float32; boxes (n, 4)
Out   masks          (n, h, w) bool

The plain twin is ``_do_paste_mask`` of mmdet, which gives the same bits on
either device: on a GPU it, too, samples beyond the boxes, where thresholds
below one half can be reached. On a CPU the memory of (n, h, w) is touched
inside the boxes only.
"""
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmengine_exact.allocator import lazy_zeros

# Pixels of all masks that a GPU samples at once: 12 bytes each, 1.6 GB.
PIXELS = 2**27


def paste_masks(probabilities: Tensor, boxes: Tensor, height: int, width: int,
                threshold: float) -> Tensor:
    """Masks on an image of ``height`` x ``width`` where probabilities reach a
    threshold; boxes are x1, y1, x2, y2 in its pixels. An instance whose box
    has no pixel of the image is empty."""
    paste = paste_whole if boxes.is_cuda else paste_windows
    return paste(probabilities, boxes, height, width, threshold)


def paste_whole(probabilities: Tensor, boxes: Tensor, height: int, width: int,
                threshold: float) -> Tensor:
    """:func:`paste_masks`, for a GPU: every pixel of the image is sampled."""
    masks = boxes.new_empty((len(boxes), height, width), dtype=torch.bool)
    x1, y1, x2, y2 = boxes.unbind(1)
    grid_x = _coordinates(width, x1, x2)[:, None]
    grid_y = _coordinates(height, y1, y2)[:, :, None]
    step = max(PIXELS // (height * width), 1)
    for begin in range(0, len(boxes), step):
        part = slice(begin, begin + step)
        grid = torch.broadcast_tensors(grid_x[part], grid_y[part])
        sampled = F.grid_sample(
            probabilities[part], torch.stack(grid, dim=3), align_corners=False)
        torch.ge(sampled[:, 0], threshold, out=masks[part])
    return masks


def paste_windows(probabilities: Tensor, boxes: Tensor, height: int,
                  width: int, threshold: float) -> Tensor:
    """:func:`paste_masks`, for a CPU."""
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
    centres = torch.arange(size, dtype=torch.float32, device=low.device) + 0.5
    low, high = low[:, None], high[:, None]
    inside = (centres - low) / (high - low) * 2 - 1
    return inside.masked_fill_(inside.isinf(), 0)
