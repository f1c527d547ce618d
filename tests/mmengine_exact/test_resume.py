"""A killed run that is resumed ends with the bits of an uninterrupted one."""
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from . import toy

KILLED = -signal.SIGKILL
BATCH = 4


def reads(path):
    return [int(line) for line in Path(path).read_text().split()]


def assert_same_end(one, other):
    a, b = toy.final_state(one), toy.final_state(other)
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert toy.same(a[key], b[key]), key


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Uninterrupted runs, by number of processes and of loader workers."""
    made = {}

    def get(world=1, num_workers=0, aspect=True):
        key = (world, num_workers, aspect)
        if key not in made:
            folder = tmp_path_factory.mktemp('whole')
            assert toy.run(
                folder,
                world,
                log=str(folder / 'reads'),
                num_workers=num_workers,
                aspect=aspect) == [0] * world
            made[key] = folder
        return made[key]

    return get


@pytest.mark.parametrize('world,num_workers,aspect',
                         [(1, 0, True), (1, 2, True), (1, 0, False),
                          (2, 0, True), (2, 2, True)])
def test_kill_and_resume(whole, tmp_path, world, num_workers, aspect):
    options = dict(num_workers=num_workers, aspect=aspect)
    killed = toy.run(tmp_path, world, kill_at=13, **options)
    assert killed == [KILLED] * world
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_10.pth')
    log = tmp_path / 'reads'
    again = toy.run(tmp_path, world, log=str(log), resume=True, **options)
    assert again == [0] * world, (tmp_path / 'out_0.txt').read_text()[-2000:]
    reference = whole(world, num_workers, aspect)
    assert_same_end(tmp_path, reference)
    # Only the batches of iterations 10 .. 19 were read, none before or after.
    everything = reads(reference / 'reads')
    assert len(everything) == 20 * BATCH * world
    assert len(reads(log)) == 10 * BATCH * world
    if world == 1 and num_workers == 0:
        assert reads(log) == everything[10 * BATCH:]


def test_workers_do_not_change_the_bits(whole):
    assert_same_end(whole(1, 0), whole(1, 2))
    assert_same_end(whole(2, 0), whole(2, 2))


def test_the_comparison_can_fail(whole, tmp_path):
    assert toy.run(tmp_path, randomness=dict(seed=6)) == [0]
    a, b = toy.final_state(tmp_path), toy.final_state(whole())
    assert not toy.same(a['state_dict'], b['state_dict'])


@pytest.mark.parametrize(
    'randomness',
    [dict(seed=None), dict(seed=5, diff_rank_seed=True)])
def test_a_drawn_seed_is_resumed(tmp_path, randomness):
    """The checkpoint's seed replaces the one that the second start draws."""
    options = dict(randomness=randomness)
    assert toy.run(tmp_path / 'a', **options) == [0]
    saved = toy.final_state(tmp_path / 'a', 10)
    (tmp_path / 'b').mkdir()
    import torch
    torch.save(saved, tmp_path / 'b' / 'iter_10.pth')
    assert toy.run(tmp_path / 'b', resume=True, **options) == [0]
    assert_same_end(tmp_path / 'a', tmp_path / 'b')


def test_twice_killed_within_one_interval(whole, tmp_path):
    assert toy.run(tmp_path, kill_at=3) == [KILLED]
    for kill_at in (6, 17):
        assert toy.run(tmp_path, kill_at=kill_at, resume=True) == [KILLED]
    assert toy.run(tmp_path, resume=True) == [0]
    assert_same_end(tmp_path, whole())


def test_resume_without_checkpoint_starts_at_0(whole, tmp_path):
    assert toy.run(tmp_path, resume=True) == [0]
    assert_same_end(tmp_path, whole())


def test_best_checkpoint_survives_a_kill(tmp_path):
    """Scores 1, 3, 2, 4 at iterations 5, 10, 15, 20; killed at 13 and 18."""
    options = dict(validate=True, keep=1)
    assert toy.run(tmp_path, kill_at=13, **options) == [KILLED]
    assert (tmp_path / 'best_toy_PQ_iter_10.pth').is_file()
    assert toy.run(tmp_path, kill_at=18, resume=True, **options) == [KILLED]
    hub = toy.final_state(tmp_path, 15)['message_hub']['runtime_info']
    assert hub['best_score'] == 3
    assert hub['best_ckpt'].endswith('best_toy_PQ_iter_10.pth')
    assert (tmp_path / 'best_toy_PQ_iter_10.pth').is_file()
    assert toy.run(tmp_path, resume=True, **options) == [0]
    files = sorted(path.name for path in tmp_path.glob('*.pth'))
    assert files == ['best_toy_PQ_iter_20.pth', 'iter_20.pth']


