"""Precision and memory layout that operators of mmcv and mmdet need.

RoIAlign, NMS and box decoding have no bfloat16 kernels on a CPU and lose box
accuracy in half precision anywhere. mmcv's RoIAlign reads channels-last
memory as if it were contiguous, without an error; its deformable convolutions
refuse it, for weights too.
"""
from typing import Any, Tuple

import torch
from mmcv.ops import DeformConv2d, ModulatedDeformConv2d
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from mmengine.utils import apply_to
from torch import Tensor, nn

from .mmcv_operators import require_compiled
from .roi_align import SeparableRoIAlign, uses_products

_DEFORMABLE = (DeformConv2d, ModulatedDeformConv2d)


def guard_operators(model: nn.Module) -> None:
    """Convert what reaches these operators, by hooks on their modules.

    Raises:
        RunError: One of them is not here.
    """
    for module in model.modules():
        if isinstance(module, _DEFORMABLE):
            require_compiled('DCN of the mdconv option')
            module.register_forward_pre_hook(_contiguous_inputs)
        elif isinstance(module, BaseRoIExtractor):
            module.register_forward_pre_hook(_float32)
            if not all(
                    isinstance(layer, SeparableRoIAlign)
                    for layer in module.roi_layers):
                module.register_forward_pre_hook(_contiguous_inputs)
        elif isinstance(module, (BaseDenseHead, BBoxHead, FCNMaskHead)):
            module.register_forward_hook(_float32)


def roi_features(roi_head: nn.Module, feats: Tuple[Tensor,
                                                   ...]) -> Tuple[Tensor, ...]:
    """FPN levels in the precision and memory that RoIAlign's kernel needs,
    converted once for all extractors of a head."""
    if any(uses_products(layer, feats[0]) for layer in roi_head.modules()):
        return feats
    return tuple(feat.float().contiguous() for feat in feats)


def lay_out(model: nn.Module, memory_format: torch.memory_format) -> None:
    """Bring the weights to a memory format, except in deformable layers."""
    model.to(memory_format=memory_format)
    for module in model.modules():
        if isinstance(module, _DEFORMABLE):
            module.to(memory_format=torch.contiguous_format)


# Functions of the module, not closures: a detector must stay picklable.
def _float32(module: nn.Module, *values: Any) -> Any:
    """The inputs before a module runs, the outputs after it."""
    return apply_to(values[-1], torch.is_tensor, lambda x: x.float()
                    if x.is_floating_point() else x)


def _contiguous_inputs(module: nn.Module, inputs: tuple) -> tuple:
    return apply_to(inputs, torch.is_tensor, Tensor.contiguous)
