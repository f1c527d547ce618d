"""The newest checkpoint is not what was written, as after a power failure:
``--resume`` takes the one before, and says so; a file that is named is an
error.
"""
import random
import shutil
import signal

import pytest

from mmengine_exact import CheckpointError, read_checkpoint
from mmengine_exact.checkpoint import usable_checkpoint

from .runs import Run, Tally, assert_same_end, checkpoint_of, resume

#: Files of each kind of damage.
POINTS = 6


def truncated(content, draw):
    return content[:draw.randrange(1, len(content))]


def emptied(content, draw):
    return b''


def zeroed(content, draw):
    """Blocks that never came to the disk read as zeros."""
    begin = draw.randrange(0, len(content) - 1)
    return content[:begin] + bytes(len(content) - begin)


def flipped(content, draw):
    """One bit of the weights, or of what is beside them."""
    place = draw.randrange(len(content) // 50, len(content) * 49 // 50)
    bit = content[place] ^ 1 << draw.randrange(8)
    return content[:place] + bytes([bit]) + content[place + 1:]


KINDS = (truncated, emptied, zeroed, flipped)


@pytest.fixture(scope='module')
def stopped(tmp_path_factory):
    """Folder of a run that was killed before iteration 13."""
    folder = tmp_path_factory.mktemp('stopped')
    hooks = [dict(type='NonFiniteLossHook'), dict(type='KillHook', at=12)]
    run = Run(folder, custom_hooks=hooks)
    assert run.end() == [-signal.SIGKILL]
    assert checkpoint_of(folder) == 12
    return folder


def damage(folder, name, kind, draw):
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(kind(whole, draw))


def copy(stopped, folder):
    shutil.copytree(stopped, folder)
    return folder


def test_the_one_before_is_used(stopped, tmp_path):
    assert usable_checkpoint(str(tmp_path)) == (None, [])
    folder = copy(stopped, tmp_path / 'run')
    assert usable_checkpoint(str(folder)) == (str(folder / 'iter_12.pth'), [])
    damage(folder, 'iter_12.pth', truncated, random.Random(0))
    path, problems = usable_checkpoint(str(folder))
    assert path == str(folder / 'iter_10.pth') and len(problems) == 1
    assert str(folder / 'iter_12.pth') in problems[0]
    damage(folder, 'iter_10.pth', emptied, random.Random(0))
    path, problems = usable_checkpoint(str(folder))
    assert path is None and len(problems) == 2
    run = Run(folder, resume=True)
    assert run.end() == [1]
    assert 'none of 2 checkpoints' in run.message()


def test_a_run_continues_from_the_one_before(reference, stopped, tmp_path):
    whole, _ = reference()
    folder = copy(stopped, tmp_path / 'run')
    damage(folder, 'iter_12.pth', flipped, random.Random(1))
    named = Run(folder, resume=True, load_from=str(folder / 'iter_12.pth'))
    assert named.end() == [1] and 'iter_12.pth' in named.message()
    run = Run(folder, resume=True)
    assert run.end() == [0], run.output()[-2000:]
    assert 'PASSED OVER: Checkpoint' in run.output()
    assert f'continues from the one before, {folder}/iter_10' in run.output()
    assert_same_end(folder, whole)


@pytest.mark.slow
def test_damaged_checkpoints(reference, stopped, tmp_path):
    whole, _ = reference()
    draw = random.Random(7)
    for kind in KINDS:
        tally = Tally(f'newest checkpoint {kind.__name__}')
        for number in range(POINTS):
            folder = copy(stopped, tmp_path / f'{kind.__name__}_{number}')
            damage(folder, 'iter_12.pth', kind, draw)
            with tally.point(f'{kind.__name__} {number}'):
                try:
                    read_checkpoint(str(folder / 'iter_12.pth'))
                except CheckpointError:
                    tally.saw('noticed')
                    if number % 2:  # killed again while it resumes
                        again = Run(folder, resume=True)
                        again.wait(draw.uniform(.1, 1.5))
                        again.kill(signal.SIGKILL)
                        again.end()
                else:
                    tally.saw('in padding')
                resume(folder, whole)
        tally.end()
