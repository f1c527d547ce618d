"""The check of a device, from facts to verdict."""
import logging
import os
import time
from contextlib import ExitStack
from typing import Any, Callable, Dict

import torch
from mmcv.ops import get_compiler_version, get_compiling_cuda_version
from mmengine.config import Config
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
        operators=f'{get_compiler_version()}, CUDA '
        f'{get_compiling_cuda_version()}',
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
        # on most CPUs bfloat16 takes minutes
        self.dtypes = ['float32']
        if device.type == 'cuda':
            self.dtypes += ['float16', 'bfloat16']
        #: of a step in the first of them
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
        for dtype in self.dtypes:
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
        the one that our config has; its losses beside those of float32."""
        case, theirs = self.cases[0], {}
        if dtype == 'float16':  # mmdet's RoIAlign has no bfloat16
            theirs = self.figures_of(
                training_step(case, 'mmdet', self.device,
                              in_precision(config_of(case, 'mmdet'), dtype)))
        for channels_last in (False, ) if dtype == 'float32' else (False,
                                                                   True):
            cfg = in_precision(config_of(case, 'ours'), dtype)
            cfg.channels_last = channels_last
            work = training_step(case, 'ours', self.device, cfg)
            torch.manual_seed(0)
            losses = work.run(work.inputs(), lambda part: None)
            self.losses = self.losses or losses
            name = (f'training step, {case.name}, {dtype}'
                    f'{", channels last" if channels_last else ""}')
            self.report.agree(f'losses, {name}',
                              loss_errors(losses, self.losses), HALF)
            ours = self.figures_of(work)
            self.report.figures(case.name, name, ours, theirs)
            if theirs:
                self.verdict(name, ours, theirs)


def in_precision(cfg: Config, dtype: str) -> Config:
    """A config with mixed precision, except for 'float32'."""
    if dtype != 'float32':
        enable_amp(cfg)
        cfg.optim_wrapper.dtype = dtype
    return cfg
