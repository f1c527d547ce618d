"""mmdet's parts of the region branch with fewer waits of the host for a GPU.

The same numbers, bit by bit. mmdet waits for every ground-truth box that it
assigns, every boolean index and every list that becomes a tensor. Here sizes
follow from what the host knows, and lists travel without a wait. What is left
is the sampler's wait for the numbers of candidates: random numbers are drawn
on the host.
"""
import copy
import math
from typing import Any, Iterator, List, Tuple

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.task_modules import (AnchorGenerator, AssignResult,
                                       BboxOverlaps2D, MaxIoUAssigner,
                                       RandomSampler)
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox import BaseBoxes, get_box_tensor, get_box_wh
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from ..ops import use_fast


@TASK_UTILS.register_module()
class SyncFreeAnchorGenerator(AnchorGenerator):
    """mmdet's ``AnchorGenerator``; its base anchors travel without a wait."""

    def grid_priors(self,
                    featmap_sizes: List[Tuple[int, int]],
                    dtype: torch.dtype = torch.float32,
                    device: Any = 'cuda') -> List[Tensor]:
        """Anchors (h * w * A, 4) of levels of (h, w) cells, in pixels."""
        there = copy.copy(self)
        there.base_anchors = [
            anchors.to(device, non_blocking=True)
            for anchors in self.base_anchors
        ]
        return AnchorGenerator.grid_priors(there, featmap_sizes, dtype, device)


