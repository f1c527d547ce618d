"""Estimate of the memory of a training step, from shapes alone.

In    a model on the meta device, (H, W) and number of the images of a batch
Out   bytes, float32

Forward runs in training mode; autograd hooks see what it keeps for backward.
Not in the estimate: anchors, targets and losses of the region branch, buffers
of a GPU's kernels, gradients of activations while backward runs, buckets of
distributed training, and what the allocator cannot use.
"""
from dataclasses import astuple, dataclass
from typing import Any, Dict, List, Tuple

import torch
from mmdet.models.detectors import BaseDetector
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from mmengine_exact.errors import InputError
from panoptic_fpn.models import TwoStagePanopticFPN

from .meta_model import (features, networks_of, padded_shape, run_regions,
                         shapes_alone)


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a training step keeps at once: parameters and buffers;
    gradients and SGD's momentum of what is trained; what is kept for
    backward."""

    weights: int
    gradients: int
    momentum: int
    activations: int

    @property
    def total(self) -> int:
        """Sum of all bytes."""
        return sum(astuple(self))


def training_memory(model: BaseDetector, shape: Tuple[int, int],
                    batch: int) -> TrainingMemory:
    """Estimate the memory of a training step with SGD and momentum.

    RoIs are those that ``train_cfg.rcnn.sampler`` draws at most: ``num`` for
    the box head, ``num * pos_fraction`` for the mask head. The semantic loss
    at full resolution goes tile by tile and keeps one gradient of the size
    of the logits (``ops/tiled_cross_entropy.py``); a tile is not counted.

    Args:
        model (BaseDetector): From :func:`build_on_meta`; its mode stays.
        shape (tuple[int, int]): (H, W) of the images; padded as the model
            pads.
        batch (int): Images on one GPU.

    Raises:
        InputError: The model is not a single ``TwoStagePanopticFPN``.
    """
    if not isinstance(model, TwoStagePanopticFPN):
        raise InputError(
            f'{type(model).__name__}: memory is estimated for one '
            'TwoStagePanopticFPN. Two networks are trained one at a time: '
            'give the configs that train them.')
    networks_of(model)
    trained = _bytes(p for p in model.parameters() if p.requires_grad)
    weights = [*model.parameters(), *model.buffers()]
    own = set(map(_storage, weights))
    kept: Dict[StorageWeakRef, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in own:
            kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    was_training = model.training
    model.train()
    with torch.enable_grad(), saved_tensors_hooks(keep, lambda kept: kept), \
            shapes_alone(type(model).__name__):
        size = (batch, 3, *padded_shape(model, shape))
        logits = _forward(model, torch.empty(size, device='meta'))
    model.train(was_training)
    return TrainingMemory(
        weights=_bytes(weights),
        gradients=trained,
        momentum=trained,
        activations=sum(kept.values()) + _bytes(logits))


def _storage(tensor: Tensor) -> StorageWeakRef:
    # data_ptr() is 0 on the meta device. The reference also keeps an address
    # that was freed from being used again.
    return StorageWeakRef(tensor.untyped_storage())


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _forward(network: TwoStagePanopticFPN, inputs: Tensor) -> List[Tensor]:
    """Run all parts; return the logits of the semantic branch, if any."""
    feats = network.extract_feat(inputs)
    rois = detections = None
    if network.with_roi_head:
        sampler = network.train_cfg.rcnn.sampler
        rois = len(inputs) * sampler.num
        detections = int(rois * sampler.pos_fraction)
    run_regions(network, feats, rois, detections)
    if not network.with_semantic_head:
        return []
    return [network.semantic_head(features(network, feats, 'semantic'))]
