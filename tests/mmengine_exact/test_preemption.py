"""SIGTERM: what was trained is saved, and a resumed run has the bits of one
that nobody stopped."""
import os
import signal
import subprocess
import sys

import pytest

from mmengine_exact import latest_checkpoint

from . import toy

HOOKS = [dict(type='NonFiniteLossHook'), dict(type='PreemptionHook')]
STOPPED = 75


def children():
    """Processes that this one started, such as workers of a loader."""
    path = f'/proc/self/task/{os.getpid()}/children'
    if not os.path.isfile(path):
        pytest.skip('this system does not list the children of a process')
    with open(path) as file:
        return [int(pid) for pid in file.read().split()]


def signal_at(iteration, number=signal.SIGTERM, rank=None, workers=False):
    """A fault: the process gets a signal in its iteration (0-based)."""

    def fault(_):
        before = toy.ToyModel.forward
        count = [0]

        def forward(self, *args, **kwargs):
            count[0] += kwargs['mode'] == 'loss'
            me = int(os.environ.get('RANK', 0))
            if kwargs['mode'] == 'loss' and count[0] == iteration + 1 \
                    and rank in (None, me):
                for pid in children() if workers else ():
                    os.kill(pid, number)
                os.kill(os.getpid(), number)
            return before(self, *args, **kwargs)

        toy.ToyModel.forward = forward

    return fault


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    assert toy.run(folder, custom_hooks=HOOKS) == [0]
    return toy.final_state(folder)


def assert_same_end(folder, state):
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert toy.same(toy.final_state(folder)[key], state[key]), key


@pytest.mark.parametrize('num_workers', [0, 2])
def test_saves_and_continues(whole, tmp_path, num_workers):
    options = dict(custom_hooks=HOOKS, num_workers=num_workers, keep=1)
    fault = signal_at(12, workers=True)
    assert toy.run(tmp_path, fault=fault, **options) == [STOPPED]
    assert toy.message(tmp_path).startswith(
        'Stopped by SIGTERM after iteration 13 of 20')
    assert latest_checkpoint(str(tmp_path)).endswith('iter_13.pth')
    # the one before is gone, as max_keep_ckpts=1 says
    assert [p.name for p in tmp_path.glob('*.pth')] == ['iter_13.pth']
    assert toy.run(tmp_path, resume=True, **options) == [0]
    assert_same_end(tmp_path, whole)


def test_all_processes_stop_where_one_is_told_to(tmp_path):
    options = dict(world=2, custom_hooks=HOOKS)
    assert toy.run(tmp_path / 'whole', **options) == [0, 0]
    stopped = tmp_path / 'stopped'
    codes = toy.run(stopped, fault=signal_at(7, rank=1), **options)
    assert codes == [STOPPED, STOPPED]
    assert 'Stopped by SIGTERM after iteration 8' in toy.message(stopped, 1)
    assert 'a signal to another process after iteration 8' in toy.message(
        stopped)
    assert toy.run(stopped, resume=True, **options) == [0, 0]
    assert_same_end(stopped, toy.final_state(tmp_path / 'whole'))


def test_another_signal(whole, tmp_path):
    hooks = [dict(type='PreemptionHook', signals=['SIGTERM', 'SIGUSR1'])]
    fault = signal_at(3, signal.SIGUSR1)
    assert toy.run(tmp_path, fault=fault, custom_hooks=hooks) == [STOPPED]
    assert 'Stopped by SIGUSR1 after iteration 4' in toy.message(tmp_path)
    assert toy.run(tmp_path, resume=True, custom_hooks=hooks) == [0]
    assert_same_end(tmp_path, whole)


def test_nothing_is_lost_of_gradients_that_are_collected(tmp_path):
    optim = dict(
        optimizer=dict(type='SGD', lr=0.1, momentum=0.9),
        accumulative_counts=4)
    options = dict(custom_hooks=HOOKS, optim_wrapper=optim)
    assert toy.run(tmp_path / 'whole', **options) == [0]
    stopped = tmp_path / 'stopped'
    assert toy.run(stopped, fault=signal_at(9), **options) == [STOPPED]
    assert 'after iteration 12' in toy.message(stopped)
    assert toy.run(stopped, resume=True, **options) == [0]
    assert_same_end(stopped, toy.final_state(tmp_path / 'whole'))


