"""Losses that are read one iteration later, as on a GPU; on the CPU the lag is
forced. What a run leaves is what it leaves without."""
import re
from types import SimpleNamespace

import pytest
import torch

from mmengine_exact import launch, stopping
from mmengine_exact.outputs import DelayedOutputs
from panoptic_fpn.training.runner import PanopticRunner

from . import toy
from .test_preemption import HOOKS, STOPPED, assert_same_end, signal_at

EVERYTHING = dict(
    custom_hooks=[*HOOKS, dict(type='EMAHook')],
    validate=True,
    optim_wrapper=dict(
        optimizer=dict(type='SGD', lr=0.1, momentum=0.9),
        accumulative_counts=2,
        clip_grad=dict(max_norm=0.5)))


def lagged(*faults):
    """A fault: outputs wait for the next iteration."""

    def fault(rank):
        DelayedOutputs.lag = 1
        for one in faults:
            one(rank)

    return fault


def scalars(folder, iteration=20):
    """Each history of the message hub's training, but for times."""
    hub = toy.final_state(folder, iteration)['message_hub']['log_scalars']
    return {
        key: hub[key]
        for key in sorted(hub)
        if key.startswith('train/') and 'time' not in key
    }


def logged(run):
    lines = re.findall(r'Iter\(train\).*?(grad_norm.*|loss: .*)', run.output())
    return [sorted(line.split('  ')) for line in lines]


# The queue -----------------------------------------------------------------


@pytest.mark.parametrize('lag, counts', [(None, [1, 1, 1]), (0, [1, 1, 1]),
                                         (1, [0, 1, 1]), (2, [0, 0, 1])])
def test_the_queue_keeps_the_order(lag, counts):
    outputs = DelayedOutputs()
    outputs.lag = lag
    found, again = [], []
    for i in range(3):
        outputs.put(i, dict(loss=torch.tensor(float(i)), acc=i), found.append)
        assert len(found) == sum(counts[:i + 1])
        outputs.put(i, dict(loss=torch.tensor(float(i)), acc=i), again.append)
    outputs.read()
    assert found == again == [dict(loss=i, acc=i) for i in range(3)]
    outputs.read()
    assert len(found) == 3


def test_values_on_a_gpu_travel_together_and_are_waited_for(monkeypatch):
    """One copy for all of an iteration; read when its event has happened."""
    events = []

    class Event:
        """Until it is waited for, the host's memory holds something else."""

        def record(self):
            events.append('record')

        def synchronize(self):
            events.append('synchronize')

    monkeypatch.setattr(torch.cuda, 'Event', Event)
    monkeypatch.setattr(torch.Tensor, 'pin_memory', lambda self: self)
    monkeypatch.setattr(torch.Tensor, 'is_cuda', property(lambda self: True))
    outputs = DelayedOutputs()
    values = dict(
        a=torch.tensor([0.1], requires_grad=True),
        b=7,
        c=torch.tensor(0.3, dtype=torch.bfloat16),
        d=torch.tensor(float('nan')))
    first, second = [], []
    for reader in (first, second):  # two hooks, one copy
        outputs.put(1, values, reader.append)
    assert not first and events == ['record']
    outputs.put(2, values, first.append)
    assert events == ['record'] * 2 + ['synchronize']
    assert len(first) == 1 and first == second
    found, = first
    assert list(found) == list('abcd') and found['d'] != found['d']
    assert [found[key]
            for key in 'abc'] == [values['a'].item(), 7, values['c'].item()]


# Runs ----------------------------------------------------------------------


@pytest.mark.parametrize('world', [1, 2])
def test_everything_is_recorded_as_without_lag(tmp_path, world):
    """With EMA, accumulated gradients, their norms and validations."""
    plain = toy.Run(tmp_path / 'plain', world, **EVERYTHING)
    late = toy.Run(tmp_path / 'late', world, lagged(), **EVERYTHING)
    assert plain.end() == late.end() == [0] * world
    a, b = (toy.final_state(tmp_path / name) for name in ('plain', 'late'))
    for key in ('state_dict', 'ema_state_dict', 'optimizer'):
        assert toy.same(a[key], b[key]), key
    histories = scalars(tmp_path / 'late')
    assert toy.same(histories, scalars(tmp_path / 'plain'))
    assert len(histories['train/loss']['log']) == 20
    assert len(histories['train/grad_norm']['log']) == 10
    assert logged(late) == logged(plain) and len(logged(late)) >= 4


