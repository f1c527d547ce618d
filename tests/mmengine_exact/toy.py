"""A run of a second: toy data that log each read, a toy model that draws.

:func:`run` trains in forked processes, which may kill themselves and do not
pay for importing torch. ``python -m tests.mmengine_exact.toy JSON``: for
torchrun.
"""
import json
import math
import os
import random
import signal
import socket
import sys
import time
import traceback
import uuid
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from mmdet.registry import DATASETS, HOOKS, METRICS, MODELS  # noqa: E402
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from mmengine_exact import SeededDatasetMixin  # noqa: E402
from panoptic_fpn.training.runner import PanopticRunner  # noqa: E402
from tests.conftest import REPO_ROOT  # noqa: F401


class _Reads(Dataset):
    """Sample ``i``: 4 numbers of its own, augmented with three generators."""

    def __init__(self, size=23, log=None, noise=True):
        self.size, self.log, self.noise = size, log, noise
        self.metainfo = dict(classes=('a', 'b'), palette=[(1, 2, 3)])

    def __len__(self):
        return self.size

    def get_data_info(self, index):
        wide = (index * 7) % 3 != 0
        return dict(width=20 if wide else 10, height=15)

    def __getitem__(self, index):
        if self.log:
            with open(self.log, 'a') as file:
                file.write(f'{int(index)}\n')
        base = torch.arange(4.) * (index + 1) % 5
        noise = (torch.rand(4) + float(np.random.rand()) + random.random())
        if not self.noise:
            noise = 0.
        sample = BaseDataElement(
            metainfo=dict(
                img_path=f'image_{int(index)}.jpg', img_id=int(index)))
        return dict(inputs=base + noise, data_samples=sample)


@DATASETS.register_module()
class ToyDataset(SeededDatasetMixin, _Reads):
    pass


@MODELS.register_module()
class ToyModel(BaseModel):
    """Draws in its forward pass, as RoI sampling does; has BN and dropout."""

    def __init__(self,
                 rows=3,
                 nan_at=None,
                 nan_rank=0,
                 hidden=8,
                 init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.backbone = nn.Sequential(
            nn.Linear(4, hidden), nn.BatchNorm1d(hidden), nn.ReLU())
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(hidden, rows)
        self.nan_at, self.nan_rank, self.calls = nan_at, nan_rank, 0

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = torch.stack(list(inputs)) if isinstance(inputs,
                                                    (list, tuple)) else inputs
        out = self.head(self.dropout(self.backbone(x)))
        if mode != 'loss':
            return [dict(score=float(value)) for value in out.sum(1)]
        target = torch.from_numpy(np.random.randint(0, out.shape[1], len(x)))
        loss = F.cross_entropy(out.float(), target)
        self.calls += 1
        rank = int(os.environ.get('RANK', 0))
        if self.calls == self.nan_at and rank == self.nan_rank:
            loss = loss * float('nan')
        return dict(loss_cls=loss, loss_reg=out.float().pow(2).mean())


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """Scores each validation as ``scores`` says, to test 'best'."""

    default_prefix = 'toy'

    def __init__(self, scores=(1., 3., 2., 4., 5.), outfile_prefix=None):
        super().__init__(collect_device='gpu')
        self.outfile_prefix = outfile_prefix
        self.scores, self.count = scores, 0

    def process(self, data_batch, data_samples):
        self.results += [sample['score'] for sample in data_samples]

    def compute_metrics(self, results):
        from mmengine.logging import MessageHub
        hub = MessageHub.get_current_instance()
        at = hub.get_info('iter', 0) + 1
        interval = int(os.environ.get('TOY_VAL_INTERVAL', 5))
        score = self.scores[(at // interval - 1) % len(self.scores)]
        return dict(
            PQ=score,
            n=len(results),
            sum=math.fsum(results),
            empty=float('nan'))


@HOOKS.register_module()
class KillHook(Hook):
    """SIGKILL before the given iteration begins (0-based)."""

    priority = 'HIGHEST'

    def __init__(self, at):
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def toy_config(work_dir,
               log=None,
               max_iters=20,
               num_workers=0,
               interval=5,
               aspect=True,
               batch_size=4,
               validate=False,
               keep=-1,
               kill_at=None,
               model=None,
               **extra):
    """A config of a toy run; ``extra`` replaces top-level keys."""
    hooks = [dict(type='NonFiniteLossHook'), dict(type='MetricsJsonHook')]
    if kill_at is not None:
        hooks.append(dict(type='KillHook', at=kill_at))
    loader = dict(
        batch_size=batch_size,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        dataset=dict(type='ToyDataset', log=log),
        sampler=dict(type='ResumableInfiniteSampler'))
    if aspect:
        loader['batch_sampler'] = dict(type='ResumableAspectRatioBatchSampler')
    cfg = dict(
        default_scope='mmdet',
        runner_type='PanopticRunner',
        work_dir=str(work_dir),
        # MMEngine keeps loggers by this name, with a resolution of 1 s
        experiment_name=uuid.uuid4().hex,
        model={
            'type': 'ToyModel',
            **(model or {})
        },
        train_dataloader=loader,
        train_cfg=dict(
            type='ResumableIterTrainLoop',
            max_iters=max_iters,
            val_interval=interval),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=7),
            dict(type='MultiStepLR', by_epoch=False, milestones=[9, 12])
        ],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=5),
            checkpoint=dict(
                type='SafeCheckpointHook',
                by_epoch=False,
                interval=interval,
                max_keep_ckpts=keep)),
        custom_hooks=hooks,
        log_processor=dict(by_epoch=False),
        randomness=dict(seed=5))
    if validate:
        cfg['default_hooks']['checkpoint'].update(
            save_best='toy/PQ', rule='greater')
        val = dict(
            batch_size=2,
            dataset=dict(type='ToyDataset', size=7, noise=False),
            sampler=dict(type='DefaultSampler', shuffle=False))
        cfg.update(
            val_dataloader=val,
            val_cfg=dict(),
            val_evaluator=dict(type='ToyMetric'))
    cfg.update(extra)
    return Config(cfg)


