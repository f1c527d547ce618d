"""Processes without an accelerator."""
import json
import os

import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.hooks import Hook

from mmengine_exact import launch, launched_world_size
from mmengine_exact.errors import RunError
from mmengine_exact.launch import (cpu_wrapper_cfg, init_process_group,
                                   without_sync_bn)
from panoptic_fpn.training.runner import PanopticRunner

from . import toy

cpu_only = pytest.mark.skipif(
    torch.cuda.is_available(), reason='gloo is for machines without a GPU')


def test_world_size_before_start(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '4')
    monkeypatch.setenv('SLURM_NTASKS', '16')
    sizes = map(launched_world_size, ('none', 'pytorch', 'slurm'))
    assert list(sizes) == [1, 4, 16]


def test_hosts_that_do_not_reach_each_other(monkeypatch):

    def fails(**kwargs):
        raise RuntimeError('Gloo connectFullMesh failed with [gloo/transport')

    monkeypatch.setattr(launch, 'is_distributed', lambda: True)
    monkeypatch.setattr(launch.torch_dist, 'get_backend', lambda: 'nccl')
    monkeypatch.setattr(launch.torch_dist, 'new_group', fails)
    with pytest.raises(RunError, match='(?s)FullMesh.*GLOO_SOCKET_IFNAME'):
        launch.host_group({})


def test_wrapper_has_no_device_ids():
    cfg = Config(dict(find_unused_parameters=True))
    assert cpu_wrapper_cfg(cfg, None) == dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=True,
        device_ids=None)
    given = dict(static_graph=True)
    assert cpu_wrapper_cfg(cfg, given) == dict(
        type='MMDistributedDataParallel', static_graph=True, device_ids=None)
    assert given == dict(static_graph=True)


def test_sync_bn_is_replaced():
    model = without_sync_bn(nn.Sequential(nn.SyncBatchNorm(4)))
    assert model(torch.ones(2, 4, 3, 3)).shape == (2, 4, 3, 3)


@cpu_only
def test_two_processes_validate_without_a_shared_directory(
        tmp_path, monkeypatch):
    (tmp_path / 'cwd').mkdir()
    monkeypatch.chdir(tmp_path / 'cwd')
    dist_cfg = dict(dist_cfg=dict(backend='nccl', timeout=60))
    assert toy.run(
        tmp_path / 'run', 2, validate=True, env_cfg=dist_cfg) == [0, 0]
    metrics = json.loads((tmp_path / 'run' / 'metrics.json').read_text())
    assert metrics['toy/n'] == 7  # 2 x 4 samples, the padding one dropped
    assert not os.listdir(tmp_path / 'cwd')


@cpu_only
def test_all_ranks_evaluate_the_model_that_is_saved(tmp_path):
    """BatchNorm's statistics differ between ranks; rank 0's are saved."""
    options = dict(validate=True)
    assert toy.run(tmp_path / 'a', 2, **options) == [0, 0]
    assert toy.run(tmp_path / 'b', 2, kill_at=13, **options) == [-9, -9]
    assert toy.run(tmp_path / 'b', 2, resume=True, **options) == [0, 0]
    a, b = ((tmp_path / name / 'metrics.json').read_text() for name in 'ab')
    assert a == b
    cfg = toy.toy_config(tmp_path / 'c', validate=True)
    cfg.load_from = str(tmp_path / 'a' / 'iter_20.pth')
    alone = PanopticRunner.from_cfg(cfg).val()
    assert json.loads(a)['toy/sum'] == pytest.approx(alone['toy/sum'])


class AskHook(Hook):

    def after_val_iter(self, runner, *args, **kwargs):
        self.seen = (runner.iter, runner.epoch, runner.max_iters,
                     runner.max_epochs)


def test_evaluation_does_not_load_the_training_data(tmp_path):
    """MMEngine would, as soon as a hook asks for the iteration."""
    cfg = toy.toy_config(tmp_path, validate=True)
    cfg.train_dataloader.dataset.type = 'NoSuchDataset'
    runner = PanopticRunner.from_cfg(cfg)
    hook = AskHook()
    runner.register_hook(hook)
    assert runner.val()['toy/n'] == 7
    assert hook.seen == (0, 0, 0, 0)


@cpu_only
def test_two_processes_start_from_one_seed(tmp_path):
    """All ranks draw one seed, and rank 0's weights are everyone's."""
    assert toy.run(tmp_path, 2, randomness=dict(seed=None)) == [0, 0]


@cpu_only
def test_slurm_variables(tmp_path):
    """As srun sets them, and the address that users may set."""

    def slurm(rank):
        for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'):
            del os.environ[name]
        os.environ.update(
            SLURM_PROCID=str(rank), SLURM_NTASKS='2', SLURM_LOCALID=str(rank))
        init_process_group('slurm', dict(timeout=60))
        assert torch.distributed.get_backend() == 'gloo'
        assert torch.distributed.get_rank() == rank

    assert toy.run(tmp_path, 2, fault=slurm) == [0, 0], \
        (tmp_path / 'out_0.txt').read_text()[-2000:]


def test_warns_of_another_batch_and_scales_on_request(tmp_path):
    auto = dict(enable=False, base_batch_size=16)
    assert toy.run(tmp_path / 'a', 2, auto_scale_lr=auto) == [0, 0]
    log = (tmp_path / 'a' / 'out_0.txt').read_text()
    assert 'effective batch is 8 images (2 process(es))' in log
    assert 'made for 16' in log
    assert toy.run(
        tmp_path / 'b', 2, auto_scale_lr=dict(auto, enable=True)) == [0, 0]
    last = toy.final_state(tmp_path / 'b', 40)
    assert last['optimizer']['param_groups'][0]['initial_lr'] == \
        pytest.approx(0.05)
    assert 'effective batch' not in (tmp_path / 'b' / 'out_0.txt').read_text()


def test_resume_with_another_number_of_processes_is_told(tmp_path):
    assert toy.run(tmp_path, 1, kill_at=8) == [-9]
    assert toy.run(tmp_path, 2, resume=True) == [0, 0]
    log = (tmp_path / 'out_0.txt').read_text()
    assert "written with {'world_size': 1" in log