class _Overlaps(BboxOverlaps2D):
    """mmdet's ``BboxOverlaps2D``, one coordinate at a time."""

    def __call__(self,
                 bboxes1: Tensor,
                 bboxes2: Tensor,
                 mode: str = 'iou',
                 is_aligned: bool = False) -> Tensor:
        """IoU, or covered share of the first ('iof'), of float32 boxes (m, 4)
        and (n, 4): (m, n)."""
        a, b = get_box_tensor(bboxes1), get_box_tensor(bboxes2)
        if (not use_fast() or is_aligned or mode == 'giou'
                or not a.numel() * b.numel()):
            return super().__call__(a, b, mode, is_aligned)
        (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a.T[:4, :, None], b.T[:4]
        width = (torch.min(ax2, bx2) - torch.max(ax1, bx1)).clamp_(min=0)
        height = (torch.min(ay2, by2) - torch.max(ay1, by1)).clamp_(min=0)
        shared, area = width.mul_(height), (ax2 - ax1) * (ay2 - ay1)
        if mode == 'iou':
            area = area + (bx2 - bx1) * (by2 - by1) - shared
        return shared / area.clamp(min=1e-6)


@TASK_UTILS.register_module()
class SyncFreeMaxIoUAssigner(MaxIoUAssigner):
    """mmdet's ``MaxIoUAssigner``, all ground truth at once, without a wait."""

    def __init__(self,
                 *args: Any,
                 iou_calculator: dict = dict(type=_Overlaps),
                 **kwargs: Any) -> None:
        super().__init__(*args, iou_calculator=iou_calculator, **kwargs)

    def assign_wrt_overlaps(self, overlaps: Tensor,
                            gt_labels: Tensor) -> AssignResult:
        """Ground truth of each box, given overlaps (k, n) of k ground-truth
        boxes and n boxes and the labels (k, )."""
        if (not use_fast() or not overlaps.numel()
                or not isinstance(self.neg_iou_thr, float)):
            return super().assign_wrt_overlaps(overlaps, gt_labels)
        best, nearest = overlaps.max(dim=0)
        negative = (best >= 0) & (best < self.neg_iou_thr)
        found = torch.where(best >= self.pos_iou_thr, nearest + 1,
                            negative.long() - 1)
        if self.match_low_quality:
            matched = self._best_boxes(overlaps)
            found = torch.where(matched > 0, matched, found)
        labels = torch.where(found > 0, gt_labels[(found - 1).clamp(min=0)],
                             -1)
        return AssignResult(len(overlaps), found, best, labels)

    def _best_boxes(self, overlaps: Tensor) -> Tensor:
        """Number from 1 of the ground truth of which each box is the best,
        the last one if there are several; 0 if there is none."""
        best, index = overlaps.max(dim=1, keepdim=True)
        if self.gt_max_assign_all:
            matched = overlaps == best
        else:
            boxes = torch.arange(overlaps.shape[1], device=overlaps.device)
            matched = boxes == index
        numbers = torch.arange(1, len(overlaps) + 1, device=overlaps.device)
        numbers = numbers.int()[:, None] * (best >= self.min_pos_iou)
        return (matched * numbers).amax(dim=0).long()


@TASK_UTILS.register_module()
class SyncFreeRandomSampler(RandomSampler):
    """mmdet's ``RandomSampler`` with the same draws and one wait."""

    def sample(self, assign_result: AssignResult, pred_instances: InstanceData,
               gt_instances: InstanceData, **kwargs: Any) -> SamplingResult:
        """Positive and negative boxes among ``pred_instances.priors``."""
        priors, truth = pred_instances.priors, gt_instances.bboxes
        if not use_fast() or isinstance(priors, BaseBoxes):
            return super().sample(assign_result, pred_instances, gt_instances,
                                  **kwargs)
        is_truth = priors.new_zeros(len(priors), dtype=torch.uint8)
        if self.add_gt_as_proposals and len(truth):
            priors = torch.cat([get_box_tensor(truth), priors])
            assign_result.add_gt_(gt_instances.labels)
            is_truth = torch.cat([is_truth.new_ones(len(truth)), is_truth])
        return SamplingResult(*self._draw(assign_result.gt_inds), priors,
                              truth, assign_result, is_truth)

    def _draw(self, gt_inds: Tensor) -> Iterator[Tensor]:
        """Ascending indices of the positive and of the negative boxes drawn,
        given the assignment (n, )."""
        # the k-th candidate is where the running count reaches k
        counts = torch.stack([gt_inds > 0, gt_inds == 0]).cumsum(dim=1)
        positives, negatives = counts[:, -1:].sum(dim=1).tolist()  # waits
        positive = _draw_numbers(positives, int(self.num * self.pos_fraction))
        most = self.num - len(positive)
        if self.neg_pos_ub >= 0:
            most = min(most, int(self.neg_pos_ub * max(1, len(positive))))
        for count, numbers in zip(counts,
                                  (positive, _draw_numbers(negatives, most))):
            yield torch.searchsorted(
                count, numbers.to(count.device, non_blocking=True))


def _draw_numbers(last: int, most: int) -> Tensor:
    """At most ``most`` of the numbers 1 to ``last``, ascending, as mmdet's
    ``RandomSampler.random_choice`` draws them."""
    if last <= most:
        return torch.arange(1, last + 1)
    return torch.randperm(last)[:most].sort().values + 1


@MODELS.register_module()
class SyncFreeRPNHead(RPNHead):
    """mmdet's ``RPNHead``, where the anchors inside an image are indices that
    follow from its size, not flags.

    With ``train_cfg.rpn.allowed_border`` from 0 on they depend on the anchors,
    and are flags.
    """

    @property
    def _has_indices(self) -> bool:
        return use_fast() and self.train_cfg['allowed_border'] < 0

    def get_anchors(self,
                    featmap_sizes: List[Tuple[int, int]],
                    batch_img_metas: List[dict],
                    device: Any = 'cuda') -> tuple:
        """Anchors of each image and level, and indices of those inside the
        image among the anchors of all levels."""
        if not self._has_indices:
            return super().get_anchors(featmap_sizes, batch_img_metas, device)
        anchors = self.prior_generator.grid_priors(
            featmap_sizes, device=device)
        return [anchors] * len(batch_img_metas), [
            list(self._inside(featmap_sizes, meta['pad_shape'], device))
            for meta in batch_img_metas
        ]

    def _inside(self, featmap_sizes: List[Tuple[int, int]],
                pad_shape: Tuple[int, ...], device: Any) -> Iterator[Tensor]:
        start, generator = 0, self.prior_generator
        for (h, w), (x, y), number in zip(featmap_sizes, generator.strides,
                                          generator.num_base_priors):
            stop = start + h * w * number
            index = torch.arange(start, stop, device=device).view(h, w, number)
            rows, columns = (math.ceil(pad_shape[0] / y),
                             math.ceil(pad_shape[1] / x))
            yield index[:rows, :columns].flatten()
            start = stop

    def _get_targets_single(self,
                            flat_anchors: Tensor,
                            valid_flags: Tensor,
                            *args: Any,
                            unmap_outputs: bool = True) -> tuple:
        """Labels (n, ), their weights, deltas (n, 4) and their weights of the
        anchors (n, 4) of an image, and what was sampled. ``valid_flags`` are
        flags or indices, as :meth:`get_anchors` returns them."""
        unmap = unmap_outputs and self._has_indices
        targets = super()._get_targets_single(
            flat_anchors,
            valid_flags,
            *args,
            unmap_outputs=unmap_outputs and not unmap)
        if not unmap:
            return targets
        return tuple(
            target.new_full((len(flat_anchors), *target.shape[1:]
                             ), fill).index_copy_(0, valid_flags, target)
            for target, fill in zip(targets, (self.num_classes, 0, 0,
                                              0))) + targets[4:]

    def _bbox_post_process(self, results: InstanceData, cfg: ConfigDict, *args:
                           Any, **kwargs: Any) -> InstanceData:
        """Proposals of an image, by NMS among boxes of ``results`` longer than
        ``cfg.min_bbox_size`` pixels."""
        least = cfg.get('min_bbox_size', -1)
        if least >= 0 and use_fast() and not kwargs.get('rescale'):
            w, h = get_box_wh(results.bboxes)
            large = (w > least) & (h > least)
            results = results[large.nonzero()[:, 0]]  # waits, once
            cfg = ConfigDict(cfg, min_bbox_size=-1)
        return super()._bbox_post_process(results, cfg, *args, **kwargs)
