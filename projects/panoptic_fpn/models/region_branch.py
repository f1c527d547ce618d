"""Parts of mmdet's region branch on the operators of ``ops``."""
from typing import Any, List, Optional, Tuple

import numpy as np
import torch
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules import SamplingResult
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from ..ops import use_fast
from ..ops.index_map_masks import IndexMapMasks
from ..ops.paste_masks import paste_masks
from ..ops.roi_align import SeparableRoIAlign, align_levels, uses_products


@MODELS.register_module()
class SeparableRoIExtractor(SingleRoIExtractor):
    """mmdet's ``SingleRoIExtractor`` on :class:`SeparableRoIAlign`; layers of
    types other than ``RoIAlign`` are mmdet's."""

    def build_roi_layers(self, layer_cfg: ConfigType,
                         featmap_strides: List[int]) -> nn.ModuleList:
        if layer_cfg['type'] in ('RoIAlign', RoIAlign):
            layer_cfg = dict(layer_cfg, type=SeparableRoIAlign)
        return super().build_roi_layers(layer_cfg, featmap_strides)

    def forward(self,
                feats: Tuple[Tensor, ...],
                rois: Tensor,
                roi_scale_factor: Optional[float] = None) -> Tensor:
        """Bins (n, C, P, P) of each box from the level of its size, given
        levels (N, C, h, w) and ``rois`` (n, 5): image, x1, y1, x2, y2 in
        pixels."""
        if len(feats) == 1 or not uses_products(self.roi_layers[0], feats[0]):
            return super().forward(feats, rois, roi_scale_factor)
        levels = self.map_roi_levels(rois, len(feats)).cpu()
        if roi_scale_factor is not None:
            rois = self.roi_rescale(rois, roi_scale_factor)
        # Levels without a box, too: all take part in the graph, or processes
        # would wait for gradients that others do not send.
        picks = [(levels == i).nonzero()[:, 0] for i in range(len(feats))]
        return align_levels(self.roi_layers, feats, rois, picks)


@MODELS.register_module()
class WindowedMaskHead(FCNMaskHead):
    """mmdet's ``FCNMaskHead``: the same bits in less time.

    On a CPU masks are pasted inside their boxes alone. Targets come from
    index maps.
    """

    def get_targets(self, sampling_results: List[SamplingResult],
                    batch_gt_instances: InstanceList,
                    rcnn_train_cfg: ConfigType) -> Tensor:
        """Targets (m, P, P), 0 or 1, of the positive proposals of a batch;
        mmdet's, where its masks are not all ``IndexMapMasks``."""
        masks = [instances.masks for instances in batch_gt_instances]
        if not use_fast() or not all(
                isinstance(one, IndexMapMasks) for one in masks):
            return super().get_targets(sampling_results, batch_gt_instances,
                                       rcnn_train_cfg)
        size = to_2tuple(rcnn_train_cfg.mask_size)
        binarize = not rcnn_train_cfg.get('soft_mask_target', False)
        targets = []
        for result, one in zip(sampling_results, masks):
            boxes = result.pos_priors.clone()
            boxes[:, 0::2].clamp_(0, one.width)
            boxes[:, 1::2].clamp_(0, one.height)
            targets.append(
                one.mask_targets(boxes, result.pos_assigned_gt_inds, size,
                                 binarize))
        return torch.cat(targets)

    def _predict_by_feat_single(self,
                                mask_preds: Tensor,
                                bboxes: Tensor,
                                labels: Tensor,
                                img_meta: dict,
                                rcnn_test_cfg: Any,
                                rescale: bool = False,
                                activate_map: bool = False) -> Tensor:
        """Masks bool (n, h, w) of an image; mmdet's ``predict_by_feat`` calls
        it.

        Args:
            mask_preds (Tensor): (n, C, 28, 28), logits; with ``activate_map``
                probabilities, averaged over stages or augmentations.
            bboxes (Tensor): (n, 4), of the network's input. With ``rescale``
                they are brought to the original image, in place, as mmdet
                does.
        """
        threshold = rcnn_test_cfg.mask_thr_binary
        if not use_fast(bboxes.device) or threshold < 0:
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
        return paste_masks(mask_preds.float(), bboxes.detach(), height, width,
                           threshold)
