"""NaN and infinity in a batch: training stops before anything is saved, says
where, and continues from the last checkpoint once the data are good again.
"""
import random
import re

import pytest
import torch

from mmengine_exact.amp import AMP_WRAPPER
from tests.mmengine_exact import toy

from .runs import (ITERATIONS, Run, Tally, assert_all_whole, checkpoint_of,
                   resume)

#: Batches of each kind of run.
POINTS = 9
BAD = (float('nan'), float('inf'), -float('inf'))
HALF = dict(type=AMP_WRAPPER, optimizer=dict(type='SGD', lr=0.1, momentum=0.9))


def bad_batch(at, value, of_loss):
    """One number of a sample that is trained on in iteration ``at``, or the
    loss itself, as by a target that is none."""
    forward, count = toy.ToyModel.forward, [0]

    def patched(self, inputs, data_samples=None, mode='tensor'):
        count[0] += mode == 'loss'
        struck = mode == 'loss' and count[0] == at
        if struck and not of_loss:
            inputs[-1][2] = value
        out = forward(self, inputs, data_samples, mode)
        if struck and of_loss:
            out['loss_reg'] = out['loss_reg'] * value
        return out

    toy.ToyModel.forward = patched


def strike(folder, whole, fault, at, world=1, mine=0, **options):
    run = Run(
        folder,
        world,
        fault=lambda rank: fault() if rank == mine else None,
        **options)
    assert run.end() == [1] * world, run.output()[-2000:]
    for rank in range(world):
        message = run.message(rank)
        assert message.startswith(f'Iteration {at}: '), message
        assert re.search(r'loss\w* = -?(nan|inf)', message), message
        assert message.count('image_') == 4, message
        assert world == 1 or f'rank {mine}: ' in message, message
    # the iterations before it with a checkpoint
    assert checkpoint_of(folder) == (at - 1) // 2 * 2
    assert_all_whole(folder)
    for path in folder.glob('*.pth'):
        saved = torch.load(path, weights_only=True)['state_dict']
        assert all(weight.isfinite().all() for weight in saved.values())
    resume(folder, whole, world, **options)


def test_a_bad_loss(reference, tmp_path):
    whole, _ = reference()
    strike(tmp_path, whole, lambda: bad_batch(7, BAD[0], True), 7)


@pytest.mark.slow
@pytest.mark.parametrize('world', [1, 2])
@pytest.mark.parametrize(
    'options', [{}, dict(optim_wrapper=HALF)], ids=['float32', 'bfloat16'])
def test_bad_batches(reference, tmp_path, world, options):
    whole, _ = reference(world, **options)
    draw = random.Random(world)
    tally = Tally(f'NaN in a batch, {world} processes, '
                  f'{"bfloat16" if options else "float32"}')
    for number in range(POINTS):
        at, mine = draw.randint(1, ITERATIONS), draw.randrange(world)
        with tally.point(f'iteration {at}'):
            strike(tmp_path / str(number), whole,
                   lambda: bad_batch(at, BAD[number % 3], number % 2), at,
                   world, mine, **options)
    tally.end()