# Before a validation; before the log and a checkpoint; at the end
@pytest.mark.parametrize('nan_at', [8, 10, 17])
def test_a_nan_stops_all_before_it_is_saved(tmp_path, nan_at):
    options = dict(
        world=2,
        model=dict(nan_at=nan_at, nan_rank=1),
        validate=True,
        max_iters=17,
        train_cfg=dict(
            type='ResumableIterTrainLoop', max_iters=17, val_interval=4))
    runs = [
        toy.Run(tmp_path / 'plain', **options),
        toy.Run(tmp_path / 'late', fault=lagged(), **options)
    ]
    assert [run.end() for run in runs] == [[1, 1]] * 2
    # of the same iteration, with the same images
    text, = {
        run.message(rank).replace(str(run.out), '')
        for run in runs
        for rank in (0, 1)
    }
    assert text.startswith(f'Iteration {nan_at}: rank 1: ')
    validated = re.findall(r'Iter\(val\).*toy/PQ', runs[1].output())
    assert len(validated) == (nan_at - 1) // 4
    saved = {p.name for p in (tmp_path / 'late').glob('iter_*.pth')}
    assert saved == {f'iter_{i}.pth' for i in (5, 10, 15) if i < nan_at}
    hub = scalars(tmp_path / 'late', (nan_at - 1) // 5 * 5)
    assert torch.isfinite(hub['train/loss']['log']).all()


def test_a_nan_that_is_not_seen_yet_is_not_saved_by_a_signal(tmp_path):
    """Both in iteration 8, which would be saved before the next begins."""
    fault = lagged(signal_at(7))
    assert toy.run(
        tmp_path, fault=fault, custom_hooks=HOOKS,
        model=dict(nan_at=8)) == [1]
    assert toy.message(tmp_path).startswith('Iteration 8: loss')
    assert [p.name for p in tmp_path.glob('*.pth')] == ['iter_5.pth']


@pytest.mark.parametrize('at', [8, 10])  # the latter before a validation
def test_a_signal_stops_all_processes(tmp_path, at):
    options = dict(world=2, custom_hooks=HOOKS, validate=True)
    assert toy.run(tmp_path / 'whole', **options) == [0, 0]
    stopped = tmp_path / 'stopped'
    fault = lagged(signal_at(at - 1, rank=1))
    assert toy.run(stopped, fault=fault, **options) == [STOPPED, STOPPED]
    text = toy.message(stopped)
    assert f'a signal to another process after iteration {at}' in text
    assert len(scalars(stopped, at)['train/loss']['log']) == at
    assert toy.run(stopped, fault=lagged(), resume=True, **options) == [0, 0]
    assert_same_end(stopped, toy.final_state(tmp_path / 'whole'))


@pytest.mark.parametrize('nan_at', [None, 8])
def test_the_last_iteration_is_saved_where_the_loader_fails(tmp_path, nan_at):
    """On rank 1, before its 9th iteration; not with a NaN in it."""

    def broken(rank):
        count, read = [0], toy.ToyDataset.__getitem__

        def fail(self, index):
            count[0] += 1
            if rank == 1 and count[0] > 8 * 4:
                raise OSError('no such disk')
            return read(self, index)

        toy.ToyDataset.__getitem__ = fail

    run = toy.Run(
        tmp_path,
        2,
        lagged(broken),
        custom_hooks=HOOKS,
        model=dict(nan_at=nan_at))
    assert all(run.end())
    saved = sorted(p.name for p in tmp_path.glob('*.pth'))
    if nan_at:
        assert saved == ['iter_5.pth']
        assert 'Iteration 8 is not saved: Iteration 8: rank 0: loss' in (
            run.output())
        return
    assert saved == ['iter_5.pth', 'iter_8.pth']
    assert len(scalars(tmp_path, 8)['train/loss']['log']) == 8


@pytest.mark.parametrize('fault', [None, lagged()])
def test_loops_of_mmengine_stop(tmp_path, fault):
    loop = dict(type='IterBasedTrainLoop', max_iters=9, val_interval=100)
    options = dict(train_cfg=loop, custom_hooks=HOOKS)
    run = toy.Run(tmp_path / 'a', fault=fault, model=dict(nan_at=8), **options)
    assert run.end() == [1] and run.message().startswith('Iteration 8: loss')
    assert toy.run(tmp_path / 'b', fault=signal_at(5), **options) == [STOPPED]
    assert 'after iteration 6 of 9' in toy.message(tmp_path / 'b')


@pytest.mark.parametrize('entry, names', [
    ({}, ['DelayedRuntimeInfoHook']),
    (dict(runtime_info=dict(type='RuntimeInfoHook')),
     ['DelayedRuntimeInfoHook']),
    (dict(runtime_info=None), []),
])
def test_configs_need_not_name_the_hook(tmp_path, entry, names):
    cfg = toy.toy_config(tmp_path)
    cfg.default_hooks.update(entry)
    runner = PanopticRunner.from_cfg(cfg)
    found = [type(hook).__name__ for hook in runner.hooks]
    assert [name for name in found if 'RuntimeInfo' in name] == names


# Processes -----------------------------------------------------------------


def counted(rank):
    """A fault: print how many flags are exchanged, each time."""
    exchange = stopping.all_reduce

    def all_reduce(flags, **kwargs):
        print(f'EXCHANGE {len(flags)}', flush=True)
        exchange(flags, **kwargs)

    stopping.all_reduce = all_reduce


@pytest.mark.parametrize('fault', [counted, lagged(counted)])
def test_an_iteration_costs_one_exchange(tmp_path, fault):
    """And one more before a checkpoint is saved, after each 5th."""
    run = toy.Run(tmp_path, 2, fault, custom_hooks=HOOKS)
    assert run.end() == [0, 0]
    found = re.findall(r'EXCHANGE (\d)', run.output())
    assert found.count('3') == 20  # a loss, a signal, no next batch
    assert found.count('2') == 4 and len(found) == 24


def test_flags_have_a_group_of_their_own_beside_nccl(tmp_path):
    """Played by gloo; what NCCL sends would wait for the GPU."""

    def fault(rank):
        real, groups = launch.torch_dist, []

        def new_group(**kwargs):
            groups.append(real.new_group(**kwargs))
            return groups[-1]

        launch.torch_dist = SimpleNamespace(
            **{
                **vars(real), 'get_backend': lambda: 'nccl',
                'new_group': new_group
            })
        exchange = stopping.all_reduce

        def all_reduce(flags, op, group):
            assert [group] == groups and real.get_backend(group) == 'gloo'
            exchange(flags, op, group)

        stopping.all_reduce = all_reduce

    run = toy.Run(tmp_path, 2, fault, model=dict(nan_at=8, nan_rank=1))
    assert run.end() == [1, 1]
    assert run.message(0) == run.message(1)
    assert 'Iteration 8: rank 1: ' in run.message(0)
