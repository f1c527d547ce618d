"""A run of a second: toy data that log each read, a toy model that draws.

:class:`Run` and :func:`run` train in forked processes, which may kill
themselves and do not pay for importing torch.
``python -m tests.mmengine_exact.toy JSON``: for torchrun.
"""
import json
import math
import os
import random
import re
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
from mmdet.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.config import Config
from mmengine.config import config as mmengine_config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from mmengine_exact import SeededDatasetMixin, run_to_exit_code
from panoptic_fpn.training.runner import PanopticRunner
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


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


#: Seconds after which processes that outlive a failed one are ended, as
#: torchrun and srun end them.
GRACE = 15
#: Exit code of a process that showed a traceback instead of a message.
TRACEBACK = 70


class Hang(AssertionError):
    """Processes did not end."""


class Run:
    """Processes that train together, each a fork of this one; an error is a
    line and an exit code, as of ``tools/train.py``.

    Args:
        folder (Path): Work directory; also gets ``out_RANK.txt``.
        world (int): Number of gloo processes.
        fault (Callable, optional): Called with the rank before training.
        out (Path, optional): For ``out_RANK.txt`` instead.
        **options: Of :func:`toy_config`.
    """

    def __init__(self, folder, world=1, fault=None, out=None, **options):
        folder.mkdir(exist_ok=True, parents=True)
        self.out, self.world = out or folder, world
        options['work_dir'] = str(folder)
        port = free_port()
        self.codes, self.pids = {}, {}
        for rank in range(world):
            pid = os.fork()
            if not pid:
                self._child(rank, port, options, fault)
            self.pids[rank] = pid

    def _child(self, rank, port, options, fault):
        out = open(self.out / f'out_{rank}.txt', 'w', buffering=1)
        sys.stdout = sys.stderr = out
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        if self.world > 1:
            os.environ.update(
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE=str(self.world),
                MASTER_ADDR='127.0.0.1',
                MASTER_PORT=str(port))
            options = dict(options, launcher='pytorch')
        # laying out the config for each file takes most of the time
        mmengine_config.FormatCode = lambda text, **_: (text, True)
        try:
            if fault is not None:
                fault(rank)
            code = run_to_exit_code(
                lambda: PanopticRunner.from_cfg(toy_config(**options)).train())
        except BaseException:
            traceback.print_exc()
            code = TRACEBACK
        os._exit(code)

    def wait(self, seconds):
        """Whether all have ended within so many seconds."""
        end, failed = time.monotonic() + seconds, None
        while True:
            for rank, pid in list(self.pids.items()):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    del self.pids[rank]
                    self.codes[rank] = os.waitstatus_to_exitcode(status)
            if failed is None and any(self.codes.values()):
                failed = time.monotonic()
            if failed is not None and time.monotonic() > failed + GRACE:
                self.kill(signal.SIGKILL)
            if not self.pids or time.monotonic() > end:
                return not self.pids
            time.sleep(0.005)

    def kill(self, number, rank=None):
        for mine, pid in self.pids.items():
            if rank in (None, mine):
                os.kill(pid, number)

    def end(self, seconds=60):
        """Exit codes by rank; negative: ended by that signal.

        Raises:
            Hang: Not all ended in time; they are killed.
        """
        if not self.wait(seconds):
            ranks = sorted(self.pids)
            self.kill(signal.SIGKILL)
            self.wait(10)
            raise Hang(f'ranks {ranks} hang: {self.output(ranks[0])[-800:]}')
        return [self.codes[rank] for rank in range(self.world)]

    def output(self, rank=0):
        return (self.out / f'out_{rank}.txt').read_text()

    def message(self, rank=0):
        """The one line that a failed process ends with."""
        return message(self.out, rank)


def message(folder, rank=0):
    """The one line that a failed process of a run ended with."""
    text = (folder / f'out_{rank}.txt').read_text()
    # torch ends its words about a segmentation fault with a zero byte
    found = re.findall(r'^\0?(?:\[rank \d\] )?error: (.*)$', text, re.M)
    assert len(found) == 1, text[-2000:]
    assert 'Traceback (most recent' not in text, text[-3000:]
    return found[0]


def run(work_dir, world=1, fault=None, **options):
    """Exit codes of a :class:`Run`."""
    return Run(work_dir, world, fault, **options).end(90)


if __name__ == '__main__':
    train(json.loads(sys.argv[1]))
