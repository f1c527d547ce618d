"""Runs that are killed at random moments, resumed, killed again.

The last checkpoint must be whole after every kill, and the run that ends at
last must have the bits of one that nobody killed. ``pytest -m slow -s
tests/faults`` prints how many kills there were.
"""
import os
import random
import signal
import time

import pytest

from projects.panoptic_fpn.engine import latest_checkpoint, read_checkpoint

from ..engine import toy

ITERATIONS = 20
#: A checkpoint is written during much of the time.
OPTIONS = dict(
    max_iters=ITERATIONS,
    interval=2,
    keep=2,
    validate=True,
    custom_hooks=[
        dict(type='NonFiniteLossHook'),
        dict(type='MetricsJsonHook'),
        dict(type='PreemptionHook')
    ])


class Run:
    """Processes that train together, each a fork of this one."""

    def __init__(self, folder, world=1, **options):
        folder.mkdir(exist_ok=True)
        port = toy.free_port()
        self.codes, self.pids = {}, {}
        for rank in range(world):
            pid = os.fork()
            if not pid:
                toy._child(rank, world, port,
                           dict(OPTIONS, work_dir=str(folder), **options),
                           None)
            self.pids[rank] = pid

    def wait(self, seconds):
        """Whether all have ended within so many seconds."""
        end = time.monotonic() + seconds
        while True:
            for rank, pid in list(self.pids.items()):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    del self.pids[rank]
                    self.codes[rank] = os.waitstatus_to_exitcode(status)
            if not self.pids or time.monotonic() > end:
                return not self.pids
            time.sleep(0.005)

    def kill(self, number, rank=None):
        for mine, pid in self.pids.items():
            if rank in (None, mine):
                os.kill(pid, number)


def checkpoint_of(folder):
    """Iteration of the last checkpoint, which must be whole; 0 for none."""
    path = latest_checkpoint(str(folder))
    return read_checkpoint(path)['meta']['iter'] if path else 0


def assert_same_end(folder, reference):
    found = toy.final_state(folder, ITERATIONS)
    wanted = toy.final_state(reference, ITERATIONS)
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert toy.same(found[key], wanted[key]), key
    hubs = [one['message_hub']['runtime_info'] for one in (found, wanted)]
    assert hubs[0]['best_score'] == hubs[1]['best_score']
    assert not list(folder.glob('.*.part'))


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
    """Uninterrupted runs by number of processes, and their seconds."""
    made = {}

    def get(world):
        if world not in made:
            folder = tmp_path_factory.mktemp('whole')
            begin = time.monotonic()
            run = Run(folder, world)
            assert run.wait(120) and set(run.codes.values()) == {0}
            made[world] = folder, time.monotonic() - begin
        return made[world]

    return get


@pytest.mark.slow
@pytest.mark.parametrize('world, who, number, kills', [
    (1, None, signal.SIGKILL, 60),
    (1, None, signal.SIGTERM, 20),
    (2, None, signal.SIGKILL, 20),
    (2, 'one', signal.SIGKILL, 20),
])
def test_nothing_is_lost(reference, tmp_path, world, who, number, kills):
    whole, seconds = reference(world)
    draw = random.Random(kills + world)
    killed, ended, folder = 0, 0, None
    while killed < kills:
        if folder is None:
            folder = tmp_path / f'run_{ended}'
        reached = checkpoint_of(folder) if folder.exists() else 0
        run = Run(folder, world, resume=True)
        if not run.wait(draw.uniform(0.05, 1.2) * seconds):
            rank = draw.randrange(world) if who else None
            run.kill(number, rank)
            # the others of one that died end, too, and do not hang
            assert run.wait(60), f'processes hang after kill {killed}'
            # it may have ended by itself a moment before
            killed += set(run.codes.values()) != {0}
        assert checkpoint_of(folder) >= reached
        if set(run.codes.values()) == {0}:
            assert_same_end(folder, whole)
            ended, folder = ended + 1, None
    if folder is not None:
        run = Run(folder, world, resume=True)
        assert run.wait(120) and set(run.codes.values()) == {0}
        assert_same_end(folder, whole)
        ended += 1
    print(f'\n{killed} kills ({signal.Signals(number).name}, {world} '
          f'processes, {who or "all"} killed), {ended} runs ended with the '
          'same bits')
