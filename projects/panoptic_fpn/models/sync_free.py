"""mmdet's parts of the region branch with fewer waits of the host for a GPU.

The same numbers, bit by bit. mmdet's assigner waits for every ground-truth
box, its sampler for every list of candidates. Here the sampler waits once, for
their numbers: random numbers are drawn on the host.
"""
from typing import Any, Iterator, List, Tuple

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.task_modules import (AssignResult, MaxIoUAssigner,
                                       RandomSampler)
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox import BaseBoxes, get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from ..ops import use_fast


@TASK_UTILS.register_module()
class SyncFreeMaxIoUAssigner(MaxIoUAssigner):
    """mmdet's ``MaxIoUAssigner``, all ground truth at once, without a wait."""

    def assign_wrt_overlaps(self, overlaps: Tensor,
                            gt_labels: Tensor) -> AssignResult:
        """Ground truth of each box, given overlaps (k, n) of k ground-truth
        boxes and n boxes and the labels (k, )."""
        if (not use_fast() or not overlaps.numel()
                or not isinstance(self.neg_iou_thr, float)
                or not self.gt_max_assign_all):
            return super().assign_wrt_overlaps(overlaps, gt_labels)
        best, nearest = overlaps.max(dim=0)
        negative = (best >= 0) & (best < self.neg_iou_thr)
        found = torch.where(best >= self.pos_iou_thr, nearest + 1,
                            negative.long() - 1)
        if self.match_low_quality:
            # a box that is the best of several is the last one's
            most = overlaps.amax(dim=1, keepdim=True)
            numbers = torch.arange(
                1, len(most) + 1, device=most.device, dtype=torch.int32)
            numbers = numbers[:, None] * (most >= self.min_pos_iou)
            last = ((overlaps == most) * numbers).amax(dim=0).long()
            found = torch.where(last > 0, last, found)
        labels = torch.where(found > 0, gt_labels[(found - 1).clamp(min=0)],
                             -1)
        return AssignResult(len(overlaps), found, best, labels)


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
    """mmdet's ``RPNHead``, whose base anchors go to a GPU once."""

    def forward(self, x: Tuple[Tensor, ...]) -> Tuple[List[Tensor], ...]:
        """Objectness (N, A, h, w) and deltas (N, 4 * A, h, w) of each level
        (N, C, h, w)."""
        generator = self.prior_generator
        generator.base_anchors = [
            anchors.to(x[0].device) for anchors in generator.base_anchors
        ]
        return super().forward(x)
