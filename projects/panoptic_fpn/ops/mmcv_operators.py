"""mmcv's compiled operators that Panoptic FPN needs: NMS and RoIAlign.

mmcv-lite, a wheel, has none. There this module, which has mmcv's signatures,
takes the place of ``mmcv._ext``. An operator is torchvision's where that is
installed and has it, else plain and for CPUs. NMS keeps the same boxes as
mmcv's, RoIAlign is equal up to rounding. Every other operator raises when it
is called.
"""
import sys
from contextlib import suppress
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


def stand_in() -> None:
    """Stand in for mmcv's operators where it has none; before ``mmcv.ops`` is
    imported."""
    global _torchvision
    if COMPILED in sys.modules or find_spec(COMPILED):
        return
    sys.modules[COMPILED] = sys.modules[__name__]
    with suppress(Exception):  # not installed, or for another torch
        import torchvision as _torchvision  # registers its operators


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
    if offset and boxes.device.type != 'cpu':
        require_compiled(f'NMS with offset={offset} on {boxes.device.type}')
    kept = None
    if not offset:
        ranks = torch.arange(
            len(boxes), 0, -1, dtype=boxes.dtype, device=boxes.device)
        kept = _torchvisions('nms', boxes, ranks, iou_threshold)
    if kept is None:
        kept = _plain_nms(boxes, iou_threshold, offset)
    return order[kept]


def roi_align_forward(features: Tensor, rois: Tensor, output: Tensor,
                      argmax_y: Tensor, argmax_x: Tensor,
                      **settings: Any) -> None:
    """Write the bins of ``rois`` (n, 5) to ``output`` (n, C, P, P)."""
    layer = _layer(**settings)
    bins = _torchvisions('roi_align', features, rois, layer.spatial_scale,
                         *layer.output_size, layer.sampling_ratio,
                         layer.aligned)
    if bins is None:
        from .roi_align import align_levels
        bins = align_levels([layer], [features], rois, [slice(None)])
    output.copy_(bins)


def roi_align_backward(gradient: Tensor, rois: Tensor, argmax_y: Tensor,
                       argmax_x: Tensor, to_features: Tensor,
                       **settings: Any) -> None:
    """Write the features' gradient (N, C, h, w) to ``to_features``."""
    layer = _layer(**settings)
    # the public way, autograd, would need the features and run forward again
    found = _torchvisions('_roi_align_backward', gradient, rois,
                          layer.spatial_scale, *layer.output_size,
                          *to_features.shape, layer.sampling_ratio,
                          layer.aligned)
    if found is None:
        from .roi_align import gradient_of_features
        found = gradient_of_features(layer, to_features, rois, gradient)
    to_features.copy_(found)


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
    error = None
    if _torchvision:
        try:
            return getattr(torch.ops.torchvision, name)(given, *more)
        except NotImplementedError as e:  # one for CPUs alone
            error = e
    if given.device.type == 'cpu':
        return None
    raise RunError(
        f'{name.strip("_")}: neither mmcv nor torchvision has this operator '
        f'on {given.device.type} here. Install the torchvision of torch '
        f'{torch.__version__} (in .venv: make env OPERATORS=torchvision), or '
        "compile mmcv's own operators: make env OPERATORS=mmcv") from error


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


def _plain_nms(boxes: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices, ascending, of boxes (n, 4) that are kept; the first come first.
    The arithmetic is that of mmcv's kernel, on blocks of boxes."""
    index = np.arange(len(boxes))
    kept = [index[:0]]
    with np.errstate(all='ignore'):  # 0 / 0 of boxes without area
        x1, y1, x2, y2 = boxes.T.contiguous().numpy()
        areas = (x2 - x1 + offset) * (y2 - y1 + offset)
        rest = np.stack([x1, y1, x2, y2, areas])
        while len(index):
            ious = _ious(rest[:, :_BLOCK, None], rest, offset)
            covers = ious > iou_threshold
            first = _uncovered(covers[:, :_BLOCK])
            kept.append(index[first])
            left = ~np.logical_or.reduce(covers[first])
            left[:_BLOCK] = False
            rest, index = rest[:, left], index[left]
    return torch.from_numpy(np.concatenate(kept))


def _ious(some: np.ndarray, others: np.ndarray, offset: int) -> np.ndarray:
    """IoUs of boxes, x1, y1, x2, y2, area along the first axis."""
    sides = []
    for low, high in ((0, 2), (1, 3)):
        side = np.minimum(some[high], others[high])
        side -= np.maximum(some[low], others[low])
        if offset:
            side += offset
        sides.append(np.maximum(side, 0, out=side))
    width, height = sides
    shared = np.multiply(width, height, out=width)
    union = np.add(some[4], others[4], out=height)
    union -= shared
    return np.divide(shared, union, out=shared)


def _uncovered(covers: np.ndarray) -> List[int]:
    """Of n boxes those that greedy suppression keeps; ``covers`` is (n, n)."""
    kept: List[int] = []
    gone = 0
    for i, row in enumerate(np.packbits(covers, axis=1, bitorder='little')):
        if not gone >> i & 1:
            kept.append(i)
            gone |= int.from_bytes(row.tobytes(), 'little')
    return kept
