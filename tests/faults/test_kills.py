"""Runs that are killed at random moments, resumed, killed again.

The last checkpoint must be whole after every kill, and the run that ends at
last must have the bits of one that nobody killed. ``pytest -m slow -s
tests/faults`` prints how many kills there were.
"""
import random
import signal

import pytest

from .runs import Run, assert_same_end, checkpoint_of


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
