"""Estimate of the memory of a training step, from shapes alone.

In    a model on the meta device, (H, W) and number of the images of a batch
Out   bytes, float32

Forward runs in training mode; autograd hooks see what it keeps for backward.
Not in the estimate: anchors, targets and losses of the region branch, buffers
of a GPU's kernels, gradients of activations while backward runs, buckets of
distributed training, and what the allocator cannot use.
"""
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

import torch
from mmdet.models.detectors import BaseDetector
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from mmengine_exact.errors import InputError
from panoptic_fpn.models import TwoStagePanopticFPN

from .meta_model import (features, images, networks_of, padded_shape,
                         region_heads, shapes_only)


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a training step keeps at once.

    Attributes:
        weights (int): Parameters and buffers.
        gradients (int): Of the parameters that are trained.
        momentum (int): Of SGD, for each trained parameter.
        activations (int): Kept for backward.
    """

    weights: int
    gradients: int
    momentum: int
    activations: int

    @property
    def total(self) -> int:
        """int: Of all."""
        return (self.weights + self.gradients + self.momentum +
                self.activations)


def training_memory(model: BaseDetector, shape: Tuple[int, int],
                    batch: int) -> TrainingMemory:
    """Estimate the memory of a training step with SGD and momentum.

    RoIs are those that ``train_cfg.rcnn.sampler`` draws at most: ``num`` for
    the box head, ``num * pos_fraction`` for the mask head. The semantic loss
    at full resolution goes tile by tile and keeps one gradient of the size
    of the logits (``models/semantic_loss.py``); a tile is not counted.

    Args:
        model (BaseDetector): A ``TwoStagePanopticFPN`` from
            :func:`build_on_meta`; its mode stays.
        shape (tuple[int, int]): (H, W) of the images; padded as the model
            pads.
        batch (int): Images on one GPU.

    Returns:
        TrainingMemory: In bytes.

    Raises:
        InputError: Another model, also two networks, which are trained
            one at a time; or a part that cannot be run on shapes alone.
    """
    if not isinstance(model, TwoStagePanopticFPN):
        raise InputError(
            f'{type(model).__name__}: memory is estimated of one '
            'TwoStagePanopticFPN. Two networks are trained one at a time: ask '
            'for the configs that train them.')
    networks_of(model)
    trained = _bytes(p for p in model.parameters() if p.requires_grad)
    kept = _Kept(model)
    was_training = model.training
    model.train()
    try:
        with torch.enable_grad(), shapes_only('a training step'), \
                saved_tensors_hooks(kept.pack, lambda kept: kept):
            logits = _forward(model, images(batch, padded_shape(model, shape)))
    finally:
        model.train(was_training)
    loss_gradient = _bytes([] if logits is None else [logits])
    return TrainingMemory(
        weights=_bytes(model.parameters()) + _bytes(model.buffers()),
        gradients=trained,
        momentum=trained,
        activations=kept.total + loss_gradient)


class _Kept:
    """Storages that autograd keeps, each once; weights are not among them."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = {
            _storage(tensor)
            for tensor in (*model.parameters(), *model.buffers())
        }
        self._storages: Dict[StorageWeakRef, int] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = _storage(tensor)
        if storage not in self._weights:
            self._storages[storage] = tensor.untyped_storage().nbytes()
        return tensor

    @property
    def total(self) -> int:
        return sum(self._storages.values())


def _storage(tensor: Tensor) -> StorageWeakRef:
    # data_ptr() is 0 on the meta device. The reference also keeps an address
    # that was freed from being used again.
    return StorageWeakRef(tensor.untyped_storage())


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _forward(network: TwoStagePanopticFPN, inputs: Tensor) -> Optional[Tensor]:
    """Run all parts; return the semantic branch's logits if there is one."""
    feats = network.extract_feat(inputs)
    if network.with_rpn:
        network.rpn_head(features(network, feats, 'instance'))
    if network.with_roi_head:
        sampler = network.train_cfg.rcnn.sampler
        rois = len(inputs) * sampler.num
        for head, regions in region_heads(network, rois,
                                          int(rois * sampler.pos_fraction)):
            # as RoIAlign's outputs do
            head(regions.requires_grad_())
    if not network.with_semantic_head:
        return None
    return network.semantic_head(features(network, feats, 'semantic'))
