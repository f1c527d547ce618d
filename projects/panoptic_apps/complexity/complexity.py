"""Compute and memory of a detector, part by part (Figure 4, Table 1a).

In    a model on the meta device, (H, W) of one image in pixels
Out   :class:`Cost` of backbone, neck, region branch and semantic branch

What depends on values is not run: of the region branch, RPN is counted on all
levels, the box head on a given number of RoIs, the mask head on a given
number of detections; RoIAlign, NMS and the merge are not counted.
"""
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from mmdet.models.detectors import BaseDetector
from torch import Tensor

from mmengine_exact.errors import InputError

from .counting import Cost, measure
from .meta_model import (features, images, networks_of, padded_shape,
                         region_heads, shapes_only)


@dataclass(frozen=True)
class Complexity:
    """What :func:`complexity` found.

    Attributes:
        shape (tuple[int, int]): Padded (H, W).
        stride (int): Of the finest map of backbone and neck.
        rois (int | None): RoIs of the box head; None without region branch.
        detections (int | None): RoIs of the mask head; None without one.
        parts (dict[str, Cost]): 'backbone', 'neck', 'region branch' and
            'semantic branch', as far as the model has them; of two networks
            'instance_network backbone', ...
    """

    shape: Tuple[int, int]
    stride: int
    rois: Optional[int]
    detections: Optional[int]
    parts: Dict[str, Cost]

    @property
    def total(self) -> Cost:
        """Cost: Of all parts."""
        return sum(self.parts.values(), Cost())

    @property
    def trunk(self) -> Cost:
        """Cost: Of backbones and necks alone, what Figure 4 counts."""
        return sum((cost for name, cost in self.parts.items()
                    if name.split()[-1] in ('backbone', 'neck')), Cost())


def complexity(model: BaseDetector,
               shape: Tuple[int, int],
               rois: Optional[int] = None,
               detections: Optional[int] = None) -> Complexity:
    """Count a model for one image.

    Args:
        model (BaseDetector): From :func:`build_on_meta`.
        shape (tuple[int, int]): (H, W) in pixels; padded as the model pads.
        rois (int, optional): RoIs that the box head sees. By default
            ``test_cfg.rpn.max_per_img``.
        detections (int, optional): RoIs that the mask head sees. By default
            ``test_cfg.rcnn.max_per_img``.

    Returns:
        Complexity: Of all parts.

    Raises:
        InputError: A part cannot be counted; names it.
    """
    if min(shape) < 1:
        raise InputError(f'shape {tuple(shape)}: height and width must be '
                         '1 or more.')
    shape = padded_shape(model, shape)
    parts: Dict[str, Cost] = {}
    strides: List[int] = []
    numbers: Tuple[Optional[int], Optional[int]] = (None, None)
    for name, network in networks_of(model).items():
        if network.with_roi_head:
            numbers = (_number(network, 'rpn', 'rois', rois),
                       _number(network, 'rcnn', 'detections', detections))
        prefix = f'{name} ' if name else ''
        costs, stride = _network_costs(network, shape, *numbers)
        strides.append(stride)
        parts.update({prefix + part: cost for part, cost in costs.items()})
    return Complexity(shape, min(strides), *numbers, parts)


def _number(network: BaseDetector, key: str, option: str,
            given: Optional[int]) -> int:
    if given is None:
        given = ((network.test_cfg or {}).get(key) or {}).get('max_per_img')
    if given is None or given < 0:
        raise InputError(f'{option}={given}: give --{option} N, 0 or more, or '
                         f'model.test_cfg.{key}.max_per_img in the config.')
    return given


def _network_costs(network: BaseDetector, shape: Tuple[int, int],
                   rois: Optional[int],
                   detections: Optional[int]) -> Tuple[Dict[str, Cost], int]:
    """Costs of one network, and the stride of its finest map."""
    costs = {}
    backbone = network.backbone
    with shapes_only('backbone'):
        image = images(1, shape)
        feats, costs['backbone'] = measure(lambda: backbone(image), backbone)
    if network.with_neck:
        with shapes_only('neck'):
            maps = feats
            feats, costs['neck'] = measure(lambda: network.neck(maps),
                                           network.neck)
    modules = [
        module for module in (getattr(network, name, None)
                              for name in ('rpn_head', 'roi_head')) if module
    ]
    if modules:
        with shapes_only('region branch'):
            _, costs['region branch'] = measure(
                lambda: _run_regions(network, feats, rois, detections),
                *modules)
    if getattr(network, 'semantic_head', None) is not None:
        with shapes_only('semantic branch'):
            levels = features(network, feats, 'semantic')
            _, costs['semantic branch'] = measure(
                lambda: network.semantic_head(levels), network.semantic_head)
    return costs, shape[0] // feats[0].shape[-2]


def _run_regions(network: BaseDetector, feats: Tuple[Tensor, ...],
                 rois: Optional[int], detections: Optional[int]) -> None:
    if network.with_rpn:
        network.rpn_head(features(network, feats, 'instance'))
    if network.with_roi_head:
        assert rois is not None and detections is not None
        for head, regions in region_heads(network, rois, detections):
            head(regions)
