"""Multi-scale and flipped inference of all branches, merged once.

In    inputs[a][n]  (3, h, w), image n of the batch after augmentation a
Out   as ``TwoStagePanopticFPN.predict``, at the original size

Boxes       detected in each augmentation, mapped back to the original image
            and merged by the NMS of the region branch
Masks       of the merged boxes, in each augmentation; their probabilities
            (n, C, 28, 28) are flipped back and averaged
Semantic    probabilities (K, h, w) at the original size, averaged
Panoptic    one merge of the two

Boxes are merged first, since only masks of the same box can be averaged. For
this the region branch's FPN levels of every augmentation are kept: 90 MB for
an image of 800 x 1333 pixels. Of the semantic branch only the sum is held.
"""
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from mmcv.ops import batched_nms
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi, bbox_flip
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..ops.operator_inputs import roi_features

#: Axes of maps (..., h, w) that a flip reverses.
_FLIPPED = dict(horizontal=(-1, ), vertical=(-2, ), diagonal=(-2, -1))


class View(NamedTuple):
    """What the region branch keeps of one augmentation of a batch."""

    metas: List[dict]
    #: FPN levels (N, C, h, w)
    feats: Tuple[Tensor, ...]
    #: Boxes of each image, in pixels of the augmented one.
    found: List[InstanceData]


@MODELS.register_module()
class PanopticTTAModel(BaseTTAModel):
    """Instances, semantic and panoptic map over test-time augmentations.

    ``tools/test.py --tta`` puts it around the model of a config and replaces
    the test pipeline by ``tta_pipeline``. For a model with one branch it
    averages what there is.

    Args:
        module (dict | nn.Module): A ``TwoStagePanopticFPN`` or a
            ``TwoNetworkPanopticFPN``.
        tta_cfg (dict, optional): ``nms`` and ``max_per_img`` of the boxes of
            all augmentations; by default those of
            ``model.test_cfg.rcnn``.
        class_balance (dict, optional): ``file`` and ``power`` of
            ``SemanticFPNHead.balance_classes``: each augmentation's
            probabilities are balanced before they are averaged (Table 1b).
        **kwargs: Same as mmengine's ``BaseTTAModel``.
    """

    def __init__(self,
                 module: Union[dict, nn.Module],
                 tta_cfg: Optional[dict] = None,
                 class_balance: Optional[dict] = None,
                 **kwargs: Any) -> None:
        super().__init__(module, **kwargs)
        self.tta_cfg = dict(tta_cfg or {})
        if class_balance is not None:
            self._parts[1].semantic_head.balance_classes(**class_balance)

    @property
    def _parts(self) -> Tuple[nn.Module, nn.Module]:
        """What has the region branch and what has the semantic one."""
        networks = getattr(self.module, 'networks', ())
        if not networks:
            return self.module, self.module
        return tuple(getattr(self.module, name) for name in networks)

    @torch.no_grad()
    def test_step(self, data: dict) -> SampleList:
        """Predict a batch that ``TestTimeAug`` augmented.

        Args:
            data (dict): ``inputs`` and ``data_samples``, for each
                augmentation a list over the images of the batch.

        Returns:
            list[:obj:`DetDataSample`]: Samples of the first augmentation with
            the predictions of ``TwoStagePanopticFPN.predict`` at the original
            size.
        """
        samples: SampleList = []
        views: List[View] = []
        totals: List[Tensor] = []
        alone = len(data['inputs']) == 1
        for values in zip(*data.values()):
            batch = self.module.data_preprocessor(
                dict(zip(data, values)), False)
            self._add_view(batch, views, totals, alone)
            samples = samples or batch['data_samples']
        nothing = [None] * len(samples)
        instances = self._merge_instances(views) if views else nothing
        channels = [total.argmax(dim=0) for total in totals] or nothing
        for sample, *branches in zip(samples, instances, channels):
            self._parts[1].add_predictions(sample, *branches, rescale=True)
        return samples

    def _add_view(self, batch: dict, views: List[View], totals: List[Tensor],
                  alone: bool) -> None:
        """Add what the branches see of one augmentation to ``views`` and
        ``totals``; see :func:`add_scores`."""
        region, semantic = self._parts
        samples = batch['data_samples']
        metas = [sample.metainfo for sample in samples]
        feats = self.module.extract_feat(batch['inputs'])
        of_region, of_semantic = (
            feats if region is not semantic else (feats, feats))
        if semantic.with_semantic_head:
            add_scores(semantic.semantic_head,
                       semantic.branch_features(of_semantic, 'semantic'),
                       metas, totals, alone)
        if region.with_roi_head:
            of_region = region.branch_features(of_region, 'instance')
            proposals = region.rpn_head.predict(
                of_region, samples, rescale=False)
            of_region = roi_features(region.roi_head, of_region)
            found = region.roi_head.predict_bbox(
                of_region,
                metas,
                proposals,
                region.roi_head.test_cfg,
                rescale=False)
            views.append(View(metas, of_region, found))

    def _merge_instances(self, views: List[View]) -> List[InstanceData]:
        """Instances of each image at its original size."""
        head = self._parts[0].roi_head
        settings = {
            'nms': head.test_cfg['nms'],
            'max_per_img': head.test_cfg['max_per_img'],
            **self.tta_cfg
        }
        # from augmentations of images to images of augmentations
        found = zip(*(map(to_original, v.found, v.metas) for v in views))
        merged = [merge_boxes(boxes, **settings) for boxes in found]
        masks = average_masks(head, views, merged)
        sizes = [
            dict(ori_shape=meta['ori_shape'], scale_factor=(1.0, 1.0))
            for meta in views[0].metas
        ]
        # in a cascade the last stage pastes
        return _stages(head.mask_head)[-1].predict_by_feat(
            masks,
            merged,
            sizes,
            head.test_cfg,
            rescale=False,
            activate_map=True)

    #: mmengine's abstract method; here :meth:`test_step` merges.
    merge_preds = None


