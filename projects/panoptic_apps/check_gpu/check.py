"""The check of a device, from facts to verdict."""
import logging
import os
import time
from contextlib import ExitStack
from typing import Any, Callable, Dict

import torch
from mmengine.registry import init_default_scope

from mmengine_exact import enable_amp, revision, versions
from mmengine_exact.errors import InputError

from .agreement import (HALF, check_heads, check_losses, check_operators,
                        loss_errors)
from .measure import Figures, measure
from .parts import SIDES, Work, config_of, prediction, training_step
from .report import DROPPED, FASTER, SLOWER, Report
from .scenes import CITYSCAPES, COCO, Case
from .short_runs import check_short_runs
from .units import units


def check_gpu(device: str,
              folder: str,
              train_tool: str,
              quick: bool = False,
              minutes: float = 8) -> bool:
    """Check a device; print and write what is found.

    Args:
        device (str): 'cuda' or 'cpu'.
        folder (str): For ``check_gpu.json`` and the work directories of short
            trainings.
        train_tool (str): Path of ``tools/train.py``.
        quick (bool): Small images and few repeats.
        minutes (float): No figure is begun later.

    Returns:
        bool: Whether nothing is wrong. Slower than mmdet is not wrong.

    Raises:
        InputError: There is no GPU.
    """
    if device == 'cuda' and not torch.cuda.is_available():
        raise InputError(
            'torch sees no GPU here (torch.cuda.is_available() is False). Run '
            'on a machine with one and a CUDA build of torch, or try the '
            'check itself with --device cpu --quick.')
    init_default_scope('mmdet')
    os.makedirs(folder, exist_ok=True)
    report = Report(folder, facts(device, quick))
    check = Check(report, torch.device(device), quick,
                  report.begin + 60 * minutes)
    with ExitStack() as stack:
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.WARNING)  # MMEngine's, a line a weight
        check.needed(folder, train_tool)
        check.optional()
    return report.finish()


def facts(device: str, quick: bool) -> Dict[str, Any]:
    """What is checked: the device, versions, revision."""
    gpu = device == 'cuda'
    found = torch.cuda.get_device_properties(0) if gpu else None
    return dict(
        device=found.name if found else 'cpu',
        memory=f'{found.total_memory / 1e9:.0f} GB' if found else None,
        capability=f'{found.major}.{found.minor}' if found else None,
        cudnn=torch.backends.cudnn.version() if gpu else None,
        quick=quick,
        date=time.strftime('%Y-%m-%d'),
        revision=revision(),
        **versions())


class Check:
    """Sections of the check.

    Args:
        report (Report): Where the findings go.
        deadline (float): ``time.perf_counter`` after which nothing begins
            that can be left out.
    """

    def __init__(self, report: Report, device: torch.device, quick: bool,
                 deadline: float) -> None:
        self.report, self.device, self.quick = report, device, quick
        self.deadline = deadline
        #: Of a step in float32.
        self.losses: Dict[str, Any] = {}
        self.cases = [COCO.quick()] if quick else [COCO, CITYSCAPES]

    def needed(self, folder: str, train_tool: str) -> None:
        """What says right or wrong."""
        report, device = self.report, self.device
        report.attempt('operators', check_operators, report, device)
        for case in self.cases:
            report.attempt(f'heads, {case.name}', check_heads, report, device,
                           case, 1 if self.quick else 3)
            report.attempt(f'losses of a training step, {case.name}',
                           check_losses, report, device, case.quick())
        report.attempt('short trainings', check_short_runs, report, train_tool,
                       folder, device.type, self.deadline,
                       2 if self.quick else 10)

    def optional(self) -> None:
        """Figures, the most important ones first."""
        for case in self.cases:
            for name, build in (('training step', training_step),
                                ('prediction', prediction)):
                self.in_time(f'{name}, {case.name}', self.compare, name, build,
                             case)
            self.in_time(f'heads alone, {case.name}', self.heads_alone, case)
        dtypes = ['float32']
        if self.device.type == 'cuda':  # most CPUs take minutes
            dtypes += ['float16', 'bfloat16']
        for dtype in dtypes:
            self.in_time(f'training step in {dtype}', self.precision, dtype)

    def in_time(self, name: str, section: Callable, *args: Any) -> None:
        """Run a section, unless no time is left."""
        if time.perf_counter() > self.deadline:
            self.report.check(name, DROPPED, 'no time is left')
            return
        self.report.attempt(name, section, *args)
        if self.device.type == 'cuda':
            torch.cuda.empty_cache()

    def figures_of(self, work: Work) -> Figures:
        return measure(work, self.device, 1 if self.quick else 10,
                       self.deadline)

    def compare(self, name: str, build: Callable, case: Case) -> None:
        """Figures of a step or a prediction, and which side is faster."""
        ours, theirs = (
            self.figures_of(build(case, side, self.device)) for side in SIDES)
        self.report.figures(case.name, name, ours, theirs)
        self.verdict(f'{name}, {case.name}', ours, theirs)

    def verdict(self, name: str, ours: Figures, theirs: Figures) -> None:
        """Compare the times of a whole."""
        ms = ours['all']['ms'], theirs['all']['ms']
        self.report.check(name, FASTER if ms[0] <= ms[1] else SLOWER,
                          f'{ms[0]:.1f} ms, mmdet {ms[1]:.1f} ms')

    def heads_alone(self, case: Case) -> None:
        """Figures of the heads; mmdet's do less, so without a verdict."""
        for pair in zip(*(units(case, side, self.device) for side in SIDES)):
            self.report.figures(case.name, pair[0].name,
                                *map(self.figures_of, pair))

    def precision(self, dtype: str) -> None:
        """A training step in a precision and both layouts of memory, but for
        the config's own in float32; its losses beside those of float32."""
        case, theirs = self.cases[0], {}

        def step(side: str, channels_last: bool = False) -> Work:
            cfg = config_of(case, side)
            cfg.channels_last = channels_last
            if dtype != 'float32':
                enable_amp(cfg)
                cfg.optim_wrapper.dtype = dtype
            return training_step(case, side, self.device, cfg)

        if dtype == 'float16':  # mmdet's RoIAlign has no bfloat16
            theirs = self.figures_of(step('mmdet'))
        layouts = [''] if dtype == 'float32' else ['', ', channels last']
        for layout in layouts:
            work = step('ours', bool(layout))
            torch.manual_seed(0)
            losses = work.run(work.inputs(), lambda part: None)
            self.losses = self.losses or losses
            name = f'{work.name}, {case.name}, {dtype}{layout}'
            self.report.agree(f'losses, {name}',
                              loss_errors(losses, self.losses), HALF)
            ours = self.figures_of(work)
            self.report.figures(case.name, f'{work.name}, {dtype}{layout}',
                                ours, theirs)
            if theirs:
                self.verdict(name, ours, theirs)
