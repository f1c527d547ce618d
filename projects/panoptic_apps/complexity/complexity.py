"""Compute and memory of a detector, part by part (Figure 4, Table 1a).

In    a model on the meta device, (H, W) of one image in pixels
Out   :class:`Cost` of backbone, neck, region branch and semantic branch

What depends on values does not run: in the region branch, RPN is counted on
all levels, the box head on a given number of RoIs, the mask head on a given
number of detections; RoIAlign, NMS and the merge are not counted.

Operations are counted where torch dispatches them, so those of ``functional``
count like those of modules. On tensors of the meta device only shapes exist.
"""
from collections import Counter
from dataclasses import asdict, astuple, dataclass
from math import prod
from typing import Any, Callable, Dict, Optional, Tuple

import torch
from mmdet.models.detectors import BaseDetector
from tabulate import tabulate
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .meta_model import (features, networks_of, padded_shape, run_regions,
                         shapes_alone)

_ATEN = torch.ops.aten
_PRODUCTS = (_ATEN.mm, _ATEN.addmm, _ATEN.bmm, _ATEN.baddbmm)


@dataclass(frozen=True)
class Cost:
    """What a part of a model costs for one image; costs can be added.

    ``multiply_adds`` are those of convolutions (transposed ones too) and
    matrix products, as torch's ``FlopCounterMode`` has them; normalization,
    activation functions, pooling and interpolation have none. ``activations``
    are elements of the outputs of convolutions, the paper's measure of memory,
    beside those of transposed convolutions and matrix products. ``parameters``
    are trained and frozen ones.
    """

    multiply_adds: int = 0
    activations: int = 0
    transposed_outputs: int = 0
    linear_outputs: int = 0
    parameters: int = 0

    def __add__(self, other: 'Cost') -> 'Cost':
        return Cost(*map(sum, zip(astuple(self), astuple(other))))


def measure(run: Callable[[], Any], *modules: nn.Module) -> Tuple[Any, Cost]:
    """Call a function once without gradients; its result and its cost, with
    the parameters of ``modules``."""
    outputs: Dict[str, int] = Counter()

    # Formulas in torch's form: shapes of the arguments and of the output.
    def convolution(*arguments: Any, out_shape: Any, **_: Any) -> int:
        transposed = arguments[6]
        kind = 'transposed_outputs' if transposed else 'activations'
        outputs[kind] += prod(out_shape)
        return 0

    def product(*_: Any, out_shape: Any, **__: Any) -> int:
        outputs['linear_outputs'] += prod(out_shape)
        return 0

    formulas = dict.fromkeys(_PRODUCTS, product)
    formulas[_ATEN.convolution] = convolution
    with torch.no_grad(), FlopCounterMode(display=False) as flops, \
            FlopCounterMode(display=False, custom_mapping=formulas), \
            shapes_alone(type(modules[0]).__name__):
        result = run()
    parameters = {p for module in modules for p in module.parameters()}
    # torch counts a multiplication and an addition as two
    return result, Cost(
        multiply_adds=flops.get_total_flops() // 2,
        parameters=sum(p.numel() for p in parameters),
        **outputs)


@dataclass(frozen=True)
class Complexity:
    """Result of :func:`complexity`: padded (H, W); stride of the finest map of
    backbone and neck; RoIs of the box and the mask head, None without region
    branch; costs of 'backbone', 'neck', 'region branch' and 'semantic branch',
    as far as the model has them, or of 'instance_network backbone', ... for
    two networks."""

    shape: Tuple[int, int]
    stride: int
    rois: Optional[int]
    detections: Optional[int]
    parts: Dict[str, Cost]

    @property
    def total(self) -> Cost:
        """Cost of all parts."""
        return sum(self.parts.values(), Cost())

    @property
    def trunk(self) -> Cost:
        """Cost of backbones and necks alone, which Figure 4 counts."""
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
        rois, detections (int, optional): RoIs that the box head and the mask
            head see, by default ``max_per_img`` of ``test_cfg.rpn`` and
            ``test_cfg.rcnn``.

    Raises:
        InputError: The model has an unknown part, which the error names.
    """
    shape = padded_shape(model, shape)
    parts: Dict[str, Cost] = {}
    strides = []
    regions: Tuple[Optional[int], Optional[int]] = (None, None)
    for name, network in networks_of(model).items():
        if network.with_roi_head:
            rpn, rcnn = network.test_cfg.rpn, network.test_cfg.rcnn
            regions = (rpn.max_per_img if rois is None else rois,
                       rcnn.max_per_img if detections is None else detections)
        costs, stride = _network_costs(network, shape, regions)
        strides.append(stride)
        parts.update({
            f'{name} {part}'.strip(): cost
            for part, cost in costs.items()
        })
    return Complexity(shape, min(strides), *regions, parts)


def _network_costs(network: BaseDetector, shape: Tuple[int, int],
                   regions: Tuple) -> Tuple[Dict[str, Cost], int]:
    """Costs of one network, and the stride of its finest map."""
    costs = {}
    image = torch.empty(1, 3, *shape, device='meta')
    feats, costs['backbone'] = measure(lambda: network.backbone(image),
                                       network.backbone)
    if network.with_neck:
        maps = feats
        feats, costs['neck'] = measure(lambda: network.neck(maps),
                                       network.neck)
    heads = [getattr(network, name, None) for name in ('rpn_head', 'roi_head')]
    if any(heads):
        _, costs['region branch'] = measure(
            lambda: run_regions(network, feats, *regions),
            *filter(None, heads))
    if getattr(network, 'semantic_head', None) is not None:
        levels = features(network, feats, 'semantic')
        _, costs['semantic branch'] = measure(
            lambda: network.semantic_head(levels), network.semantic_head)
    return costs, shape[0] // feats[0].shape[-2]


def complexity_table(name: str, result: Complexity) -> str:
    """Text table of the parts of the model of a config."""
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
    """Counts for JSON, not rounded: a :class:`Cost` as ``total``, of the
    whole model as in Table 1a, one as ``trunk``, of backbone and neck as in
    Figure 4, and one of each of ``parts``."""
    counts = asdict(result)
    return dict(
        config=name,
        shape=counts.pop('shape'),
        output_stride=counts.pop('stride'),
        **counts,
        total=asdict(result.total),
        trunk=asdict(result.trunk))
