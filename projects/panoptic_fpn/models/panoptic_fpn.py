"""Panoptic FPN: one backbone and FPN, a region and a semantic branch.

In    inputs  (N, 3, H, W), normalized; H, W padded to multiples of 32
Out   losses of section 3.2, or for each image ``pred_instances``,
      ``pred_sem_seg`` and ``pred_panoptic_seg`` from one forward pass
"""
import copy
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch
from mmdet.models.detectors import TwoStagePanopticSegmentor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, SampleList
from mmdet.utils import ConfigType, OptConfigType
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmengine_exact.errors import InputError

from ..ops.operator_inputs import guard_operators, lay_out, roi_features
from .panoptic_fusion_head import DEFAULTS

#: Names of the branches, in the order of their FPN groups.
BRANCHES = ('instance', 'semantic')


@MODELS.register_module()
class TwoStagePanopticFPN(TwoStagePanopticSegmentor):
    """Mask R-CNN with FPN and a semantic branch (section 3 of the paper).

    The loss is ``L = lambda_i (Lc + Lb + Lm) + lambda_s Ls``. RPN's losses
    keep their own weights, as in the paper. A branch whose weight is 0 is
    not built: the single-task baselines of Table 2. With lambda_i = 0 RPN
    goes too.

    Attributes:
        trained_branch (str | None): 'instance' or 'semantic' where the next
            losses are of one branch alone, as ``AlternateLossesHook`` sets it
            (Table 3c).

    Args:
        panoptic_fusion_head (dict): The merge; its thresholds are
            ``test_cfg.panoptic``.
        test_cfg (dict): ``rpn``, ``rcnn`` and ``panoptic``, thresholds of
            the merge. With ``panoptic_only=True`` detections that cannot
            reach the panoptic map get no mask and are left out: the same
            map in less time, and no AP.
        loss_weights (dict): ``instance`` (lambda_i) and ``semantic``
            (lambda_s); 1 where not given.
        fpn_groups (dict, optional): ``instance`` and ``semantic``: channels
            of each FPN level that only that branch sees, the instance
            branch's first. By default both see all. Table 3d.
        **kwargs: Same as mmdet's ``TwoStagePanopticSegmentor``.

    Raises:
        InputError: An unknown weight, no branch, groups that are not the
            channels of FPN, or ``panoptic_only`` with an NMS that changes
            scores.
    """

    def __init__(self,
                 panoptic_fusion_head: ConfigType,
                 rpn_head: OptConfigType = None,
                 roi_head: OptConfigType = None,
                 semantic_head: OptConfigType = None,
                 test_cfg: OptConfigType = None,
                 loss_weights: Optional[Dict[str, float]] = None,
                 fpn_groups: Optional[Dict[str, int]] = None,
                 **kwargs: Any) -> None:
        weights = dict(dict.fromkeys(BRANCHES, 1.0), **(loss_weights or {}))
        if not weights['instance']:
            rpn_head = roi_head = None
        if not weights['semantic']:
            semantic_head = None
        if set(weights) != set(BRANCHES) or not (roi_head or semantic_head):
            raise InputError(
                f'model.loss_weights={weights}: give instance (lambda_i) and '
                'semantic (lambda_s), one of them above 0 with its branch, '
                'model.roi_head or model.semantic_head.')
        if fpn_groups:
            _check_groups(fpn_groups, kwargs['neck']['out_channels'])
        test_cfg = ConfigDict(dict(panoptic=None), **(test_cfg or {}))
        self.panoptic_only = bool(test_cfg.get('panoptic_only'))
        if self.panoptic_only and roi_head:
            test_cfg = _without_faint_detections(test_cfg)
        super().__init__(
            rpn_head=rpn_head,
            roi_head=roi_head,
            semantic_head=semantic_head,
            panoptic_fusion_head=ConfigDict(panoptic_fusion_head),
            test_cfg=test_cfg,
            **kwargs)
        self.loss_weights = weights
        self.fpn_groups = fpn_groups
        self.trained_branch: Optional[str] = None
        guard_operators(self)
        self.memory_format = torch.contiguous_format

    def set_memory_format(self, memory_format: torch.memory_format) -> None:
        """Set the memory format of weights, images and features, such as
        ``torch.channels_last``; results are the same up to rounding."""
        self.memory_format = memory_format
        lay_out(self, memory_format)

    def init_weights(self) -> None:
        """Same as mmdet's, and the same weights in any memory format."""
        # random numbers are drawn in the order of the memory
        lay_out(self, torch.contiguous_format)
        super().init_weights()
        lay_out(self, self.memory_format)

    def extract_feat(self, batch_inputs: Tensor) -> Tuple[Tensor, ...]:
        """FPN levels (N, C, h, w) of images (N, 3, H, W)."""
        return super().extract_feat(
            batch_inputs.contiguous(memory_format=self.memory_format))

    def branch_features(self, feats: Tuple[Tensor, ...],
                        branch: str) -> Tuple[Tensor, ...]:
        """The FPN levels (N, C, h, w) as 'instance' or 'semantic' sees them:
        with ``fpn_groups`` copies of its own channels."""
        if not self.fpn_groups:
            return feats
        split = self.fpn_groups['instance']
        part = slice(split) if branch == 'instance' else slice(split, None)
        # mmcv's RoIAlign reads memory as if it were contiguous
        return tuple(feat[:, part].contiguous() for feat in feats)

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
        if self.with_roi_head and self.trained_branch != 'semantic':
            regions = self.branch_features(feats, 'instance')
            objects = [_as_objects(sample) for sample in batch_data_samples]
            rpn, proposals = self.rpn_head.loss_and_predict(
                regions,
                objects,
                proposal_cfg=self.train_cfg.get('rpn_proposal',
                                                self.test_cfg.rpn))
            region = self.roi_head.loss(
                roi_features(self.roi_head, regions), proposals,
                batch_data_samples)
            losses.update(rpn)
            losses.update(_scaled(region, self.loss_weights['instance']))
        if self.with_semantic_head and self.trained_branch != 'instance':
            semantic = self.semantic_head.loss(
                self.branch_features(feats, 'semantic'), batch_data_samples)
            losses.update(_scaled(semantic, self.loss_weights['semantic']))
        return losses

    def predict(self,
                batch_inputs: Tensor,
                batch_data_samples: SampleList,
                rescale: bool = True) -> SampleList:
        """Instances, semantic map and panoptic map of each image.

        Args:
            batch_inputs (Tensor): (N, 3, H, W).
            batch_data_samples (list[:obj:`DetDataSample`]): N, with the usual
                metainfo.
            rescale (bool): Results in the original image's pixels instead
                of the network input's.

        Returns:
            list[:obj:`DetDataSample`]: The samples, with

            - ``pred_instances``: ``bboxes`` (n, 4), ``scores``, ``labels``,
              ``masks`` (n, h, w) bool
            - ``pred_sem_seg.sem_seg`` (1, h, w): channel of the semantic
              branch; its metainfo ``predict_things`` gives their layout
            - ``pred_panoptic_seg.sem_seg`` (1, h, w) int32: label + 1000 *
              number, void = number of classes. Its metainfo
              ``instance_indices`` names for number i + 1 the index in
              ``pred_instances``.

            What belongs to a branch the model lacks is absent.
        """
        feats = self.extract_feat(batch_inputs)
        instances = self.predict_instances(feats, batch_data_samples, rescale)
        channels = self.predict_semantic(feats, batch_data_samples, rescale)
        for sample, found, channel in zip(batch_data_samples, instances,
                                          channels):
            self.add_predictions(sample, found, channel, rescale)
        return batch_data_samples

    def predict_instances(
            self,
            feats: Tuple[Tensor, ...],
            batch_data_samples: SampleList,
            rescale: bool = True) -> List[Optional[InstanceData]]:
        """Instances of each image; None without a region branch."""
        if not self.with_roi_head:
            return [None] * len(batch_data_samples)
        feats = self.branch_features(feats, 'instance')
        proposals = self.rpn_head.predict(
            feats, batch_data_samples, rescale=False)
        return self.roi_head.predict(
            roi_features(self.roi_head, feats),
            proposals,
            batch_data_samples,
            rescale=rescale)

    def predict_semantic(self,
                         feats: Tuple[Tensor, ...],
                         batch_data_samples: SampleList,
                         rescale: bool = True) -> List[Optional[Tensor]]:
        """Channel of each pixel (h, w) of each image; None without a
        semantic branch."""
        if not self.with_semantic_head:
            return [None] * len(batch_data_samples)
        metas = [sample.metainfo for sample in batch_data_samples]
        return self.semantic_head.predict_channels(
            self.branch_features(feats, 'semantic'), metas, rescale)

    def add_predictions(self,
                        sample: DetDataSample,
                        instances: Optional[InstanceData],
                        channels: Optional[Tensor],
                        rescale: bool = True) -> None:
        """Merge both branches, instances and channels (h, w), and fill a
        sample as :meth:`predict` says; with ``rescale`` both are of the
        original size."""
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
            regions = self.branch_features(feats, 'instance')
            proposals = self.rpn_head.predict(
                regions, batch_data_samples, rescale=False)
            outputs.extend(
                self.roi_head.forward(regions, proposals, batch_data_samples))
        if self.with_semantic_head:
            outputs.append(
                self.semantic_head(self.branch_features(feats, 'semantic')))
        return tuple(outputs)


