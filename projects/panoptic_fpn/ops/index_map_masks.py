"""Masks of instances as one map of their values, or a few where they overlap.

In    index_map     (h, w), the value of the instance that covers each pixel;
                    (layers, h, w), if instances share pixels
Out   mask targets  (m, P, P) of boxes
      masks         (n, h, w), where mmdet's transforms and heads read them

A map takes a byte a pixel and layer, on its way to a GPU too; bitmaps take one
for each instance, and mmdet's targets a float copy of the mask of each box.
"""
from typing import Any, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.ops import roi_align
from mmdet.structures.mask import BitmapMasks
from torch import Tensor

#: Pixels of masks, float32, that are in memory at once.
MAX_PIXELS = 1 << 26
#: What the values of two layers differ by: 1 .. 255 are in the first.
LAYER = 256


class IndexMapMasks(BitmapMasks):
    """mmdet's ``BitmapMasks`` that holds an index map.

    Selected, concatenated, padded (with 0) and moved masks are index maps,
    too. Whatever else mmdet does with masks it does with their bitmaps.

    Args:
        index_map (Tensor): Integers (h, w) or uint8 (layers, h, w), on any
            device.
        values (np.ndarray): (n, ), the value of each instance, not 0, in the
            map's type; with layers int64, ``LAYER * layer + value``.
    """

    def __init__(self, index_map: Tensor, values: np.ndarray) -> None:
        self.index_map = index_map
        self.values = values
        self.height, self.width = index_map.shape[-2:]

    @property
    def masks(self) -> np.ndarray:
        """np.ndarray: Bitmaps uint8 (n, h, w). Who reads them may write to
        them, so from then on these are plain ``BitmapMasks``."""
        self.masks = self.to_ndarray()
        return self.masks

    @masks.setter
    def masks(self, bitmaps: np.ndarray) -> None:
        del self.index_map, self.values
        self.__class__ = BitmapMasks
        self.masks = bitmaps

    def to_ndarray(self) -> np.ndarray:
        """Bitmaps uint8 (n, h, w), as a copy."""
        return self.to_tensor(torch.uint8, 'cpu').numpy()

    def to_tensor(self, dtype: torch.dtype, device: Any) -> Tensor:
        """Bitmaps (n, h, w) on a device, made there."""
        return _bitmaps(*self._on(device)).to(dtype)

    def _on(self, device: Any) -> Tuple[Tensor, Tensor]:
        """Map and values on a device."""
        values = torch.from_numpy(self.values)
        return (self.index_map.to(device, non_blocking=True),
                values.to(device, non_blocking=True))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> 'IndexMapMasks':
        return IndexMapMasks(self.index_map, self.values[index].reshape(-1))

    def to(self, device: Any, non_blocking: bool = False) -> 'IndexMapMasks':
        """The map on a device. That of no instance stays where it is."""
        if not len(self):
            return self
        return IndexMapMasks(
            self.index_map.to(device, non_blocking=non_blocking), self.values)

    def pin_memory(self) -> 'IndexMapMasks':
        """The map in pinned memory, as torch's loaders ask for."""
        return IndexMapMasks(self.index_map.pin_memory(), self.values)

    def pad(self, out_shape: Tuple[int, int], pad_val: int = 0) -> BitmapMasks:
        """See ``BitmapMasks.pad``; itself where nothing is to be padded."""
        rows, cols = out_shape[0] - self.height, out_shape[1] - self.width
        if rows <= 0 and cols <= 0:
            return self
        if pad_val:
            return super().pad(out_shape, pad_val)
        padding = (0, max(cols, 0), 0, max(rows, 0))
        return IndexMapMasks(F.pad(self.index_map, padding), self.values)

    def mask_targets(self,
                     boxes: Tensor,
                     inds: Tensor,
                     size: Tuple[int, int],
                     binarize: bool = True) -> Tensor:
        """What of its instance lies in each box; on a GPU nothing waits.

        Args:
            boxes (Tensor): (m, 4), x1, y1, x2, y2 in pixels of the map.
            inds (Tensor): (m, ), the instance of each box.
            size (tuple[int, int]): (P, P) cells in which a box is divided.
            binarize (bool): Whether a cell is 1 or 0, by half of its area.

        Returns:
            Tensor: (m, P, P), the part of each cell that is covered.
        """
        covered = boxes.new_zeros(0, *size)
        if not len(boxes):
            return covered
        index_map, values = self._on(boxes.device)
        step = max(1, MAX_PIXELS // (self.height * self.width))
        for first in range(0, len(values), step):
            group = values[first:first + step]
            masks = _bitmaps(index_map, group).to(boxes.dtype)[:, None]
            # of boxes of all groups: to choose would be a wait
            of_group = (inds - first).clamp(0, len(group) - 1)[:, None]
            rois = torch.cat([of_group.to(boxes.dtype), boxes], dim=1)
            parts = roi_align(masks, rois, size, 1.0, 0, 'avg', True)[:, 0]
            covered = parts if first == 0 else torch.where(
                (inds >= first)[:, None, None], parts, covered)
        return covered.ge_(0.5) if binarize else covered

    @classmethod
    def cat(cls, masks: Sequence[BitmapMasks]) -> BitmapMasks:
        """See ``BitmapMasks.cat``; parts of one map remain one."""
        if masks and all(
                isinstance(part, cls) and part.index_map is masks[0].index_map
                for part in masks):
            values = np.concatenate([part.values for part in masks])
            return cls(masks[0].index_map, values)
        return BitmapMasks.cat(masks)

    #: Bitmaps that overlap.
    random = BitmapMasks.random


def _bitmaps(index_map: Tensor, values: Tensor) -> Tensor:
    """Bitmaps bool (n, h, w) of the instances with some values (n, )."""
    if index_map.dim() == 3:
        index_map, values = index_map[values // LAYER], values % LAYER
    return index_map == values.to(index_map.dtype)[:, None, None]
