"""Inputs that look like COCO's and Cityscapes', drawn from a seed.

Ellipses of things lie on regions of stuff. Sizes are (h, w) in pixels, boxes
(x1, y1, x2, y2), masks (n, h, w) bool.
"""
from dataclasses import dataclass, replace
from typing import Any, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from mmengine.structures import InstanceData
from torch import Tensor

from panoptic_fpn.cityscapes import label_space as cityscapes_space
from panoptic_fpn.labels import IGNORE_LABEL, LabelSpace

Size = Tuple[int, int]
#: What mmdet takes for void in a semantic map.
THEIR_VOID = 255


@dataclass(frozen=True)
class Case:
    """Sizes and contents of a data set's images.

    Args:
        name (str): Of the data set.
        config (str): Name of our config.
        space (LabelSpace): The classes.
        crop (tuple[int, int]): An image in training.
        batch (int): Images of a training step.
        instances (int): Things in an image in training.
        image (tuple[int, int]): An image in evaluation, as the network sees
            it.
        original (tuple[int, int]): The same image as in its file.
        detections, confident (int): Instances that are found, and those of
            them whose score the merge accepts.
        rois, proposals (int): Boxes that the box head sees of an image, in
            training and in evaluation.
    """
    name: str
    config: str
    space: LabelSpace
    crop: Size
    batch: int
    instances: int
    image: Size
    original: Size
    detections: int = 100
    confident: int = 12
    rois: int = 512
    proposals: int = 1000

    def quick(self) -> 'Case':
        """The same in small, with one image in training."""
        return replace(
            self,
            crop=_an_eighth(self.crop),
            image=_an_eighth(self.image),
            original=_an_eighth(self.original),
            batch=1,
            instances=min(self.instances, 5),
            detections=20,
            confident=6,
            rois=32,
            proposals=64)


def _an_eighth(size: Size) -> Size:
    return max(64, size[0] // 8), max(64, size[1] // 8)


def _coco_space() -> LabelSpace:
    return LabelSpace.from_coco([
        dict(id=i, name=f'class {i}', isthing=int(i < 80)) for i in range(133)
    ])


COCO = Case('COCO', 'coco/panoptic-fpn_r50_fpn_1x_coco', _coco_space(),
            (800, 1333), 2, 8, (800, 1067), (480, 640))
CITYSCAPES = Case(
    'Cityscapes',
    'cityscapes/panoptic-fpn_r50_fpn_65k_cityscapes',
    cityscapes_space(), (512, 1024),
    4,
    20, (1024, 2048), (1024, 2048),
    confident=30)


class Blobs(NamedTuple):
    """Instances of one image."""
    masks: Tensor
    boxes: Tensor
    #: (n, ), any order
    scores: Tensor
    labels: Tensor

    def as_instances(self) -> InstanceData:
        return InstanceData(
            masks=self.masks,
            bboxes=self.boxes,
            scores=self.scores,
            labels=self.labels)


def blobs(number: int,
          size: Size,
          num_things: int,
          confident: int = 0,
          seed: int = 0) -> Blobs:
    """Ellipses, ``confident`` of them with a score above 0.5, others from
    0.05 to 0.5."""
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
    return Blobs(
        torch.from_numpy(masks),
        torch.from_numpy(corners[:, [1, 0, 3, 2]]).float(),
        torch.from_numpy(rng.permutation(scores)).float(),
        torch.from_numpy(rng.integers(0, num_things, number)))


def smooth_fields(number: int, size: Size, cells: int,
                  generator: torch.Generator) -> Tensor:
    """Random (number, h, w) that vary over h / cells pixels."""
    coarse = [max(round(side * cells / size[0]), 2) for side in size]
    return F.interpolate(
        torch.randn(1, number, *coarse, generator=generator),
        size,
        mode='bicubic')[0]


def semantic_logits(channels: int,
                    size: Size,
                    regions: int,
                    generator: torch.Generator,
                    noise: float = 0.3) -> Tensor:
    """Logits (1, channels, h, w) of smooth regions with blurred boundaries,
    a smooth field for each class and noise.

    Args:
        size (tuple[int, int]): (h, w), at the stride of the logits.
        regions (int): Of the semantic map, about; 0: noise alone, of
            deviation 1.
        noise (float): Standard deviation, beside 6 between classes.
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
    return (logits + noise * noisy)[None]


def training_batch(case: Case, pipeline: Sequence[dict], side: str) -> dict:
    """A batch as a loader gives it.

    Args:
        pipeline (Sequence[dict]): ``train_pipeline`` of our config, whose
            last transforms derive and pack the targets.
        side (str): 'ours', or 'mmdet' for mmdet's targets.
    """
    return _packed([
        _drawn(case, case.crop, case.crop, case.instances, seed)
        for seed in range(case.batch)
    ], pipeline, side)


def evaluation_batch(case: Case, pipeline: Sequence[dict], side: str) -> dict:
    """An image as a loader gives it; for 'ours' with its panoptic
    annotation. ``pipeline`` is our config's ``test_pipeline``."""
    drawn = _drawn(case, case.image, case.original, case.instances, 0)
    packed = _packed([drawn], pipeline, 'ours')
    if side == 'mmdet':
        del packed['data_samples'][0].gt_panoptic_seg
    return packed


def _drawn(case: Case, image: Size, annotated: Size, instances: int,
           seed: int) -> dict:
    """What the transforms before ``DerivePanopticTargets`` make."""
    generator = torch.Generator().manual_seed(seed)
    num_things = case.space.num_things
    stuff = smooth_fields(8, annotated, 4, generator).argmax(0).numpy()
    things = blobs(instances, annotated, num_things, seed=seed)
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


def _packed(drawn: List[dict], pipeline: Sequence[dict], side: str) -> dict:
    types = [transform['type'] for transform in pipeline]
    last: List[Any] = [*pipeline[types.index('DerivePanopticTargets'):]]
    if side == 'mmdet':
        last[1:] = [_with_their_void, dict(type='PackDetInputs')]
    transforms = Compose([
        TRANSFORMS.build(transform)
        if isinstance(transform, dict) else transform for transform in last
    ])
    packed = [transforms(one) for one in drawn]
    return {
        key: [one[key] for one in packed]
        for key in ('inputs', 'data_samples')
    }


def _with_their_void(results: dict) -> dict:
    semantic = results['gt_seg_map']
    return dict(
        results,
        gt_seg_map=np.where(semantic == IGNORE_LABEL, THEIR_VOID,
                            semantic).astype(np.uint8))
