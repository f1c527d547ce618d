"""Short trainings of the tiny model, by the training tool: do they learn,
resume and repeat?"""
import json
import os
import os.path as osp
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Dict, Sequence, Tuple

from mmengine_exact.errors import RunError
from panoptic_fpn.config_files import find_config

from .report import DROPPED, RIGHT, WRONG, Report

CONFIG = 'synthetic/panoptic-fpn_tiny_synthetic'
RESUMES = 'a training resumes, and repeats what it did'
LEARNS = 'a training with mixed precision learns and is evaluated'


@dataclass(frozen=True)
class ShortRuns:
    """Trainings of a few iterations on drawn data.

    Args:
        tool (str): Path of ``tools/train.py``.
        folder (str): Where work directories, data and logs lie.
        device (str): 'cuda' or 'cpu'.
        deadline (float): ``time.perf_counter`` after which none goes on.
    """
    tool: str
    folder: str
    device: str
    deadline: float

    def train(
        self,
        name: str,
        iterations: int,
        flags: Sequence[str] = (),
        settings: Sequence[str] = ()
    ) -> None:
        """Train in ``FOLDER/NAME``, with flags of the tool and settings of
        the config.

        Raises:
            RunError: The tool's exit code is not 0.
            subprocess.TimeoutExpired: The deadline has passed.
        """
        command = [
            sys.executable, self.tool,
            find_config(CONFIG), '--work-dir',
            osp.join(self.folder, name), *flags, '--cfg-options',
            f'data_root={osp.join(self.folder, "shapes")}/',
            'generate.num_train=64', 'generate.num_val=8',
            f'train_cfg.max_iters={iterations}',
            f'train_cfg.val_interval={iterations}',
            'default_hooks.logger.interval=1', 'log_processor.window_size=1',
            *settings
        ]
        environment = dict(os.environ)
        if self.device == 'cpu':
            environment['CUDA_VISIBLE_DEVICES'] = ''
        log = osp.join(self.folder, f'{name}.log')
        with open(log, 'a') as out:
            code = subprocess.run(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                timeout=max(1, self.deadline - time.perf_counter())).returncode
        if code:
            last = Path(log).read_text(errors='replace').strip().splitlines()
            raise RunError(f'exit code {code}, {log}: {last[-1:]}')

    def losses(self, name: str) -> Dict[int, float]:
        """Loss of each iteration."""
        rows = [
            json.loads(line) for path in sorted(
                Path(self.folder, name).glob('*/vis_data/scalars.json'))
            for line in path.read_text().splitlines()
        ]
        return {row['step']: row['loss'] for row in rows if 'loss' in row}


def check_short_runs(report: Report, runs: ShortRuns, iterations: int,
                     amp: bool) -> None:
    """A deterministic run, and one that resumes it in the middle, have equal
    losses; with ``amp`` also whether mixed precision learns.

    Args:
        iterations (int): Before and after the middle.
    """
    same = ('randomness.deterministic=True',
            f'default_hooks.checkpoint.interval={iterations}', 'val_cfg=None',
            'val_dataloader=None', 'val_evaluator=None')
    middle = osp.join(runs.folder, 'whole', f'iter_{iterations}.pth')
    name = RESUMES
    try:
        runs.train('whole', 2 * iterations, (), same)
        runs.train('resumed', 2 * iterations, [f'--resume={middle}'], same)
        report.check(
            name,
            *compare_losses(
                runs.losses('whole'), runs.losses('resumed'),
                range(iterations + 1, 2 * iterations + 1)))
        if amp:
            name = LEARNS
            runs.train('amp', 10 * iterations, ['--amp'])
            losses = list(runs.losses('amp').values())
            begin, end = mean(losses[:iterations]), mean(losses[-iterations:])
            quality = json.loads(
                Path(runs.folder, 'amp',
                     'metrics.json').read_text())['coco_panoptic/PQ']
            learns = end < begin and quality is not None
            report.check(
                name, RIGHT if learns else WRONG,
                f'mean loss {begin:.3f}, at the end {end:.3f}; PQ {quality}')
    except subprocess.TimeoutExpired:
        report.check(name, DROPPED, 'no time is left')


def compare_losses(first: Dict[int, float], second: Dict[int, float],
                   iterations: range) -> Tuple[str, str]:
    """Verdict on the losses of two runs by iteration, and its reason."""
    detail = f'losses of iterations {iterations[0]} to {iterations[-1]}'
    for i in iterations:
        if i not in first or first[i] != second.get(i):
            return WRONG, (f'{detail}; the first that differs is {i}: '
                           f'{first.get(i)} and {second.get(i)}')
    return RIGHT, detail
