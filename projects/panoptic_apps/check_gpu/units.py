"""Heads alone, ours and mmdet's, on outputs as a trained network gives them.

Semantic loss with its gradient; semantic map; merge; masks as run lengths.
mmdet's loss is at a quarter of the resolution. Its semantic map is all logits,
whose argmax its merge takes.
"""
from functools import partial
from typing import Any, Callable, Dict, List, Tuple

import torch
from mmdet.evaluation import CocoMetric
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor

from panoptic_fpn.metrics import PanopticInstanceAPMetric

from .parts import Note, ToDevice, Work, config_of
from .scenes import Blobs, Case, Size, blobs, semantic_logits, training_batch

STRIDE = 4


class Heads:
    """Semantic and fusion head of our config; logits stand for features."""

    def __init__(self, case: Case, cfg: Config, to_device: ToDevice) -> None:
        model = cfg.model
        self.case = case
        self.semantic = to_device(MODELS.build(model.semantic_head))
        self.semantic.forward = self.given
        self.merging = MODELS.build(
            dict(model.panoptic_fusion_head, test_cfg=model.test_cfg.panoptic))
        self.metric = self.metric_of()
        self.metric.dataset_meta = case.space.metainfo()

    @staticmethod
    def given(logits: Tensor) -> Any:
        """What the head's forward pass returns."""
        return logits

    @staticmethod
    def metric_of() -> CocoMetric:
        return PanopticInstanceAPMetric()

    @property
    def channels(self) -> int:
        return self.semantic.num_classes

    def loss(self, logits: Tensor, samples: SampleList) -> Tensor:
        """Loss of logits (N, C, h, w), with its gradient."""
        loss = self.semantic.loss(logits, samples)['loss_seg']
        loss.backward()
        return loss.detach()

    def semantic_map(self, logits: Tensor, meta: Dict) -> Tensor:
        """Channels (h, w) of logits (1, C, h, w)."""
        return self.semantic.predict_channels(logits, [meta])[0]

    def merge(self, found: InstanceData, semantic: Tensor) -> Tensor:
        """Panoptic map (h, w)."""
        return self.merging.predict(found, semantic,
                                    self.semantic.predict_things,
                                    self.case.original)[0]

    def encode(self, found: InstanceData) -> None:
        """Row of an image for AP; there is no ground truth."""
        size = self.case.original
        void = torch.full(size, self.case.space.void, dtype=torch.int32)
        self.metric.process(None, [
            dict(
                img_id=0,
                ori_shape=size,
                instances=[],
                pred_instances=found.to_dict(),
                gt_panoptic_seg=dict(sem_seg=void[None]),
                gt_codes=[],
                crowd_codes=[])
        ])


class TheirHeads(Heads):
    """Those of mmdet."""

    @staticmethod
    def given(logits: Tensor) -> Any:
        return dict(seg_preds=logits)

    @staticmethod
    def metric_of() -> CocoMetric:
        return CocoMetric(metric=['bbox', 'segm'])

    def semantic_map(self, logits: Tensor, meta: Dict) -> Tensor:
        return self.semantic.predict(logits, [meta], rescale=True)[0]

    def merge(self, found: InstanceData, semantic: Tensor) -> Tensor:
        return self.merging.predict([found], [semantic])[0].sem_seg[0]


def padded(size: Size) -> Size:
    """A size (h, w) padded to multiples of 32."""
    height, width = (-(-side // 32) * 32 for side in size)
    return height, width


def logits_for(size: Size, channels: int, batch: int = 1) -> Tensor:
    """(batch, channels, h, w) at stride 4 of images of a size."""
    height, width = padded(size)
    generator = torch.Generator().manual_seed(0)
    return torch.cat([
        semantic_logits(channels, (height // STRIDE, width // STRIDE), 40,
                        generator) for _ in range(batch)
    ])


def meta_of(case: Case) -> Dict:
    """Sizes of an image in evaluation."""
    return dict(
        batch_input_shape=padded(case.image),
        img_shape=case.image,
        ori_shape=case.original)


def padded_targets(case: Case, side: str) -> SampleList:
    """Samples of a training batch, as the data preprocessor pads them."""
    batch = training_batch(case, config_of(case, 'ours').train_pipeline, side)
    cfg = config_of(case, side).model.data_preprocessor
    return MODELS.build(cfg)(batch, True)['data_samples']


def units(case: Case, side: str, to_device: ToDevice) -> List[Work]:
    """The heads of 'ours' or 'mmdet' at work, one part each."""
    kind = Heads if side == 'ours' else TheirHeads
    heads = kind(case, config_of(case, side), to_device)
    samples = [to_device(one) for one in padded_targets(case, side)]
    logits = to_device(logits_for(case.crop, heads.channels, case.batch))
    meta = meta_of(case)
    outputs = to_device(logits_for(case.image, heads.channels))
    number = case.detections if side == 'ours' else case.confident
    found = Blobs(*map(
        to_device,
        blobs(number, case.original, case.space.num_things,
              case.confident))).as_instances()
    semantic = heads.semantic_map(outputs, meta)
    named: List[Tuple[str, Callable, Callable]] = [
        ('semantic loss', lambda: logits.clone().requires_grad_(),
         lambda given: heads.loss(given, samples)),
        ('semantic map', lambda: outputs,
         lambda given: heads.semantic_map(given, meta)),
        ('merge', lambda: found, lambda given: heads.merge(given, semantic)),
        ('masks to run lengths', lambda: found, heads.encode)
    ]
    return [
        Work(name, case.name, side, name, inputs,
             partial(_alone, name, function))
        for name, inputs, function in named
    ]


def _alone(name: str, function: Callable, inputs: Any, note: Note) -> Any:
    result = function(inputs)
    note(name)
    return result
