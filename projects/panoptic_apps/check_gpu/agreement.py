"""Is a device right? Operators, heads and losses beside the CPU's."""
from collections import defaultdict
from functools import partial
from operator import ne
from typing import Any, Callable, Dict, List, Tuple

import torch
from mmcv.ops import nms, roi_align
from torch import Tensor

from panoptic_fpn.ops.roi_align import SeparableRoIAlign

from .parts import training_step
from .report import Report
from .scenes import Case
from .units import units

CPU = torch.device('cpu')
#: Largest relative error of sums in another order, as float32 rounds.
ROUNDING = 1e-4
#: As float16 and bfloat16 round, or as kernels that use TF32 do.
HALF = 5e-2


def relative(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected."""
    found, expected = (x.detach().double().cpu() for x in (found, expected))
    return float((found - expected).norm() / expected.norm().clamp(min=1e-20))


def differing(found: Tensor, expected: Tensor) -> float:
    """Share of the elements that differ."""
    return float((found.cpu() != expected.cpu()).double().mean())


def check_operators(report: Report, device: torch.device) -> None:
    """NMS and RoIAlign with its gradient."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(2000, 4, generator=generator) * 500
    boxes[:, 2:] = boxes[:, :2] + boxes[:, 2:] / 5
    scores = torch.rand(2000, generator=generator)
    kept = [
        nms(boxes.to(one), scores.to(one), 0.7)[1].cpu()
        for one in (CPU, device)
    ]
    report.agree('NMS keeps what the CPU keeps',
                 dict(differing=float(not torch.equal(*kept))), 0)
    features = torch.randn(2, 64, 50, 84, generator=generator)
    rois = torch.rand(200, 5, generator=generator) * 150
    rois[:, 0] = (rois[:, 0] > 75).float()
    rois[:, 3:] += rois[:, 1:3]
    plain = partial(
        roi_align,
        output_size=7,
        spatial_scale=.25,
        sampling_ratio=2,
        pool_mode='avg',
        aligned=True)
    ours = SeparableRoIAlign(7, .25, 2)
    channels_last = features.to(memory_format=torch.channels_last)
    cases: Dict[str, Tuple[Callable, Tensor, float]] = {
        'RoIAlign': (plain, features, ROUNDING),
        'RoIAlign of a channels-last map': (ours, channels_last, ROUNDING)
    }
    if device.type != 'cpu':  # where mmcv has no such kernel
        cases['RoIAlign in float16'] = plain, features.half(), HALF
    expected = _bins(plain, features, rois)
    for name, (function, given, most) in cases.items():
        found = _bins(function, given.to(device), rois.to(device, given.dtype))
        errors = map(relative, found, expected)
        report.agree(name, dict(zip(('bins', 'gradient'), errors)), most)


def _bins(function: Callable, features: Tensor,
          rois: Tensor) -> Tuple[Tensor, Tensor]:
    """RoIAlign's bins, and the gradient of their sum of squares."""
    features = features.clone().requires_grad_()
    bins = function(features, rois)
    bins.float().square().sum().backward()
    return bins, features.grad


#: Error of a head's result, and what it may be at most.
_HEADS: Dict[str, Tuple[Callable[[Any, Any], float], float]] = {
    # value and gradient; NaN stays
    'semantic loss': (lambda *results: sum(map(relative, *results)), ROUNDING),
    # classes whose logits are equal up to rounding
    'semantic map': (differing, 1e-3),
    'merge': (differing, 0),
    'masks to run lengths': (lambda *results: float(ne(*results)), 0)
}


def check_heads(report: Report, device: torch.device, case: Case,
                scenes: int) -> None:
    """Semantic loss, semantic map, merge and run lengths of some scenes."""
    errors: Dict[str, Dict[str, float]] = defaultdict(dict)
    for seed in range(scenes):
        for pair in zip(*(units(case, 'ours', one, seed)
                          for one in (CPU, device))):
            name = pair[0].name
            expected, found = (
                work.run(work.inputs(), lambda part: None) for work in pair)
            errors[name][f'scene {seed}'] = _HEADS[name][0](found, expected)
    for name, by_scene in errors.items():
        report.agree(f'{name}, {case.name}', by_scene, _HEADS[name][1])


def check_losses(report: Report, device: torch.device, case: Case) -> None:
    """Losses of a training step."""
    losses: List[Dict] = []
    for one in (device, CPU):
        work = training_step(case, 'ours', one)
        torch.manual_seed(0)
        losses.append(work.run(work.inputs(), lambda part: None))
    report.agree(f'losses of a training step, {case.name}',
                 loss_errors(*losses), HALF)


def loss_errors(found: Dict, expected: Dict) -> Dict[str, float]:
    """Relative errors of the losses of a training step."""
    return {
        name: relative(torch.as_tensor(found[name]), torch.as_tensor(value))
        for name, value in expected.items() if 'loss' in name
    }
