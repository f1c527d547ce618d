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

#: Pixels of masks that are encoded at once; positions fit into 31 bits.
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
    if 3 * len(ends) > 2 * len(flat):
        return index_map.int().cpu().numpy()
    values = flat[ends].view(torch.int16)
    copied = torch.cat([values, _packed(ends, len(flat))]).cpu().numpy()
    values, ends = np.split(copied, [len(values)])
    lengths = np.diff(_unpacked(ends, len(flat)), prepend=-1)
    return np.repeat(values.view(np.int32), lengths).reshape(index_map.shape)


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
        borders = _packed(change.view(-1).nonzero()[:, 0], change.numel())
        index, borders = np.divmod(
            _unpacked(borders.cpu().numpy(), change.numel()), pixels + 1)
        firsts = np.searchsorted(index, np.arange(1, len(part)))
        parts = np.split(borders.reshape(-1, 2), firsts // 2)
        found += parts[:len(part)]
    return found


def _packed(positions: Tensor, end: int) -> Tensor:
    """Ascending positions below ``end`` in two bytes each: where those of each
    65,536 pixels begin, int32 seen as int16, and the positions' low bits."""
    blocks = torch.arange(0, end, 1 << 16, device=positions.device)
    first = torch.searchsorted(positions, blocks).int()
    return torch.cat([first.view(torch.int16), positions.short()])


def _unpacked(packed: np.ndarray, end: int) -> np.ndarray:
    """The positions, int32, of :func:`_packed`'s."""
    blocks = -(-end >> 16)
    first, low = np.split(packed, [2 * blocks])
    numbers: np.ndarray = np.diff(first.view(np.int32), append=len(low))
    block = np.repeat(np.arange(blocks, dtype=np.int32), numbers)
    return (block << 16) + low.view(np.uint16)
