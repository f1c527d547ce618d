"""Compute and memory of a detector, part by part (Figure 4, Table 1a).

In    a model on the meta device, (H, W) of one image in pixels
Out   :class:`Cost` of backbone, neck, region branch and semantic branch

What depends on values does not run: in the region branch, RPN is counted on
all levels, the box head on a given number of RoIs, the mask head on a given
number of detections; RoIAlign, NMS and the merge are not counted.
"""
from dataclasses import asdict, dataclass
from typing import Dict, Optional, Tuple

from mmdet.models.detectors import BaseDetector
from tabulate import tabulate
from torch import Tensor

from mmengine_exact.errors import InputError

from .counting import Cost, measure
from .meta_model import (features, images, networks_of, padded_shape,
                         region_heads, shapes_only)


@dataclass(frozen=True)
class Complexity:
    """Result of :func:`complexity`.

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
    shape = padded_shape(model, shape)
    parts: Dict[str, Cost] = {}
    strides = []
    regions: Tuple[Optional[int], Optional[int]] = (None, None)
    for name, network in networks_of(model).items():
        if network.with_roi_head:
            regions = (_count(network, 'rpn', 'rois', rois),
                       _count(network, 'rcnn', 'detections', detections))
        costs, stride = _network_costs(network, shape, *regions)
        strides.append(stride)
        parts.update({
            f'{name} {part}'.strip(): cost
            for part, cost in costs.items()
        })
    return Complexity(shape, min(strides), *regions, parts)


def _count(network: BaseDetector, key: str, option: str,
           given: Optional[int]) -> int:
    if given is None:
        given = ((network.test_cfg or {}).get(key) or {}).get('max_per_img')
    if given is None:
        raise InputError(f'{option}: give --{option} N, or '
                         f'model.test_cfg.{key}.max_per_img in the config.')
    return given


def _network_costs(network: BaseDetector, shape: Tuple[int, int],
                   rois: Optional[int],
                   detections: Optional[int]) -> Tuple[Dict[str, Cost], int]:
    """Costs of one network, and the stride of its finest map."""
    costs = {}
    image = images(1, shape)
    with shapes_only('backbone'):
        feats, costs['backbone'] = measure(lambda: network.backbone(image),
                                           network.backbone)
    if network.with_neck:
        with shapes_only('neck'):
            maps = feats
            feats, costs['neck'] = measure(lambda: network.neck(maps),
                                           network.neck)
    heads = [getattr(network, name, None) for name in ('rpn_head', 'roi_head')]
    modules = [head for head in heads if head]
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


def complexity_table(name: str, result: Complexity) -> str:
    """Text table of a model's parts.

    Args:
        name (str): Of the config.
        result (Complexity): Of it.

    Returns:
        str: Without a line break at its end.
    """
    head = '{}: one image of {} x {}'.format(name, *result.shape)
    if result.rois is not None:
        head += f', {result.rois} RoIs, {result.detections} detections'
    total = result.total
    rows = [[
        part, cost.multiply_adds / 1e9, cost.activations / 1e6,
        cost.parameters / 1e6
    ] for part, cost in [*result.parts.items(), ('total', total)]]
    lines = [
        head,
        tabulate(
            rows, [
                'part', 'multiply-adds\n1e9', 'activations\n1e6',
                'parameters\n1e6'
            ],
            floatfmt='.2f'),
        f'{total.multiply_adds / 1e12:.3g}e12 multiply-adds, '
        f'{total.activations / 1e9:.3g}e9 activations (outputs of '
        'convolutions) in the units of Table 1a'
    ]
    if total.transposed_outputs or total.linear_outputs:
        lines.append(
            'no activations: outputs of transposed convolutions '
            f'({total.transposed_outputs / 1e6:.2f}e6) and of matrix products '
            f'({total.linear_outputs / 1e6:.2f}e6)')
    return '\n'.join(lines)


def complexity_json(name: str, result: Complexity) -> Dict:
    """The same for JSON; numbers are not rounded.

    Args:
        name (str): Of the config.
        result (Complexity): Of it.

    Returns:
        dict: With a :class:`Cost` as ``total``, of the whole model as in
        Table 1a, one as ``trunk``, of backbone and neck as in Figure 4, and
        one of each of ``parts``.
    """
    return dict(
        config=name,
        shape=list(result.shape),
        output_stride=result.stride,
        rois=result.rois,
        detections=result.detections,
        parts={
            part: asdict(cost)
            for part, cost in result.parts.items()
        },
        total=asdict(result.total),
        trunk=asdict(result.trunk))
