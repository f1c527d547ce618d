"""Is a device right? Operators, heads and losses beside the CPU's."""
import pickle
from functools import partial
from typing import Callable, Dict, List, Tuple

import torch
from mmcv.ops import nms, roi_align
from mmengine.structures import InstanceData
from torch import Tensor

from panoptic_fpn.ops.roi_align import SeparableRoIAlign

from .parts import config_of, training_step
from .report import Report
from .scenes import Blobs, Case, blobs, smooth_fields
from .units import Heads, logits_for, meta_of, padded_targets

CPU = torch.device('cpu')
#: Largest relative error of sums in another order, as float32 rounds.
ROUNDING = 1e-4
#: As float16 and bfloat16 round, or as kernels that use TF32 do.
HALF = 5e-2


def relative(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected."""
    found, expected = (x.detach().double().cpu() for x in (found, expected))
    return float((found - expected).norm() / expected.norm().clamp(min=1e-20))


def mover(device: torch.device) -> Callable:
    return lambda value: value.to(device)


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
    plain = partial(_bins,
                    lambda x, r: roi_align(x, r, 7, .25, 2, 'avg', True))
    ours = partial(_bins, SeparableRoIAlign(7, .25, 2))
    expected = plain(features, rois)
    for name, function, given, most in (
        ('RoIAlign', plain, features, ROUNDING),
        ('RoIAlign of a channels-last map', ours,
         features.contiguous(memory_format=torch.channels_last),
         ROUNDING), ('RoIAlign in float16', plain, features.half(), HALF)):
        if device.type == 'cpu' and given.dtype == torch.float16:
            continue  # mmcv has no such kernel
        found = function(given.to(device), rois.to(device, given.dtype))
        report.agree(
            name,
            dict(zip(('bins', 'gradient'), map(relative, found, expected))),
            most)


def _bins(function: Callable, features: Tensor,
          rois: Tensor) -> Tuple[Tensor, Tensor]:
    """RoIAlign's bins, and the gradient of their sum of squares."""
    features = features.clone().requires_grad_()
    bins = function(features, rois)
    bins.float().square().sum().backward()
    return bins, features.grad


def check_heads(report: Report, device: torch.device, case: Case,
                scenes: int) -> None:
    """Semantic loss, semantic map, merge and run lengths."""
    on_cpu, on_device = (_outputs(case, one, scenes) for one in (CPU, device))
    (loss, gradient), (their_loss, their_gradient) = (
        one.pop('loss') for one in (on_device, on_cpu))
    report.agree(
        f'semantic loss, {case.name}',
        dict(
            value=relative(loss, their_loss),
            gradient=relative(gradient, their_gradient)), ROUNDING)
    channels = [one.pop('semantic map').cpu() for one in (on_device, on_cpu)]
    # classes whose logits are equal up to rounding
    report.agree(
        f'semantic map, {case.name}',
        dict(pixels=(channels[0] != channels[1]).float().mean().item()), 1e-3)
    for name, found in on_device.items():
        differing = sum(a != b for a, b in zip(found, on_cpu[name]))
        report.agree(f'{name}, {case.name}', dict(scenes=differing), 0)


def _outputs(case: Case, device: torch.device, scenes: int) -> Dict:
    to_device = mover(device)
    heads = Heads(case, config_of(case, 'ours'), to_device)
    samples = [to_device(one) for one in padded_targets(case, 'ours')]
    logits = to_device(logits_for(case.crop, heads.channels, case.batch))
    logits.requires_grad_()
    loss = heads.loss(logits, samples)
    outputs = to_device(logits_for(case.image, heads.channels))
    semantic = to_device(
        smooth_fields(heads.channels, case.original, 4,
                      torch.Generator().manual_seed(0)).argmax(0))
    merged: List[bytes] = []
    for seed in range(scenes):
        found = _instances(case, seed, to_device)
        panoptic = heads.merge(found, semantic)
        merged.append(panoptic.cpu().numpy().tobytes())
        heads.encode(found)
    rows = [pickle.dumps(row) for row in heads.metric.results]
    return {
        'loss': (loss, logits.grad),
        'semantic map': heads.semantic_map(outputs, meta_of(case)),
        'merge': merged,
        'masks as run lengths': rows
    }


def _instances(case: Case, seed: int, to_device: Callable) -> InstanceData:
    drawn = blobs(case.detections, case.original, case.space.num_things,
                  case.confident, seed)
    return Blobs(*map(to_device, drawn)).as_instances()


def check_losses(report: Report, device: torch.device, case: Case) -> None:
    """Losses of a training step in small."""
    losses = []
    for one in (device, CPU):
        work = training_step(case, 'ours', mover(one))
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
