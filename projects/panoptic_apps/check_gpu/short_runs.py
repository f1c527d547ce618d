"""Short trainings of the tiny model, by the training tool: do they resume and
repeat?"""
import json
import os
import os.path as osp
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Tuple

from mmengine_exact.errors import RunError
from panoptic_fpn.config_files import find_config

from .report import DROPPED, RIGHT, WRONG, Report

CONFIG = 'synthetic/panoptic-fpn_tiny_synthetic'
RESUMES = 'a training resumes, and repeats what it did'


def train(tool: str, work_dir: str, device: str, deadline: float, *settings:
          str) -> Dict[int, float]:
    """Train deterministically on drawn data, which lie beside ``work_dir`` as
    the log does.

    Args:
        tool (str): Path of ``tools/train.py``.
        device (str): 'cuda' or 'cpu'.
        deadline (float): ``time.perf_counter`` after which it does not go on.
        settings (str): Of the config.

    Returns:
        dict[int, float]: Loss of each iteration.

    Raises:
        RunError: The tool's exit code is not 0.
        subprocess.TimeoutExpired: The deadline has passed.
    """
    data = osp.join(osp.dirname(work_dir), 'shapes')
    command = [
        sys.executable, tool,
        find_config(CONFIG), '--work-dir', work_dir, '--cfg-options',
        f'data_root={data}/', 'generate.num_train=16', 'generate.num_val=1',
        'train_dataloader.batch_size=2', 'randomness.deterministic=True',
        'default_hooks.logger.interval=1', 'log_processor.window_size=1',
        'val_cfg=None', 'val_dataloader=None', 'val_evaluator=None', *settings
    ]
    environment = dict(os.environ)
    if device == 'cpu':
        environment['CUDA_VISIBLE_DEVICES'] = ''
    log = Path(f'{work_dir}.log')
    with log.open('a') as out:
        code = subprocess.run(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=max(1, deadline - time.perf_counter())).returncode
    if code:
        last = log.read_text(errors='replace').strip().splitlines()
        raise RunError(f'exit code {code}, {log}: {last[-1:]}')
    rows = [
        json.loads(line)
        for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
    return {row['step']: row['loss'] for row in rows if 'loss' in row}


def check_short_runs(report: Report, tool: str, folder: str, device: str,
                     deadline: float, iterations: int) -> None:
    """Whether a run and one that resumes it in the middle have equal losses.

    Args:
        iterations (int): Before and after the middle.
    """
    settings = (f'train_cfg.max_iters={2 * iterations}',
                f'default_hooks.checkpoint.interval={iterations}')
    whole, resumed = (osp.join(folder, name) for name in ('whole', 'resumed'))
    middle = osp.join(whole, f'iter_{iterations}.pth')
    try:
        first = train(tool, whole, device, deadline, *settings)
        second = train(tool, resumed, device, deadline, *settings,
                       'resume=True', f'load_from={middle}')
        verdict = compare_losses(first, second,
                                 range(iterations + 1, 2 * iterations + 1))
    except subprocess.TimeoutExpired:
        verdict = DROPPED, 'no time is left'
    report.check(RESUMES, *verdict)


def compare_losses(first: Dict[int, float], second: Dict[int, float],
                   iterations: range) -> Tuple[str, str]:
    """Verdict on the losses of two runs by iteration, and its reason."""
    detail = f'losses of iterations {iterations[0]} to {iterations[-1]}'
    for i in iterations:
        if i not in first or first[i] != second.get(i):
            return WRONG, (f'{detail}; the first that differs is {i}: '
                           f'{first.get(i)} and {second.get(i)}')
    return RIGHT, detail