def test_a_run_that_is_done_anyway_ends_well(whole, tmp_path):
    fault = signal_at(19)
    assert toy.run(tmp_path, fault=fault, custom_hooks=HOOKS) == [0]
    assert_same_end(tmp_path, whole)


def signal_in_validation(batch):
    """A fault: the process gets SIGTERM at a batch of all validations."""

    def fault(_):
        before = toy.ToyMetric.process
        count = [0]

        def process(self, *args):
            count[0] += 1
            if count[0] == batch:
                os.kill(os.getpid(), signal.SIGTERM)
            return before(self, *args)

        toy.ToyMetric.process = process

    return fault


def test_a_validation_is_left_and_repeated(tmp_path):
    """Signalled in the validation after iteration 10; each has 4 batches."""
    options = dict(custom_hooks=HOOKS, validate=True, keep=1)
    assert toy.run(tmp_path / 'whole', **options) == [0]
    stopped = tmp_path / 'stopped'
    fault = signal_in_validation(6)
    assert toy.run(stopped, fault=fault, **options) == [STOPPED]
    assert 'after iteration 10' in toy.message(stopped)
    assert not (stopped / 'best_toy_PQ_iter_10.pth').exists()
    # its score is the best until iteration 20
    assert toy.run(
        stopped, fault=signal_at(3), resume=True, **options) == [STOPPED]
    assert (stopped / 'best_toy_PQ_iter_10.pth').is_file()
    assert toy.run(stopped, resume=True, **options) == [0]
    assert_same_end(stopped, toy.final_state(tmp_path / 'whole'))


def test_a_validation_of_averages_is_left(tmp_path):
    """EMAHook has its averages in the model meanwhile."""
    options = dict(
        custom_hooks=[dict(type='EMAHook'), *HOOKS],
        validate=True,
        keep=1,
        max_iters=10)
    assert toy.run(tmp_path / 'whole', **options) == [0]
    stopped = tmp_path / 'stopped'
    fault = signal_in_validation(2)
    assert toy.run(stopped, fault=fault, **options) == [STOPPED]
    assert toy.run(stopped, resume=True, **options) == [0]
    a, b = (
        toy.final_state(path, 10) for path in (tmp_path / 'whole', stopped))
    for key in ('state_dict', 'ema_state_dict', 'optimizer'):
        assert toy.same(a[key], b[key]), key


def test_the_second_signal_ends_at_once(tmp_path):

    def fault(rank):
        signal_at(5)(rank)
        signal_at(5)(rank)

    codes = toy.run(tmp_path, fault=fault, custom_hooks=HOOKS)
    assert codes == [-signal.SIGTERM]
    assert latest_checkpoint(str(tmp_path)).endswith('iter_5.pth')


def test_what_cannot_be_saved_is_logged(tmp_path):
    hook = dict(type='SafeCheckpointHook', by_epoch=True, interval=1)
    code = toy.run(
        tmp_path,
        fault=signal_at(5),
        custom_hooks=HOOKS,
        default_hooks=dict(checkpoint=hook))
    assert code == [-signal.SIGTERM]
    assert 'a signal will end this run at once' in (tmp_path /
                                                    'out_0.txt').read_text()


def test_workers_end_with_their_parent(tmp_path):
    """Python ends those of a persistent loader by SIGTERM, and waits."""
    cfg = toy.toy_config(
        tmp_path, max_iters=5, num_workers=2, custom_hooks=HOOKS)
    cfg.update(
        custom_imports=dict(
            imports=['tests.mmengine_exact.toy'], allow_failed_imports=False))
    cfg.dump(tmp_path / 'config.py')
    tool = toy.REPO_ROOT / 'tools' / 'train.py'
    path = os.pathsep.join(map(str, sys.path))
    command = [sys.executable, tool, tmp_path / 'config.py', '--work-dir']
    run = subprocess.run([*command, tmp_path],
                         cwd=toy.REPO_ROOT,
                         env=dict(os.environ, PYTHONPATH=path),
                         capture_output=True,
                         timeout=120)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / 'iter_5.pth').is_file()
