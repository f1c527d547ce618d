"""Mask branch that pastes its masks inside their boxes alone.

In    mask_preds  (n, C, 28, 28) logits, boxes (n, 4), labels (n, )
Out   masks       (n, h, w) bool
"""
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.registry import MODELS
from torch import Tensor

from mmengine_exact.allocator import lazy_zeros


@MODELS.register_module()
class WindowedMaskHead(FCNMaskHead):
    """mmdet's ``FCNMaskHead``; on a CPU its masks in less time.

    The masks are the same bits. Memory of (n, h, w) is touched inside the
    boxes only, and of the classes only a detection's own.
    """

    def _predict_by_feat_single(self,
                                mask_preds: Tensor,
                                bboxes: Tensor,
                                labels: Tensor,
                                img_meta: dict,
                                rcnn_test_cfg: Any,
                                rescale: bool = False,
                                activate_map: bool = False) -> Tensor:
        """Masks of an image; mmdet's ``predict_by_feat`` calls it.

        Args:
            mask_preds (Tensor): (n, C, 28, 28), logits.
            bboxes (Tensor): (n, 4), of the network's input. With ``rescale``
                they are brought to the original image, in place, as mmdet
                does.
            labels (Tensor): (n, ).
            img_meta (dict): ``ori_shape`` (h, w) and ``scale_factor`` (w, h).
            rcnn_test_cfg (dict): ``mask_thr_binary``.
            rescale (bool): To the original image's size.
            activate_map (bool): Whether ``mask_preds`` are probabilities
                already, averaged over stages of a cascade or augmentations.

        Returns:
            Tensor: bool (n, h, w).
        """
        threshold = rcnn_test_cfg.mask_thr_binary
        if bboxes.device.type != 'cpu' or threshold < 0:
            return super()._predict_by_feat_single(mask_preds, bboxes, labels,
                                                   img_meta, rcnn_test_cfg,
                                                   rescale, activate_map)
        height, width = img_meta['ori_shape'][:2]
        scale = bboxes.new_tensor(img_meta['scale_factor'])
        if rescale:
            bboxes /= scale.repeat(1, 2)
        else:
            width, height = (int(np.round(side * factor.item()))
                             for side, factor in zip((width, height), scale))
        mask_preds = torch.as_tensor(mask_preds).detach()
        if not self.class_agnostic:
            mask_preds = mask_preds[range(len(labels)), labels][:, None]
        if not activate_map:
            mask_preds = mask_preds.sigmoid()
        return paste(mask_preds.float(), bboxes.detach(), height, width,
                     threshold)


def paste(probabilities: Tensor, boxes: Tensor, height: int, width: int,
          threshold: float) -> Tensor:
    """Masks of boxes on an image, as mmdet's ``_do_paste_mask`` samples them.

    Args:
        probabilities (Tensor): (n, 1, 28, 28), float32, on a CPU.
        boxes (Tensor): (n, 4), x1, y1, x2, y2 in pixels of the image.
        height, width (int): Of the image.
        threshold (float): Least probability of a mask.

    Returns:
        Tensor: bool (n, height, width); an instance whose box has no pixel
        of the image is empty.
    """
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
    """Pixel centres of an axis in boxes that reach from -1 to 1: (n, size).

    Those of a box without extent are infinite, and set to its middle.
    """
    centres = torch.arange(size, dtype=torch.float32) + 0.5
    low, high = low[:, None], high[:, None]
    inside = (centres - low) / (high - low) * 2 - 1
    return inside.masked_fill_(inside.isinf(), 0)