def final_state(work_dir, iteration=20):
    """What a finished run leaves, read by plain torch."""
    return torch.load(
        Path(work_dir) / f'iter_{iteration}.pth', weights_only=True)


def same(a, b):
    """Whether two nested structures are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def train(options):
    """Train in this process; ``options`` as for :func:`toy_config`."""
    try:
        return PanopticRunner.from_cfg(toy_config(**options)).train()
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _child(rank, world, port, options, fault):
    folder = Path(options['work_dir'])
    folder.mkdir(parents=True, exist_ok=True)
    out = open(folder / f'out_{rank}.txt', 'w', buffering=1)
    sys.stdout = sys.stderr = out
    os.dup2(out.fileno(), 1)
    os.dup2(out.fileno(), 2)
    if world > 1:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(world),
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=str(port))
        options = dict(options, launcher='pytorch')
    try:
        if fault is not None:
            fault()
        train(options)
    except BaseException as error:
        traceback.print_exc()
        (folder /
         f'error_{rank}.txt').write_text(f'{type(error).__name__}: {error}')
        os._exit(1)
    os._exit(0)


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def run(work_dir, world=1, fault=None, timeout=90, **options):
    """Train in ``world`` forked processes.

    Args:
        work_dir (Path): Of the run; also gets ``out_RANK.txt`` and, where
            training raised, ``error_RANK.txt``.
        world (int): Number of gloo processes.
        fault (Callable, optional): Called in the process before training.
        timeout (int): Seconds after which a process counts as hanging.
        **options: Of :func:`toy_config`.

    Returns:
        list[int]: Exit codes; negative: ended by that signal.
    """
    options['work_dir'] = str(work_dir)
    port = free_port()
    running, codes = {}, {}
    for rank in range(world):
        pid = os.fork()
        if pid == 0:
            _child(rank, world, port, options, fault)
        running[pid] = rank
    end = time.monotonic() + timeout
    while running and time.monotonic() < end:
        for pid in list(running):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[running.pop(pid)] = os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not running, f'{len(running)} processes hang'
    return [codes[rank] for rank in range(world)]


if __name__ == '__main__':
    train(json.loads(sys.argv[1]))
