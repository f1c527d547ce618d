"""mmcv's compiled operators, as far as torchvision has them: NMS, RoIAlign.

mmcv compiles its operators where it is installed; torchvision brings its own.
This module has mmcv's signatures and takes the place of ``mmcv._ext``. Every
other operator raises when it is called.
"""
import sys
from importlib.util import find_spec
from typing import Any, Callable, Tuple

import torch
from torch import Tensor

#: Name of the module with mmcv's compiled operators.
COMPILED = 'mmcv._ext'


def stand_in() -> None:
    """Let torchvision's operators stand in where mmcv has none; before
    ``mmcv.ops`` is imported."""
    if (COMPILED not in sys.modules and find_spec(COMPILED) is None
            and find_spec('torchvision') is not None):
        import torchvision  # noqa: F401  registers its operators
        sys.modules[COMPILED] = sys.modules[__name__]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float,
        offset: int) -> Tensor:
    """Indices of the boxes (n, 4) that are kept, most confident first."""
    if offset:
        raise NotImplementedError('torchvision has no NMS with offset=1; '
                                  'compile mmcv.')
    return torch.ops.torchvision.nms(boxes, scores, iou_threshold)


def roi_align_forward(features: Tensor, rois: Tensor, output: Tensor,
                      argmax_y: Tensor, argmax_x: Tensor,
                      **settings: Any) -> None:
    """Write the bins of ``rois`` (n, 5) to ``output`` (n, C, P, P)."""
    scale, height, width, ratio, aligned = _settings(**settings)
    output.copy_(
        torch.ops.torchvision.roi_align(features, rois, scale, height, width,
                                        ratio, aligned))


def roi_align_backward(gradient: Tensor, rois: Tensor, argmax_y: Tensor,
                       argmax_x: Tensor, to_features: Tensor,
                       **settings: Any) -> None:
    """Write the features' gradient (N, C, h, w) to ``to_features``."""
    scale, height, width, ratio, aligned = _settings(**settings)
    # the public way, autograd, would need the features and run forward again
    to_features.copy_(
        torch.ops.torchvision._roi_align_backward(gradient, rois, scale,
                                                  height, width,
                                                  *to_features.shape, ratio,
                                                  aligned))


def _settings(aligned_height: int, aligned_width: int, spatial_scale: float,
              sampling_ratio: int, pool_mode: int,
              aligned: bool) -> Tuple[float, int, int, int, bool]:
    """In torchvision's order."""
    if pool_mode != 1:
        raise NotImplementedError("torchvision's RoIAlign has no "
                                  "pool_mode='max'; compile mmcv.")
    return (spatial_scale, aligned_height, aligned_width, sampling_ratio,
            aligned)


def get_compiler_version() -> str:
    return 'none: torchvision stands in'


def get_compiling_cuda_version() -> str:
    return torch.version.cuda or 'not available'


def __getattr__(name: str) -> Callable:
    if name.startswith('__'):
        raise AttributeError(name)

    def missing(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            f'mmcv has no compiled operators here, and torchvision has no '
            f'{name}. Compile mmcv.')

    return missing