def _check_groups(groups: Dict[str, int], channels: int) -> None:
    if (set(groups) != set(BRANCHES) or min(groups.values()) < 1
            or sum(groups.values()) != channels):
        raise InputError(
            f'model.fpn_groups={dict(groups)}: instance and semantic must '
            f'have channels that add up to model.neck.out_channels={channels}'
            '.')


def _without_faint_detections(test_cfg: ConfigDict) -> ConfigDict:
    """Settings with the merge's score threshold for the region branch, too.

    NMS takes detections from the most confident on, so those above the
    threshold are the same ones, except where rounding decides whether an IoU
    exceeds NMS's threshold.
    """
    test_cfg = copy.deepcopy(test_cfg)
    kind = test_cfg.rcnn.get('nms', {}).get('type', 'nms')
    if kind != 'nms':
        raise InputError(
            f'model.test_cfg.panoptic_only with test_cfg.rcnn.nms.type='
            f"{kind!r}: it changes scores. Set 'nms', or leave panoptic_only "
            'out.')
    # detections are kept above their threshold, the merge keeps its own, too
    merge = dict(DEFAULTS, **(test_cfg.panoptic or {}))
    lowest = np.nextafter(np.float32(merge['score_thr']), np.float32(-1))
    test_cfg.rcnn.score_thr = max(float(lowest), test_cfg.rcnn.score_thr)
    return test_cfg


def _scaled(losses: Dict[str, Tensor], weight: float) -> Dict[str, Tensor]:
    """Weighted losses; entries that are not losses ('acc') as they are."""
    return {
        name: value * weight if 'loss' in name else value
        for name, value in losses.items()
    }


def _as_objects(sample: DetDataSample) -> DetDataSample:
    """A sample for RPN, where every instance has the one class 'object'.

    Only what RPN reads: mmdet copies the masks too, which takes longer than
    RPN's loss.
    """
    instances = sample.gt_instances
    objects = DetDataSample(metainfo=sample.metainfo)
    objects.gt_instances = InstanceData(
        bboxes=instances.bboxes, labels=torch.zeros_like(instances.labels))
    objects.ignored_instances = sample.ignored_instances
    return objects
