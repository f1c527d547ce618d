"""Multi-scale and flipped inference of both branches, merged once.

In    inputs[a][n]  (3, h, w), image n of the batch after augmentation a
Out   as ``TwoStagePanopticFPN.predict``, at the original size

Boxes       detected in each augmentation, mapped back to the original image
            and merged by the NMS of the region branch
Masks       of the merged boxes, in each augmentation; their probabilities
            (n, C, 28, 28) are flipped back and averaged
Semantic    probabilities (K, h, w) at the original size, averaged
Panoptic    one merge of the two

Boxes are merged first, since masks can be averaged of one box alone. For this
the FPN levels of the region branch are kept, of every augmentation: 90 MB for
an image of 800 x 1333 pixels.
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

from mmengine_exact.errors import InputError

from .semantic_tta import add_scores, augmented_batches, flip_back


class View(NamedTuple):
    """What the region branch keeps of one augmentation of a batch.

    Args:
        metas (list[dict]): Of its images.
        feats (tuple[Tensor]): FPN levels (N, C, h, w).
        found (list[InstanceData]): Boxes of each image, in its pixels.
    """

    metas: List[dict]
    feats: Tuple[Tensor, ...]
    found: List[InstanceData]


@MODELS.register_module()
class PanopticTTAModel(BaseTTAModel):
    """Instances, semantic and panoptic map over test-time augmentations.

    ``tools/test.py --tta`` puts it around the model of a config, and
    ``tta_pipeline`` in the place of the test pipeline. A model with one
    branch is averaged over what it has.

    Args:
        module (dict | nn.Module): A ``TwoStagePanopticFPN`` or a
            ``TwoNetworkPanopticFPN``.
        tta_cfg (dict, optional): ``nms`` and ``max_per_img`` of the boxes of
            all augmentations; what is not given is that of
            ``model.test_cfg.rcnn``.
        **kwargs: As mmengine's ``BaseTTAModel``.

    Raises:
        InputError: Another model, an unknown key of ``tta_cfg``, or data
            that were not augmented.
    """

    def __init__(self,
                 module: Union[dict, nn.Module],
                 tta_cfg: Optional[dict] = None,
                 **kwargs: Any) -> None:
        super().__init__(module, **kwargs)
        unknown = sorted(set(tta_cfg or ()) - {'nms', 'max_per_img'})
        if unknown:
            raise InputError(f'tta_model.tta_cfg has {unknown}; known are '
                             "'nms' and 'max_per_img'. Correct the name.")
        self.tta_cfg = dict(tta_cfg or {})
        if not all(hasattr(part, 'add_predictions') for part in self._parts):
            raise InputError(
                f'PanopticTTAModel: {type(self.module).__name__} has not the '
                'two branches of a TwoStagePanopticFPN. Leave --tta out.')

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
        batches = augmented_batches(data, type(self).__name__)
        samples: SampleList = []
        views: List[View] = []
        totals: List[Tensor] = []
        for batch in batches:
            batch = self.module.data_preprocessor(batch, False)
            self._look(batch, views, totals, alone=len(batches) == 1)
            samples = samples or batch['data_samples']
        instances = [None] * len(samples)
        if views:
            instances = self._merge_instances(views)
        channels = [total.argmax(dim=0) for total in totals]
        channels = channels or [None] * len(samples)
        for sample, *branches in zip(samples, instances, channels):
            self._parts[1].add_predictions(sample, *branches, rescale=True)
        return samples

    def _look(self, batch: dict, views: List[View], totals: List[Tensor],
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
        settings = dict(head.test_cfg, **self.tta_cfg)
        # from augmentations of images to images of augmentations
        found = zip(*([to_original(*pair) for pair in zip(v.found, v.metas)]
                      for v in views))
        merged = [
            merge_boxes(boxes, settings['nms'], settings['max_per_img'])
            for boxes in found
        ]
        masks = average_masks(head, views, merged)
        sizes = [
            dict(ori_shape=meta['ori_shape'], scale_factor=(1.0, 1.0))
            for meta in views[0].metas
        ]
        return last_mask_head(head).predict_by_feat(
            masks,
            merged,
            sizes,
            head.test_cfg,
            rescale=False,
            activate_map=True)

    def merge_preds(self, data_samples_list: List[SampleList]) -> SampleList:
        """Not used: masks are predicted after boxes were merged."""
        raise NotImplementedError('PanopticTTAModel merges in test_step.')


def to_original(found: InstanceData, meta: dict) -> InstanceData:
    """Instances with the boxes of an augmented image in the original one.

    Args:
        found (InstanceData): ``bboxes`` (n, 4), ``scores`` and ``labels``.
        meta (dict): ``img_shape`` (h, w), ``scale_factor`` (w, h), ``flip``
            and ``flip_direction`` of the augmented image.
    """
    boxes = found.bboxes
    if meta.get('flip'):
        boxes = bbox_flip(boxes, meta['img_shape'], meta['flip_direction'])
    return InstanceData(
        bboxes=boxes / _factors(boxes, meta),
        scores=found.scores,
        labels=found.labels)


def to_augmented(boxes: Tensor, meta: dict) -> Tensor:
    """Boxes (n, 4) of the original image in an augmented one; the inverse of
    :func:`to_original`."""
    boxes = boxes * _factors(boxes, meta)
    if meta.get('flip'):
        boxes = bbox_flip(boxes, meta['img_shape'], meta['flip_direction'])
    return boxes


def _factors(boxes: Tensor, meta: dict) -> Tensor:
    return boxes.new_tensor(meta['scale_factor']).repeat(2)


def merge_boxes(found: Sequence[InstanceData], nms: dict,
                limit: int) -> InstanceData:
    """NMS over the boxes of all augmentations of an image.

    Args:
        found (Sequence[InstanceData]): Of each augmentation, in one frame.
        nms (dict): As ``model.test_cfg.rcnn.nms``.
        limit (int): Most instances that are kept; all if negative.

    Returns:
        InstanceData: ``bboxes``, ``scores`` and ``labels``, the most
        confident first.
    """
    every = InstanceData.cat(list(found))
    if not len(every):
        return every
    boxes, kept = batched_nms(every.bboxes, every.scores, every.labels, nms)
    merged = InstanceData(
        bboxes=boxes[:, :4], scores=boxes[:, 4], labels=every.labels[kept])
    return merged[:limit] if limit > 0 else merged


def average_masks(roi_head: nn.Module, views: List[View],
                  merged: List[InstanceData]) -> List[Tensor]:
    """Mask probabilities (n, C, 28, 28) of each image's boxes.

    Args:
        roi_head (nn.Module): With a mask branch.
        views (list[View]): Of all augmentations.
        merged (list[InstanceData]): Boxes of each image in its original
            pixels.
    """
    numbers = [len(instances) for instances in merged]
    if not sum(numbers):  # heads want a box
        return [instances.bboxes.new_zeros(0) for instances in merged]
    totals: List[Tensor] = []
    for view in views:
        rois = bbox2roi([
            to_augmented(instances.bboxes, meta)
            for instances, meta in zip(merged, view.metas)
        ])
        masks = mask_probabilities(roi_head, view.feats, rois).split(numbers)
        masks = [flip_back(*pair) for pair in zip(masks, view.metas)]
        totals = [a + b for a, b in zip(totals, masks)] if totals else masks
    return [total / len(views) for total in totals]


def mask_probabilities(roi_head: nn.Module, feats: Tuple[Tensor, ...],
                       rois: Tensor) -> Tensor:
    """Mask probabilities (n, C, 28, 28) of boxes, not yet pasted.

    Args:
        roi_head (nn.Module): mmdet's ``StandardRoIHead`` or
            ``CascadeRoIHead``, whose stages are averaged.
        feats (tuple[Tensor]): FPN levels.
        rois (Tensor): (n, 5), as of ``bbox2roi``.
    """
    heads, extractors = roi_head.mask_head, roi_head.mask_roi_extractor
    if not isinstance(heads, nn.ModuleList):
        heads, extractors = [heads], [extractors]
    stages = [
        head(extract(feats[:extract.num_inputs], rois)).sigmoid()
        for head, extract in zip(heads, extractors)
    ]
    return sum(stages[1:], stages[0]) / len(stages)


def last_mask_head(roi_head: nn.Module) -> nn.Module:
    """The mask head that pastes: of a cascade the last stage's."""
    heads = roi_head.mask_head
    return heads[-1] if isinstance(heads, nn.ModuleList) else heads
