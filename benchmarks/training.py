"""Seconds of one training step of Panoptic FPN with ResNet-50, all cores.

Example:
    python -m benchmarks.training --rounds 3

Two images of 800 x 1199 pixels: losses, gradients and the step of SGD. Ours
and mmdet's start from the same weights (``models.py``) and take turns, each
in a process of its own, set up as its tools do. A step takes half a minute:
of three rounds asked for one is done.
"""
import copy
import sys
from typing import Callable, List

import torch
from mmengine.optim import OptimWrapper

from benchmarks import machine, models
from benchmarks.harness import Row, stage_main
from benchmarks.workers import in_turns
from mmengine_exact import Bfloat16OptimWrapper, allocator

STAGE = 'R50 training step'
CASE = '2 photographs at 800x1199'


def prepare(kind: str, seed: int, amp: bool) -> Callable:
    """A function that trains for one iteration; see ``inference.py``."""
    if kind == 'ours':
        allocator.keep_freed_memory(allocator.LARGEST_IN_TRAINING)
    model = models.load(kind, seed).train()
    wrapper = Bfloat16OptimWrapper if amp else OptimWrapper
    optimizer = wrapper(
        optimizer=torch.optim.SGD(
            model.parameters(), lr=1e-5, momentum=0.9, weight_decay=1e-4))
    batch = models.photographs(seed, kind)

    def run() -> dict:
        torch.manual_seed(seed)
        losses = model.train_step(copy.deepcopy(batch), optimizer)
        return {name: float(value) for name, value in losses.items()}

    return run


def measure(rounds: int, seed: int = 0) -> List[Row]:
    """Rows of float32 and, where the CPU has it, bfloat16."""
    models.load('ours', seed)
    cases = dict(
        ours=('ours', seed, False), theirs=('theirs', seed, False))
    if machine.has_bfloat16():
        cases['bfloat16'] = ('ours', seed, True)
    seconds, peaks, losses = in_turns(prepare, cases, max(1, rounds // 3))
    return [
        Row(STAGE,
            f'{CASE}, {case}',
            seconds[name],
            seconds['theirs'],
            ask=ask,
            per='step',
            ours_bytes=peaks[name],
            theirs_bytes=peaks['theirs'],
            note='mmdet does less: its semantic loss is at a quarter of the '
            f'resolution{more}; region losses {_region(losses[name]):.3f}, '
            f'mmdet {_region(losses["theirs"]):.3f}; ours keeps freed memory, '
            'as its tools do')
        for case, name, ask, more in (('float32', 'ours', 1.1, ''),
                                      ('bfloat16', 'bfloat16', 1.5,
                                       ', in float32'))
        if name in cases
    ]


def _region(losses: dict) -> float:
    """Sum of RPN's and the region heads' losses."""
    return sum(value for name, value in losses.items()
               if 'loss_' in name and 'seg' not in name)


if __name__ == '__main__':
    sys.exit(stage_main(measure, __doc__))
