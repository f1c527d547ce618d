"""NaN and infinity in a batch: training stops before anything is saved, says
where, and continues from the last checkpoint once the data are good again.
"""
import random
import re

import pytest
import torch
from mmengine.optim import AmpOptimWrapper

from mmengine_exact.amp import AMP_WRAPPER
from tests.mmengine_exact import toy

from .runs import (ITERATIONS, OPTIONS, Run, Tally, assert_all_whole,
                   checkpoint_of, resume)

#: Batches of each kind of run.
POINTS = 9
BAD = (float('nan'), float('inf'), -float('inf'))
HALF = dict(type=AMP_WRAPPER, optimizer=dict(type='SGD', lr=0.1, momentum=0.9))


def bad_input(at, value):
    """One number of a sample that is trained on in iteration ``at``."""
    loss = toy.ToyModel.forward

    def fault(rank):
        count = [0]

        def forward(self, inputs, data_samples=None, mode='tensor'):
            if mode == 'loss':
                count[0] += 1
                if count[0] == at:
                    inputs[-1][2] = value
            return loss(self, inputs, data_samples, mode)

        toy.ToyModel.forward = forward

    return fault


def bad_target(at, value):
    """The loss itself, as by a target that is none."""
    loss = toy.ToyModel.forward

    def fault(rank):
        count = [0]

        def forward(self, inputs, data_samples=None, mode='tensor'):
            out = loss(self, inputs, data_samples, mode)
            if mode == 'loss':
                count[0] += 1
                if count[0] == at:
                    out['loss_reg'] = out['loss_reg'] * value
            return out

        toy.ToyModel.forward = forward

    return fault


def strike(folder, whole, fault, at, world=1, mine=0, **options):
    run = Run(
        folder,
        world,
        fault=lambda rank: fault(rank) if rank == mine else None,
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
        make = (bad_input, bad_target)[number % 2]
        with tally.point(f'{make.__name__} in iteration {at}'):
            strike(tmp_path / str(number), whole, make(at, BAD[number % 3]),
                   at, world, mine, **options)
    tally.end()


class ScaledWrapper(AmpOptimWrapper):
    """MMEngine's, which asserts a GPU, on the CPU."""

    def __init__(self, **kwargs):
        super(AmpOptimWrapper, self).__init__(**kwargs)
        self._scale_update_param = None
        self.cast_dtype = torch.bfloat16
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=2.**127)

    def optim_context(self, model):
        return super(AmpOptimWrapper, self).optim_context(model)


def test_gradients_that_overflow_by_scaling_are_legal(tmp_path):
    """Loss scaling skips the step and lowers the scale; it is resumed."""
    from mmdet.registry import OPTIM_WRAPPERS

    def fault(rank):
        OPTIM_WRAPPERS.register_module(
            name='ScaledWrapper', module=ScaledWrapper, force=True)
        toy.F.cross_entropy = lambda *args: 64 * entropy(*args)

    entropy = toy.F.cross_entropy
    options = dict(
        OPTIONS,
        max_iters=10,
        optim_wrapper=dict(
            type='ScaledWrapper',
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9)))
    run = Run(tmp_path / 'whole', fault=fault, **options)
    assert run.end() == [0], run.output()[-2000:]
    state = toy.final_state(tmp_path / 'whole', 10)['optimizer']
    scale = state['loss_scaler']['scale']
    assert 1 < scale < 2.**123, scale

    def stopped(rank):
        fault(rank)
        bad_target(7, BAD[0])(rank)

    folder = tmp_path / 'run'
    run = Run(folder, fault=stopped, **options)
    assert run.end() == [1]
    assert run.message().startswith('Iteration 7: ')
    assert checkpoint_of(folder) == 6
    again = Run(folder, resume=True, fault=fault, **options)
    assert again.end() == [0], again.output()[-2000:]
    ends = [toy.final_state(tmp_path / name, 10) for name in ('whole', 'run')]
    for key in ('state_dict', 'optimizer'):
        assert toy.same(*(end[key] for end in ends)), key
