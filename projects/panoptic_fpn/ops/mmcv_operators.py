"""mmcv's compiled operators that panoptic models need: NMS and RoIAlign, and
the deformable attention of Mask2Former.

mmcv-lite, a wheel, has none. There this module, which has mmcv's signatures,
takes the place of ``mmcv._ext``. NMS and RoIAlign are torchvision's where that
is installed and has them, else plain and for CPUs. NMS keeps the same boxes as
mmcv's, RoIAlign is equal up to rounding. Attention is mmcv's own in plain
torch, which takes more memory and time than its kernel. Every other operator
raises when it is called.
"""
import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, Callable, List, Optional

import numpy as np
import torch
from torch import Tensor

from mmengine_exact.errors import RunError

#: Name of the module with mmcv's compiled operators.
COMPILED = 'mmcv._ext'
#: Boxes whose overlaps with all others are computed at once.
_BLOCK = 64
_torchvision: Any = None
_import_error: Optional[Exception] = None


def stand_in() -> None:
    """Stand in for mmcv's operators where it has none; before ``mmcv.ops`` is
    imported."""
    global _torchvision, _import_error
    if COMPILED in sys.modules or find_spec(COMPILED):
        return
    sys.modules[COMPILED] = sys.modules[__name__]
    try:
        import torchvision as _torchvision  # registers its operators
    except Exception as error:  # not installed, or for another torch
        _import_error = error


def stands_in() -> Optional[str]:
    """What computes in the place of mmcv's operators; None: they are its."""
    if sys.modules.get(COMPILED) is not sys.modules[__name__]:
        return None
    return (f"NMS and RoIAlign are torchvision {_torchvision.__version__}'s"
            if _torchvision else 'NMS and RoIAlign are plain, for CPUs')


def require_compiled(what: str) -> None:
    """Require mmcv's own operators.

    Raises:
        RunError: This module stands in for them.
    """
    if stands_in():
        raise RunError(f"{what} needs mmcv's own operators: make env "
                       'OPERATORS=mmcv')


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float,
        offset: int) -> Tensor:
    """Indices of the boxes (n, 4) that are kept, most confident first; the
    side of a box is x2 - x1 + ``offset``."""
    # in the order in which mmcv takes equal scores, which is not torchvision's
    order = scores.sort(descending=True)[1]
    boxes = boxes[order].float()
    # mmcv compares in float32
    iou_threshold = float(np.float32(iou_threshold))
    kept = None
    if not offset:  # torchvision sorts again
        ranks = torch.arange(
            len(boxes), 0, -1, dtype=boxes.dtype, device=boxes.device)
        kept = _torchvisions('nms', boxes, ranks, iou_threshold)
    if kept is None:
        kept = _plain_nms(boxes.cpu(), iou_threshold, offset)
    return order[kept.to(order.device)]


def roi_align_forward(features: Tensor, rois: Tensor, output: Tensor,
                      argmax_y: Tensor, argmax_x: Tensor,
                      **settings: Any) -> None:
    """Write the bins of ``rois`` (n, 5) to ``output`` (n, C, P, P)."""
    layer = _layer(**settings)
    bins = _torchvisions('roi_align', features, rois, layer.spatial_scale,
                         *layer.output_size, layer.sampling_ratio,
                         layer.aligned)
    output.copy_(_plain_bins(layer, features, rois) if bins is None else bins)


def roi_align_backward(gradient: Tensor, rois: Tensor, argmax_y: Tensor,
                       argmax_x: Tensor, to_features: Tensor,
                       **settings: Any) -> None:
    """Write the features' gradient (N, C, h, w) to ``to_features``."""
    layer = _layer(**settings)
    # the public way, autograd, would run forward again
    found = _torchvisions('_roi_align_backward', gradient, rois,
                          layer.spatial_scale, *layer.output_size,
                          *to_features.shape, layer.sampling_ratio,
                          layer.aligned)
    if found is None:
        with torch.enable_grad():  # the same for any features
            features = torch.zeros_like(to_features, requires_grad=True)
            bins = _plain_bins(layer, features, rois)
        found, = torch.autograd.grad(bins, features, gradient)
    to_features.copy_(found)


def ms_deform_attn_forward(value: Tensor, shapes: Tensor, starts: Tensor,
                           locations: Tensor, weights: Tensor,
                           im2col_step: int) -> Tensor:
    """Multi-scale deformable attention on a GPU, as mmcv computes it on CPUs:
    (N, queries, channels); see mmcv for the arguments."""
    from mmcv.ops.multi_scale_deform_attn import \
        multi_scale_deformable_attn_pytorch
    return multi_scale_deformable_attn_pytorch(value, shapes.tolist(),
                                               locations, weights)