def test_validation_that_a_kill_prevented_is_made_up(tmp_path):
    """Killed after checkpoint 10 and before its validation (score 3)."""

    def die_in_validation(rank):

        def kill(self, results):
            from mmengine.logging import MessageHub
            if MessageHub.get_current_instance().get_info('iter') == 9:
                toy.os.kill(toy.os.getpid(), signal.SIGKILL)
            return dict(PQ=1., n=0)

        toy.ToyMetric.compute_metrics = kill

    options = dict(validate=True, keep=1)
    killed = toy.run(tmp_path, fault=die_in_validation, **options)
    assert killed == [KILLED]
    assert (tmp_path / 'iter_10.pth').is_file()
    assert toy.run(tmp_path, kill_at=12, resume=True, **options) == [KILLED]
    assert (tmp_path / 'best_toy_PQ_iter_10.pth').is_file()


RESUMED = 'keeps the learning rate and schedule of its checkpoint'


def adamw(lr=0.1, betas=(0.9, 0.99), end=20, factor=0.5):
    """Settings that schedulers change, each in several groups."""
    return dict(
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=lr, betas=betas),
            paramwise_cfg=dict(bias_lr_mult=2.0)),
        param_scheduler=[
            dict(
                type='CosineAnnealingLR',
                by_epoch=False,
                T_max=20,
                begin=0,
                end=end),
            dict(
                type='LinearMomentum',
                by_epoch=False,
                start_factor=factor,
                end=15)
        ])


@pytest.mark.parametrize(
    'first, second, expected',
    [
        (adamw(), adamw(), None),
        (adamw(), adamw(lr=0.3), 'lr 0.1 (config: 0.3)'),
        (adamw(), adamw(betas=(0.8, 0.99)), 'betas 0.9 (config: 0.8)'),
        (adamw(), adamw(end=40, factor=0.25), 'param_scheduler.0.end 20 '
         '(config: 40), param_scheduler.1.start_factor 0.5 (config: 0.25)'),
        (dict(),
         dict(
             optim_wrapper=dict(
                 optimizer=dict(type='SGD', lr=1., momentum=0.))),
         'lr 0.1 (config: 1.0), momentum 0.9 (config: 0.0)'),
        (dict(),
         dict(param_scheduler=[
             dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=7),
             dict(
                 type='MultiStepLR',
                 by_epoch=False,
                 milestones=[12, 18],
                 gamma=0.5)
         ]), 'param_scheduler.1.gamma 0.1 (config: 0.5), '
         'param_scheduler.1.milestones [9, 12] (config: [12, 18])'),
        # without an end of its own a schedule ends with the run
        (dict(), dict(max_iters=11), 'param_scheduler.1.end 10 (config: 11)'),
        (dict(param_scheduler=None), dict(param_scheduler=None), None),
    ])
def test_another_schedule_is_not_dropped_without_a_word(
        tmp_path, first, second, expected):
    assert toy.run(tmp_path, max_iters=10, **first) == [0]
    out = tmp_path / 'resumed'
    out.mkdir()
    second = dict(dict(max_iters=10, resume=True), **second)
    resumed = toy.Run(tmp_path, out=out, **second)
    assert resumed.end() == [0], resumed.output()
    lines = [li for li in resumed.output().splitlines() if RESUMED in li]
    assert len(lines) == (expected is not None)
    if expected is not None:
        path = tmp_path / 'iter_10.pth'
        assert f'WARNING - {path}: a resumed run {RESUMED}' in lines[0]
        assert f'not those of the config: {expected}. To train' in lines[0]
        assert f'--cfg-options load_from={path}' in lines[0]


@pytest.mark.slow
def test_torchrun_gives_the_same_bits(whole, tmp_path):
    options = json.dumps(
        dict(work_dir=str(tmp_path), launcher='pytorch', num_workers=2))
    subprocess.run([
        sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2',
        f'--master_port={toy.free_port()}', '-m', 'tests.mmengine_exact.toy',
        options
    ],
                   cwd=toy.REPO_ROOT,
                   check=True,
                   timeout=200,
                   capture_output=True)
    assert_same_end(tmp_path, whole(2, 2))
