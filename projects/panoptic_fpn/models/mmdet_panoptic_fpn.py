"""mmdet's own Panoptic FPN, with all that it computes.

mmdet's ``PanopticFPN`` returns the panoptic map alone, so AP and mIoU could
not be judged. Its networks, losses and merge are unchanged.
"""
from typing import Any, Dict, List

from mmdet.models.detectors import PanopticFPN
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from mmengine.structures import PixelData
from torch import Tensor

from ..fusion import paste_order


@MODELS.register_module()
class BranchKeepingFusionHead(HeuristicFusionHead):
    """mmdet's merge that also returns what it merges.

    Besides mmdet's keys ``test_cfg`` may have ``score_thr`` and
    ``nms_iou_thr``, which choose the instances for the map: mmdet has them in
    ``test_cfg.rcnn``, where they cost AP.
    """

    def predict(self, mask_results_list: InstanceList,
                seg_preds_list: List[Tensor], **kwargs: Any) -> List[Dict]:
        """``pred_panoptic_seg``, ``pred_instances`` and ``pred_sem_seg`` of
        each image; see mmdet for the arguments."""
        score_thr = self.test_cfg.get('score_thr', 0.)
        nms_iou_thr = self.test_cfg.get('nms_iou_thr')
        merged = [
            found[paste_order(found.bboxes, found.scores, score_thr,
                              nms_iou_thr)] for found in mask_results_list
        ]
        maps = super().predict(merged, seg_preds_list, **kwargs)
        return [
            dict(
                pred_panoptic_seg=panoptic,
                pred_instances=found,
                pred_sem_seg=PixelData(
                    sem_seg=logits.argmax(0, keepdim=True),
                    metainfo=dict(predict_things=False))) for panoptic, found,
            logits in zip(maps, mask_results_list, seg_preds_list)
        ]


@MODELS.register_module()
class MMDetPanopticFPN(PanopticFPN):
    """mmdet's ``PanopticFPN`` with a :class:`BranchKeepingFusionHead`; same
    arguments and weights."""

    def add_pred_to_datasample(self, data_samples: SampleList,
                               results_list: List[Dict]) -> SampleList:
        """Fill what :meth:`BranchKeepingFusionHead.predict` returns."""
        for sample, found in zip(data_samples, results_list):
            sample.set_data(found)
        return data_samples
