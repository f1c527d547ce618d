"""Predictions as NumPy arrays, with few bytes from a GPU.

Of a GPU's map (h, w) its runs are copied, of its masks (n, h, w) their
run-length encoding (RLE), which the GPU finds: of a Cityscapes image with 100
instances less than 1 MB instead of 260. What is on the CPU is viewed.
"""
from typing import Any, Dict, List

import numpy as np
import torch
from torch import Tensor

from . import use_fast
from .run_length import MaskRuns, Masks, encode_mask, rle_of_intervals

#: Bytes of a run: its last pixel and its value. A map in which they are more
#: than one byte a pixel is copied whole.
RUN_BYTES = 8
#: Pixels of masks that are encoded at once; positions fit into 32 bits.
AT_ONCE = 1 << 28


def is_remote(*data: Any) -> bool:
    """Whether all are tensors that the fast ways of this file copy."""
    return use_fast() and all(
        isinstance(part, Tensor) and part.device.type != 'cpu'
        for part in data)


def to_array(data: Any) -> np.ndarray:
    """Array of a tensor on any device, a box structure, bitmap masks or an
    array; a view where possible. Half precision becomes float32."""
    data = getattr(data, 'masks', getattr(data, 'tensor', data))
    if not isinstance(data, Tensor):
        return np.asarray(data)
    if data.is_floating_point() and data.element_size() < 4:
        data = data.float()
    return data.detach().cpu().numpy()


def to_arrays(*data: Any) -> List[np.ndarray]:
    """:func:`to_array` of each; tensors of a GPU come in one copy."""
    return join_copies(*data) if is_remote(*data) else [*map(to_array, data)]


def join_copies(*tensors: Tensor) -> List[np.ndarray]:
    """Arrays of tensors, which are sent one behind the other, as bytes."""
    # a clone: contiguous() leaves odd strides of one number as they are
    parts = [
        tensor.detach().clone(memory_format=torch.contiguous_format)
        for tensor in tensors
    ]
    sizes = [part.numel() * part.element_size() for part in parts]
    sent = torch.cat([part.view(-1).view(torch.uint8) for part in parts]).cpu()
    return [
        # the clone begins where a number may begin
        to_array(one.clone().view(part.dtype).view(part.shape))
        for one, part in zip(sent.split(sizes), parts)
    ]


def to_plane(data: Any) -> np.ndarray:
    """(h, w) array of a (1, h, w) or (h, w) map of integers below 2**31; a
    view where possible, int32 of a GPU's."""
    array = copy_map(data) if is_remote(data) else to_array(data)
    return array.reshape(array.shape[-2:])


def copy_map(index_map: Tensor) -> np.ndarray:
    """A map with at least one pixel, int32 and of its shape: by its runs, or,
    of noise, in as few bytes as hold a pixel."""
    flat = index_map.reshape(-1)
    last = torch.ones_like(flat, dtype=torch.bool)
    last[:-1] = flat[1:] != flat[:-1]
    ends = last.nonzero().view(-1)
    if RUN_BYTES * len(ends) <= len(flat):
        runs = torch.stack([ends, flat[ends].long()]).int().cpu().numpy()
        pixels = np.repeat(runs[1], np.diff(runs[0], prepend=-1))
    else:
        low, high = torch.stack(torch.aminmax(flat)).tolist()
        narrow = (
            torch.uint8 if 0 <= low and high < 1 << 8 else
            torch.int16 if -1 << 15 <= low and high < 1 << 15 else torch.int32)
        pixels = flat.to(narrow).cpu().numpy().astype(np.int32)
    return pixels.reshape(index_map.shape)


def copy_masks(masks: Any) -> Masks:
    """n masks of (n, h, w): bitmaps, or the runs of a GPU's."""
    if not is_remote(masks):
        return to_array(masks)
    return [
        MaskRuns(runs, tuple(masks.shape[1:])) for runs in mask_runs(masks)
    ]


def encode_masks(masks: Any) -> List[Dict]:
    """RLE of each of n masks (n, h, w), or a list of RLEs as it is."""
    if isinstance(masks, list):
        return masks
    if is_remote(masks):
        return run_length_encode(masks)
    return [encode_mask(mask) for mask in to_array(masks)]


def run_length_encode(masks: Tensor) -> List[Dict]:
    """:func:`encode_mask` of each of n masks (n, h, w)."""
    _, h, w = masks.shape
    return [
        rle_of_intervals(runs[:, 0], runs[:, 1], (h, w))
        for runs in mask_runs(masks.transpose(1, 2))
    ]


def mask_runs(masks: Tensor) -> List[np.ndarray]:
    """Runs of each of n masks (n, h, w) of any type where 0 is outside, see
    :class:`MaskRuns`; they are found on the masks' device."""
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