def ms_deform_attn_backward(value: Tensor, shapes: Tensor, starts: Tensor,
                            locations: Tensor, weights: Tensor,
                            gradient: Tensor, *to: Tensor,
                            im2col_step: int) -> None:
    """Write the gradients of value, locations and weights to ``to``."""
    value, locations, weights = given = [
        part.detach().requires_grad_() for part in (value, locations, weights)
    ]
    with torch.enable_grad():
        found = ms_deform_attn_forward(value, shapes, starts, locations,
                                       weights, im2col_step)
    for one, new in zip(to, torch.autograd.grad(found, given, gradient)):
        one.copy_(new)


def get_compiler_version() -> str:
    return f'none: {stands_in()}'


def get_compiling_cuda_version() -> str:
    return _torchvision and torch.version.cuda or 'not available'


def __getattr__(name: str) -> Callable:
    if name.startswith('__'):
        raise AttributeError(name)
    return lambda *args, **kwargs: require_compiled(name)


def _torchvisions(name: str, given: Tensor, *more: Any) -> Optional[Tensor]:
    """Result of an operator of torchvision; None: a plain one is to compute.

    Raises:
        RunError: There is neither on the device.
    """
    error = _import_error
    if _torchvision:
        try:
            return getattr(torch.ops.torchvision, name)(given, *more)
        except NotImplementedError as e:  # one for CPUs alone
            error = e
    if given.device.type == 'cpu':
        return None
    raise RunError(
        f'{name.strip("_")}: neither mmcv nor torchvision has this operator '
        f'on {given.device.type} here ({_import_error or "CPU builds"}). '
        f'Install the torchvision of torch {torch.__version__} (in .venv: '
        "make env OPERATORS=torchvision), or compile mmcv's own operators: "
        'make env OPERATORS=mmcv') from error


def _layer(aligned_height: int, aligned_width: int, spatial_scale: float,
           sampling_ratio: int, pool_mode: int,
           aligned: bool) -> SimpleNamespace:
    """What the settings are called in mmcv's ``RoIAlign``."""
    if pool_mode != 1:
        require_compiled("RoIAlign with pool_mode='max'")
    return SimpleNamespace(
        output_size=(aligned_height, aligned_width),
        spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio,
        aligned=aligned)


def _plain_bins(layer: SimpleNamespace, features: Tensor,
                rois: Tensor) -> Tensor:
    from .roi_align import align_levels  # which imports mmcv's operators
    return align_levels([layer], [features], rois, [slice(None)])


def _plain_nms(boxes: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices, ascending, of boxes (n, 4) that are kept; the first come first.
    The arithmetic is that of mmcv's kernel, on blocks of boxes."""
    sides = boxes.T.contiguous().numpy()
    kept: List[int] = []
    with np.errstate(all='ignore'):  # 0 / 0 of boxes without area
        for index in _groups(sides[0], sides[2], offset):
            kept += _plain_nms_of_group(sides[:, index], index, iou_threshold,
                                        offset)
    return torch.from_numpy(np.sort(np.array(kept, np.int64)))


def _groups(low: np.ndarray, high: np.ndarray,
            offset: int) -> List[np.ndarray]:
    """Indices, ascending, of boxes that no other group overlaps along an axis:
    mmcv's ``batched_nms`` moves classes and levels apart."""
    order = np.argsort(low, kind='stable')
    reach = np.maximum.accumulate(high[order].astype(np.float64)) + offset
    cuts = np.flatnonzero(low[order[1:]] >= reach[:-1]) + 1
    cuts = cuts[np.diff(cuts // _BLOCK, prepend=0) > 0]  # few small ones
    return [np.sort(group) for group in np.split(order, cuts)]


def _plain_nms_of_group(sides: np.ndarray, index: np.ndarray,
                        iou_threshold: float, offset: int) -> List[int]:
    kept = []
    while len(index):
        x1, y1, x2, y2 = sides
        areas = (x2 - x1 + offset) * (y2 - y1 + offset)
        shared = _overlaps(x1, x2, offset)
        shared *= _overlaps(y1, y2, offset)
        union = areas[:_BLOCK, None] + areas
        union -= shared
        gone = np.zeros(len(index), bool)
        for i, covered in enumerate(shared / union > iou_threshold):
            if not gone[i]:
                kept.append(index[i])
                gone |= covered
        gone[:_BLOCK] = True
        sides, index = sides[:, ~gone], index[~gone]
    return kept


def _overlaps(low: np.ndarray, high: np.ndarray, offset: int) -> np.ndarray:
    """What the first block of n boxes shares with all along an axis, where
    they reach from ``low`` to ``high``: (block, n)."""
    shared = np.minimum(high[:_BLOCK, None], high)
    shared -= np.maximum(low[:_BLOCK, None], low)
    shared += offset
    return np.maximum(shared, 0, out=shared)
