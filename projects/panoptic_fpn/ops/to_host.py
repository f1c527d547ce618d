"""Predictions as NumPy arrays, with few bytes from a GPU.

Of a GPU's map (h, w) and masks (n, h, w) runs are copied, which the GPU finds:
of a Cityscapes image with 100 instances less than 1 MB instead of 260. What is
on the CPU is viewed.
"""
from typing import Any, Dict, List

import numpy as np
import torch
from torch import Tensor

from mmengine_exact.allocator import lazy_zeros

from . import use_fast
from .run_length import encode_mask, rle_of_intervals

#: Pixels of masks that are encoded at once; positions fit into 32 bits.
AT_ONCE = 1 << 28


def is_remote(data: Any) -> bool:
    """Whether it is a tensor that the fast ways of this file copy."""
    return (use_fast() and isinstance(data, Tensor)
            and data.device.type != 'cpu')


def to_array(data: Any) -> np.ndarray:
    """Array of a tensor on any device, a box structure, bitmap masks or an
    array; a view where possible. Half precision becomes float32."""
    data = getattr(data, 'masks', getattr(data, 'tensor', data))
    if not isinstance(data, Tensor):
        return np.asarray(data)
    if data.is_floating_point() and data.element_size() < 4:
        data = data.float()
    return data.detach().cpu().numpy()


def to_plane(data: Any) -> np.ndarray:
    """(h, w) array of a (1, h, w) or (h, w) map of integers below 2**31; a
    view where possible, int32 of a GPU's."""
    array = copy_map(data) if is_remote(data) else to_array(data)
    return array.reshape(array.shape[-2:])


def copy_map(index_map: Tensor) -> np.ndarray:
    """A map with at least one pixel, int32 and of its shape: by its runs, or
    whole, as a map of noise, where they have more bytes."""
    flat = index_map.reshape(-1).int()
    last = torch.ones_like(flat, dtype=torch.bool)
    last[:-1] = flat[1:] != flat[:-1]
    ends = last.nonzero().view(-1)
    if 2 * len(ends) > len(flat):
        return index_map.int().cpu().numpy()
    runs = torch.stack([ends.int(), flat[ends]]).cpu().numpy()
    pixels = np.repeat(runs[1], np.diff(runs[0], prepend=-1))
    return pixels.reshape(index_map.shape)


def to_bitmaps(masks: Any) -> np.ndarray:
    """Masks (n, h, w) of any type where 0 is outside; a view where possible,
    bool of a GPU's."""
    if not is_remote(masks):
        return to_array(masks)
    bitmaps = lazy_zeros(tuple(masks.shape))
    for bitmap, runs in zip(bitmaps, mask_runs(masks)):
        flat = bitmap.reshape(-1)
        for first, end in runs.tolist():
            flat[first:end] = True
    return bitmaps


def encode_masks(masks: Any) -> List[Dict]:
    """:func:`encode_mask` of each of n masks (n, h, w), or a list of RLEs as
    it is."""
    if isinstance(masks, list):
        return masks
    if not is_remote(masks):
        return [encode_mask(mask) for mask in to_array(masks)]
    shape = tuple(masks.shape[1:])
    return [
        rle_of_intervals(runs[:, 0], runs[:, 1], shape)
        for runs in mask_runs(masks.transpose(1, 2))
    ]


def mask_runs(masks: Tensor) -> List[np.ndarray]:
    """Runs of each of n masks (n, h, w) of any type where 0 is outside: int32
    (runs, 2), flat positions of the first pixel of each and one past its last;
    no two touch. They are found on the masks' device."""
    pixels, found = masks[:1].flatten(1).shape[1], []
    for part in masks.split(max(1, AT_ONCE // pixels)):
        inside = part.flatten(1).bool()
        # outside of the mask before its first pixel and after its last
        change = torch.cat(
            [inside[:, :1], inside[:, 1:] != inside[:, :-1], inside[:, -1:]],
            1)
        borders = change.view(-1).nonzero()[:, 0].int().cpu().numpy()
        index, borders = np.divmod(borders, pixels + 1)
        firsts = np.searchsorted(index, np.arange(1, len(part)))
        parts = np.split(borders.reshape(-1, 2), firsts // 2)
        found += parts[:len(part)]
    return found
