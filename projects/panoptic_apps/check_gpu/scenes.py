"""Inputs that look like COCO's and Cityscapes', drawn from a seed.

Ellipses of things lie on regions of stuff. Sizes are (h, w) in pixels, boxes
(x1, y1, x2, y2), masks (n, h, w) bool.
"""
from dataclasses import dataclass, replace
from typing import Any, List, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.structures import InstanceData
from torch import Tensor

from panoptic_fpn.cityscapes import label_space as cityscapes_space
from panoptic_fpn.config_files import find_config
from panoptic_fpn.labels import LabelSpace

Size = Tuple[int, int]


@dataclass(frozen=True)
class Case:
    """Sizes and contents of a data set's images."""

    name: str
    config: str
    space: LabelSpace
    #: images in training, how many a step has, and their things
    crop: Size
    batch: int
    instances: int
    #: an image in evaluation, as the network sees it and as in its file
    image: Size
    original: Size
    #: instances that are found, and those that the merge accepts
    detections: int = 100
    confident: int = 12
    #: boxes that the box head sees of an image, in training and evaluation
    rois: int = 512
    proposals: int = 1000

    def quick(self) -> 'Case':
        """The same in small, with one image in training."""
        return replace(
            self,
            crop=_small(self.crop),
            image=_small(self.image),
            original=_small(self.original),
            batch=1,
            instances=5,
            detections=20,
            confident=6,
            rois=32,
            proposals=64)


