"""Panoptic FPN: one backbone and FPN, a region and a semantic branch.

In    inputs  (N, 3, H, W), normalized; H, W padded to multiples of 32
Out   losses of section 3.2, or for each image ``pred_instances``,
      ``pred_sem_seg`` and ``pred_panoptic_seg`` from one forward pass
"""
from typing import Dict, List, Optional, Tuple

import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, SampleList
from mmdet.utils import ConfigType, InstanceList, OptConfigType
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from ..errors import PanopticError
from .precision import give_float32, take_float32


@MODELS.register_module()
class TwoStagePanopticFPN(TwoStageDetector):
    """Mask R-CNN with FPN and a semantic branch (section 3 of the paper).

    The loss is ``L = lambda_i (Lc + Lb + Lm) + lambda_s Ls``. RPN's losses
    keep their own weights, as in the paper. A branch whose weight is 0 is
    not built: neither trained nor evaluated, the single-task baseline of
    Table 2. With lambda_i = 0 RPN goes too.

    Args:
        backbone, neck, rpn_head, roi_head, train_cfg, test_cfg,
            data_preprocessor, init_cfg: As mmdet's ``TwoStageDetector``.
        semantic_head (dict, optional): The semantic branch.
        panoptic_fusion_head (dict): The merge; its thresholds are
            ``test_cfg.panoptic``.
        loss_weights (dict): ``instance`` (lambda_i) and ``semantic``
            (lambda_s); 1 where not given.

    Raises:
        PanopticError: An unknown or negative weight, or both weights 0.
    """

    def __init__(self,
                 backbone: ConfigType,
                 panoptic_fusion_head: ConfigType,
                 rpn_head: OptConfigType = None,
                 roi_head: OptConfigType = None,
                 semantic_head: OptConfigType = None,
                 test_cfg: OptConfigType = None,
                 loss_weights: Optional[Dict[str, float]] = None,
                 **kwargs) -> None:
        self._check_weights(loss_weights or {})
        weights = dict(instance=1.0, semantic=1.0)
        weights.update(loss_weights or {})
        if weights['instance'] == 0:
            rpn_head = roi_head = None
        if weights['semantic'] == 0:
            semantic_head = None
        if roi_head is None and semantic_head is None:
            raise PanopticError(
                'The model has no branch: give model.roi_head or '
                'model.semantic_head, and a weight above 0 in '
                'model.loss_weights.')
        super().__init__(
            backbone=backbone,
            rpn_head=rpn_head,
            roi_head=roi_head,
            test_cfg=test_cfg,
            **kwargs)
        self.loss_weights = weights
        if semantic_head is not None:
            self.semantic_head = MODELS.build(semantic_head)
        self.panoptic_fusion_head = MODELS.build(
            dict(
                panoptic_fusion_head,
                test_cfg=(test_cfg or {}).get('panoptic')))
        self._guard_region_precision()

    @staticmethod
    def _check_weights(loss_weights: Dict[str, float]) -> None:
        unknown = set(loss_weights) - {'instance', 'semantic'}
        if unknown:
            raise PanopticError(
                f'model.loss_weights has {sorted(unknown)}; known are '
                "'instance' (lambda_i) and 'semantic' (lambda_s).")
        for name, weight in loss_weights.items():
            if weight < 0:
                raise PanopticError(f'model.loss_weights.{name}={weight}: '
                                    'a weight must be 0 or more.')

    def _guard_region_precision(self) -> None:
        if self.with_rpn:
            give_float32(self.rpn_head)
        if self.with_roi_head:
            # by type: heads of a cascade are entries of a list
            for module in self.roi_head.modules():
                if isinstance(module, BaseRoIExtractor):
                    take_float32(module)
                elif isinstance(module, (BBoxHead, FCNMaskHead)):
                    give_float32(module)

    @property
    def with_semantic_head(self) -> bool:
        """bool: whether the detector has the semantic branch"""
        return getattr(self, 'semantic_head', None) is not None

    def loss(self, batch_inputs: Tensor,
             batch_data_samples: SampleList) -> Dict[str, Tensor]:
        """Weighted losses of a batch.

        Args:
            batch_inputs (Tensor): (N, 3, H, W).
            batch_data_samples (list[:obj:`DetDataSample`]): With
                ``gt_instances``, ``ignored_instances`` and ``gt_sem_seg``,
                as far as the branches need them.

        Returns:
            dict[str, Tensor]: ``loss_rpn_cls``, ``loss_rpn_bbox``,
            ``loss_cls``, ``loss_bbox``, ``loss_mask``, ``acc`` of the region
            branch and ``loss_seg`` of the semantic branch.
        """
        feats = self.extract_feat(batch_inputs)
        losses = dict()
        if self.with_roi_head:
            losses.update(self._region_loss(feats, batch_data_samples))
        if self.with_semantic_head:
            semantic = self.semantic_head.loss(feats, batch_data_samples)
            losses.update(_scaled(semantic, self.loss_weights['semantic']))
        return losses

    def _region_loss(self, feats: Tuple[Tensor],
                     batch_data_samples: SampleList) -> Dict[str, Tensor]:
        losses, proposals = self.rpn_head.loss_and_predict(
            feats, [_as_objects(sample) for sample in batch_data_samples],
            proposal_cfg=self.train_cfg.get('rpn_proposal', self.test_cfg.rpn))
        region = self.roi_head.loss(feats, proposals, batch_data_samples)
        losses.update(_scaled(region, self.loss_weights['instance']))
        return losses

    def predict(self,
                batch_inputs: Tensor,
                batch_data_samples: SampleList,
                rescale: bool = True) -> SampleList:
        """Instances, semantic map and panoptic map of each image.

        Args:
            batch_inputs (Tensor): (N, 3, H, W).
            batch_data_samples (list[:obj:`DetDataSample`]): With the usual
                metainfo; N of them.
            rescale (bool): Results in the original image's pixels instead
                of the network input's.

        Returns:
            list[:obj:`DetDataSample`]: The samples, with

            - ``pred_instances``: ``bboxes`` (n, 4), ``scores``, ``labels``,
              ``masks`` (n, h, w) bool
            - ``pred_sem_seg.sem_seg`` (1, h, w): channel of the semantic
              branch; its metainfo ``predict_things`` tells their layout
            - ``pred_panoptic_seg.sem_seg`` (1, h, w) int32: label + 1000 *
              number, void = number of classes. Its metainfo
              ``instance_indices`` names for number i + 1 the index in
              ``pred_instances``.

            What belongs to a branch the model lacks is absent.
        """
        feats = self.extract_feat(batch_inputs)
        if self.with_roi_head:
            instances = self._predict_instances(feats, batch_data_samples,
                                                rescale)
        else:
            instances = [None] * len(batch_data_samples)
        metas = [sample.metainfo for sample in batch_data_samples]
        if self.with_semantic_head:
            channels = [
                logits.argmax(dim=0) for logits in self.semantic_head.predict(
                    feats, metas, rescale)
            ]
        else:
            channels = [None] * len(batch_data_samples)
        for sample, *branches in zip(batch_data_samples, instances, channels):
            self._add_predictions(sample, *branches, rescale=rescale)
        return batch_data_samples

    def _predict_instances(self, feats: Tuple[Tensor],
                           batch_data_samples: SampleList,
                           rescale: bool) -> InstanceList:
        proposals = self.rpn_head.predict(
            feats, batch_data_samples, rescale=False)
        return self.roi_head.predict(
            feats, proposals, batch_data_samples, rescale=rescale)

    def _add_predictions(self, sample: DetDataSample,
                         instances: Optional[InstanceData],
                         channels: Optional[Tensor], rescale: bool) -> None:
        shape = sample.ori_shape if rescale else sample.img_shape
        predict_things = (
            self.with_semantic_head and self.semantic_head.predict_things)
        panoptic, kept = self.panoptic_fusion_head.predict(
            instances, channels, predict_things, tuple(shape[:2]))
        if instances is not None:
            sample.pred_instances = instances
        if channels is not None:
            sample.pred_sem_seg = PixelData(
                sem_seg=channels[None],
                metainfo=dict(predict_things=predict_things))
        sample.pred_panoptic_seg = PixelData(
            sem_seg=panoptic[None],
            metainfo=dict(instance_indices=kept.tolist()))

    def _forward(self,
                 batch_inputs: Tensor,
                 batch_data_samples: Optional[SampleList] = None) -> tuple:
        """Raw outputs of all branches, for counting and export."""
        feats = self.extract_feat(batch_inputs)
        outputs: List = []
        if self.with_roi_head:
            proposals = self.rpn_head.predict(
                feats, batch_data_samples, rescale=False)
            outputs.extend(
                self.roi_head.forward(feats, proposals, batch_data_samples))
        if self.with_semantic_head:
            outputs.append(self.semantic_head(feats))
        return tuple(outputs)


def _scaled(losses: Dict[str, Tensor], weight: float) -> Dict[str, Tensor]:
    """Weighted losses; entries that are not losses ('acc') as they are."""
    return {
        name: value * weight if 'loss' in name else value
        for name, value in losses.items()
    }


def _as_objects(sample: DetDataSample) -> DetDataSample:
    """A sample for RPN, where every instance has the one class 'object'.

    Only what RPN reads: copying the masks, as mmdet does here, takes longer
    than RPN's loss.
    """
    instances = sample.gt_instances
    objects = DetDataSample(metainfo=sample.metainfo)
    objects.gt_instances = InstanceData(
        bboxes=instances.bboxes, labels=torch.zeros_like(instances.labels))
    objects.ignored_instances = sample.ignored_instances
    return objects
