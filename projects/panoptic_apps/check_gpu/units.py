"""Heads alone, ours and mmdet's, on outputs as a trained network gives them.

Semantic loss with its gradient; semantic map; merge; masks as run lengths.
mmdet's loss is at a quarter of the resolution. Its semantic map is all logits,
whose argmax its merge takes.
"""
from typing import Any, Callable, Dict, List

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.mask import encode_mask_results
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from panoptic_fpn.ops.to_host import encode_masks

from .parts import Note, Work, config_of
from .scenes import Case, Size, blobs, semantic_logits, training_batch

STRIDE = 4


class Heads:
    """Semantic and fusion head of the model of a config of 'ours' or 'mmdet';
    logits stand for features."""

    def __init__(self, model: ConfigDict, side: str) -> None:
        self.ours = side == 'ours'
        self.semantic = MODELS.build(model.semantic_head)
        self.semantic.forward = self._given
        self.fusion = MODELS.build(
            dict(model.panoptic_fusion_head, test_cfg=model.test_cfg.panoptic))

    def _given(self, logits: Tensor) -> Any:
        return logits if self.ours else dict(seg_preds=logits)

    def loss(self, logits: Tensor, samples: SampleList) -> Tensor:
        """Loss of logits (N, C, h, w), with its gradient."""
        loss = self.semantic.loss(logits, samples)['loss_seg']
        loss.backward()
        return loss.detach()

    def semantic_map(self, logits: Tensor, meta: Dict) -> Tensor:
        """Channels (h, w) of logits (1, C, h, w); mmdet's: logits."""
        if self.ours:
            return self.semantic.predict_channels(logits, [meta])[0]
        return self.semantic.predict(logits, [meta], rescale=True)[0]

    def merge(self, found: InstanceData, semantic: Tensor,
              size: Size) -> Tensor:
        """Panoptic map (h, w)."""
        if self.ours:
            return self.fusion.predict(found, semantic,
                                       self.semantic.predict_things, size)[0]
        return self.fusion.predict([found], [semantic])[0].sem_seg[0]

    def encode(self, masks: Tensor) -> List[Dict]:
        """Masks (n, h, w) as run lengths."""
        if self.ours:
            return encode_masks(masks)
        return encode_mask_results(masks.cpu().numpy())


def meta_of(image: Size, original: Size) -> Dict:
    """Sizes of an image in evaluation, padded to multiples of 32."""
    return dict(
        batch_input_shape=tuple(-(-side // 32) * 32 for side in image),
        img_shape=image,
        ori_shape=original)


def units(case: Case,
          side: str,
          device: torch.device,
          seed: int = 0) -> List[Work]:
    """The heads of 'ours' or 'mmdet' at work, one part each."""
    model = config_of(case, side).model
    heads = Heads(model, side)
    heads.semantic.to(device)
    channels, size = heads.semantic.num_classes, case.original
    batch = MODELS.build(model.data_preprocessor)(training_batch(case, side),
                                                  True)
    samples = [sample.to(device) for sample in batch['data_samples']]
    meta = meta_of(case.image, size)
    generator = torch.Generator().manual_seed(seed)
    logits, outputs = (torch.cat([
        semantic_logits(channels, tuple(side // STRIDE
                                        for side in shape), 40, generator)
        for _ in range(number)
    ]) for number, shape in ((case.batch, batch['inputs'].shape[2:]),
                             (1, meta['batch_input_shape'])))
    # the same map on any device
    semantic = F.interpolate(outputs, size, mode='bilinear')[0]
    if side == 'ours':
        semantic = semantic.argmax(0)
    logits, outputs, semantic = (
        x.to(device) for x in (logits, outputs, semantic))
    number = case.detections if side == 'ours' else case.confident
    found = blobs(number, size, case.space.num_things, case.confident,
                  seed).to(device)

    def work(name: str, inputs: Callable, function: Callable) -> Work:

        def run(given: Any, note: Note) -> Any:
            result = function(given)
            note(name)
            return result

        return Work(name, case.name, name, inputs, run)

    return [
        work('semantic loss', lambda: logits.clone().requires_grad_(),
             lambda given: (heads.loss(given, samples), given.grad)),
        work('semantic map', lambda: outputs,
             lambda given: heads.semantic_map(given, meta)),
        work('merge', lambda: found,
             lambda given: heads.merge(given, semantic, size)),
        work('masks to run lengths', lambda: found,
             lambda given: heads.encode(given.masks))
    ]