def _small(size: Size) -> Size:
    return max(64, size[0] // 16), max(64, size[1] // 16)


def label_space(things: int, stuff: int) -> LabelSpace:
    """Classes without real names."""
    return LabelSpace.from_coco([
        dict(id=i, name=f'class {i}', isthing=int(i < things))
        for i in range(things + stuff)
    ])


COCO = Case('COCO', 'coco/panoptic-fpn_r50_fpn_1x_coco', label_space(80, 53),
            (800, 1333), 2, 8, (800, 1067), (480, 640))
CITYSCAPES = Case(
    'Cityscapes',
    'cityscapes/panoptic-fpn_r50_fpn_65k_cityscapes',
    cityscapes_space(), (512, 1024),
    4,
    20, (1024, 2048), (1024, 2048),
    confident=30)


def blobs(number: int,
          size: Size,
          num_things: int,
          confident: int = 0,
          seed: int = 0) -> InstanceData:
    """Ellipses with masks, bboxes, labels, and scores in any order:
    ``confident`` of them above 0.5, others from 0.05 to 0.5."""
    rng = np.random.default_rng(seed)
    sides = rng.uniform(.05, .3, (number, 2)) * size / 2
    centers = rng.uniform(sides, size - sides)
    y, x = np.ogrid[:size[0], :size[1]]
    masks = np.zeros((number, *size), bool)
    for mask, (cy, cx), (ry, rx) in zip(masks, centers, sides):
        mask[:] = ((y - cy) / ry)**2 + ((x - cx) / rx)**2 < 1
    corners = np.concatenate([centers - sides, centers + sides], 1)
    scores = np.concatenate([
        np.linspace(.99, .51, confident),
        np.linspace(.49, .06, number - confident)
    ])
    return InstanceData(
        masks=torch.from_numpy(masks),
        bboxes=torch.from_numpy(corners[:, [1, 0, 3, 2]]).float(),
        scores=torch.from_numpy(rng.permutation(scores)).float(),
        labels=torch.from_numpy(rng.integers(0, num_things, number)))


def smooth_fields(number: int, size: Size, cells: int,
                  generator: torch.Generator) -> Tensor:
    """Random (number, h, w) that vary over h / cells pixels."""
    coarse = [max(round(side * cells / size[0]), 2) for side in size]
    return F.interpolate(
        torch.randn(1, number, *coarse, generator=generator),
        size,
        mode='bicubic')[0]


def semantic_logits(channels: int, size: Size, regions: int,
                    generator: torch.Generator) -> Tensor:
    """Logits (1, channels, h, w) of smooth regions with blurred boundaries,
    a smooth field for each class and noise.

    Args:
        size (tuple[int, int]): (h, w), at the stride of the logits.
        regions (int): Of the semantic map, about; 0: noise alone.
    """
    noisy = torch.randn(channels, *size, generator=generator)
    if not regions:
        return noisy[None]
    fields = smooth_fields(regions, size, 4, generator)
    fields += 0.2 * smooth_fields(regions, size, 24, generator)
    classes = torch.randperm(
        max(channels, regions), generator=generator) % channels
    region = classes[fields.argmax(0)]
    inside = F.one_hot(region, channels).permute(2, 0, 1).float()
    blurred = F.avg_pool2d(inside[None], 5, 1, 2, count_include_pad=False)[0]
    logits = 6 * blurred + smooth_fields(channels, size, 12, generator)
    return (logits + 0.3 * noisy)[None]


def training_batch(case: Case, side: str) -> dict:
    """A batch as a loader gives it, with the targets of 'ours' or 'mmdet'."""
    drawn = [
        _drawn(case, case.crop, case.crop, seed) for seed in range(case.batch)
    ]
    return _packed(drawn, _config(case).train_pipeline, side)


def evaluation_batch(case: Case, side: str) -> dict:
    """An image as a loader gives it; for 'ours' with its panoptic
    annotation."""
    drawn = [_drawn(case, case.image, case.original, 0)]
    packed = _packed(drawn, _config(case).test_pipeline, 'ours')
    if side == 'mmdet':
        del packed['data_samples'][0].gt_panoptic_seg
    return packed


def _config(case: Case) -> Config:
    return Config.fromfile(find_config(case.config))


def _drawn(case: Case, image: Size, annotated: Size, seed: int) -> dict:
    """What the transforms before ``DerivePanopticTargets`` make."""
    generator = torch.Generator().manual_seed(seed)
    num_things = case.space.num_things
    stuff = smooth_fields(8, annotated, 4, generator).argmax(0).numpy()
    things = blobs(case.instances, annotated, num_things, seed=seed)
    # small ones last, or large ones would hide them
    order = things.masks.sum((1, 2)).argsort(descending=True)
    labels = [num_things + 3 * i % case.space.num_stuff for i in range(8)]
    index_map = stuff + 1
    for i, mask in enumerate(things.masks[order].numpy()):
        index_map[mask] = 9 + i
    labels += things.labels[order].tolist()
    rng = np.random.default_rng(seed)
    return dict(
        img=rng.integers(0, 256, (*image, 3), np.uint8),
        gt_seg_map=index_map.astype(np.int32),
        segments_info=[
            dict(id=i, category=label, iscrowd=0, is_thing=label < num_things)
            for i, label in enumerate(labels, 1)
        ],
        label_space=case.space,
        img_id=seed,
        img_path=f'{seed}.png',
        ori_shape=annotated,
        img_shape=image,
        scale_factor=tuple(a / b
                           for a, b in zip(image[::-1], annotated[::-1])))


def _packed(drawn: List[dict], pipeline: List[dict], side: str) -> dict:
    """Targets derived and packed by the last transforms of a pipeline."""
    types = [transform['type'] for transform in pipeline]
    last: List[Any] = pipeline[types.index('DerivePanopticTargets'):]
    if side == 'mmdet':
        last = [last[0], _as_mmdet_loads, dict(type='PackDetInputs')]
    transforms = Compose(last)
    return pseudo_collate([transforms(one) for one in drawn])


def _as_mmdet_loads(results: dict) -> dict:
    """Semantic map (without void here) and masks of mmdet's types."""
    semantic = results['gt_seg_map'].astype(np.uint8)
    masks = BitmapMasks(results['gt_masks'].to_ndarray(), *semantic.shape)
    return dict(results, gt_seg_map=semantic, gt_masks=masks)