@MODELS.register_module()
class SemanticTTAModel(PanopticTTAModel):
    """:class:`PanopticTTAModel`, in configs of a semantic branch alone."""


def to_original(found: InstanceData, meta: dict) -> InstanceData:
    """Instances with the boxes of an augmented image in the original one.

    Args:
        found (InstanceData): ``bboxes`` (n, 4), ``scores`` and ``labels``.
        meta (dict): ``img_shape`` (h, w), ``scale_factor`` (w, h), ``flip``
            and ``flip_direction`` of the augmented image.
    """
    boxes = _mirrored(found.bboxes, meta)
    return InstanceData(
        bboxes=boxes / boxes.new_tensor(meta['scale_factor']).repeat(2),
        scores=found.scores,
        labels=found.labels)


def to_augmented(boxes: Tensor, meta: dict) -> Tensor:
    """Boxes (n, 4) of the original image in an augmented one; the inverse of
    :func:`to_original`."""
    scale = boxes.new_tensor(meta['scale_factor']).repeat(2)
    return _mirrored(boxes * scale, meta)


def _mirrored(boxes: Tensor, meta: dict) -> Tensor:
    if not meta.get('flip'):
        return boxes
    return bbox_flip(boxes, meta['img_shape'], meta['flip_direction'])


def merge_boxes(found: Sequence[InstanceData], nms: dict,
                max_per_img: int) -> InstanceData:
    """NMS over the boxes of all augmentations of an image, in one frame.

    Args:
        found (Sequence[InstanceData]): ``bboxes`` (n, 4), ``scores`` and
            ``labels`` of each augmentation.
        nms (dict): Same as ``model.test_cfg.rcnn.nms``.
        max_per_img (int): Most instances that are kept, the most confident
            first; all if negative.
    """
    every = InstanceData.cat(list(found))
    if not len(every):
        return every
    boxes, kept = batched_nms(every.bboxes, every.scores, every.labels, nms)
    merged = InstanceData(
        bboxes=boxes[:, :4], scores=boxes[:, 4], labels=every.labels[kept])
    return merged[:max_per_img] if max_per_img > 0 else merged


def average_masks(roi_head: nn.Module, views: List[View],
                  merged: List[InstanceData]) -> List[Tensor]:
    """Mask probabilities (n, C, 28, 28) of each image's ``merged`` boxes,
    which are in pixels of the original image, over all views."""
    numbers = [len(instances) for instances in merged]
    if not sum(numbers):  # heads want a box
        return [instances.bboxes.new_zeros(0) for instances in merged]
    totals: List[Tensor] = []
    for view in views:
        rois = bbox2roi([
            to_augmented(instances.bboxes, meta)
            for instances, meta in zip(merged, view.metas)
        ])
        # stages of a cascade are averaged, too
        stages = [
            head(extract(view.feats[:extract.num_inputs], rois)).sigmoid()
            for head, extract in zip(
                _stages(roi_head.mask_head),
                _stages(roi_head.mask_roi_extractor))
        ]
        mean = sum(stages[1:], stages[0]) / len(stages)
        masks = list(map(flip_back, mean.split(numbers), view.metas))
        totals = [a + b for a, b in zip(totals, masks)] if totals else masks
    return [total / len(views) for total in totals]


def _stages(heads: nn.Module) -> Sequence[nn.Module]:
    """Heads of a ``CascadeRoIHead``, or the one of a ``StandardRoIHead``."""
    return heads if isinstance(heads, nn.ModuleList) else [heads]


def add_scores(head: nn.Module, feats: Tuple[Tensor, ...], metas: List[dict],
               totals: List[Tensor], alone: bool) -> None:
    """Add one augmentation's semantic scores of each image to ``totals``,
    sums (K, h, w) at the original size, empty before the first.

    If it is the only one (``alone``), its logits stand for themselves:
    rounding of their probabilities must not decide between two classes.
    """
    logits = head.predict(feats, metas, rescale=True)
    for index, (single, meta) in enumerate(zip(logits, metas)):
        scores = flip_back(single if alone else single.softmax(dim=0), meta)
        if index == len(totals):
            totals.append(scores)
        else:
            totals[index] += scores


def flip_back(maps: Tensor, meta: dict) -> Tensor:
    """Maps (..., h, w) of an image with its flip undone."""
    if not meta.get('flip'):
        return maps
    return maps.flip(_FLIPPED[meta['flip_direction']])
