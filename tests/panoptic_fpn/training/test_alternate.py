"""Alternate losses: the idle branch stands still, on every rank."""
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import HOOKS, MODELS
from mmengine.hooks import Hook
from torch import nn

from mmengine_exact.errors import InputError
from panoptic_fpn.training.alternate_losses import AlternateLossesHook
from tests.mmengine_exact import toy


@MODELS.register_module()
class TwoBranchToy(toy.ToyModel):
    """A toy with two heads on one trunk, as far as the hook sees it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.loss_weights = dict(instance=1.0, semantic=1.0)
        self.trained_branch = None
        self.instance, self.semantic = nn.Linear(8, 3), nn.Linear(8, 2)
        self.head = None

    def forward(self, inputs, data_samples=None, mode='tensor'):
        feats = self.backbone(torch.stack(list(inputs)))
        heads = dict(instance=self.instance, semantic=self.semantic)
        return {
            f'loss_{name}': head(feats).pow(2).mean()
            for name, head in heads.items()
            if self.trained_branch in (None, name)
        }


@HOOKS.register_module()
class StepsHook(Hook):
    """Notes after each iteration which heads the optimizer has moved."""

    priority = 'VERY_LOW'

    def after_train_iter(self, runner, *args, **kwargs):
        model = getattr(runner.model, 'module', runner.model)
        now = {
            name:
            [p.detach().clone() for p in getattr(model, name).parameters()]
            for name in ('instance', 'semantic', 'backbone')
        }
        before = getattr(self, 'before', None)
        if before is not None:
            moved = [
                name for name in now
                if any(not torch.equal(a, b)
                       for a, b in zip(now[name], before[name]))
            ]
            rank = runner.rank
            with open(f'{runner.work_dir}/moved_{rank}.txt', 'a') as file:
                file.write(f'{runner.iter} {" ".join(moved)}\n')
        self.before = now


def options(**extra):
    hooks = [dict(type='AlternateLossesHook'), dict(type='StepsHook')]
    return dict(
        model=dict(type='TwoBranchToy'),
        custom_hooks=hooks,
        find_unused_parameters=True,
        # both would move a parameter whose gradient is zero
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=.1)),
        max_iters=10,
        **extra)


def moved(folder, rank=0):
    lines = (folder / f'moved_{rank}.txt').read_text().splitlines()
    return {int(n): names for n, *names in map(str.split, lines)}


def expected(iteration):
    return [('instance', 'semantic')[iteration % 2], 'backbone']


def test_accumulated_gradients_are_of_one_branch(tmp_path):
    """Fewer GPUs: two iterations to a step of the optimizer."""
    wrapper = dict(options()['optim_wrapper'], accumulative_counts=2)
    assert toy.run(tmp_path, **dict(options(), optim_wrapper=wrapper)) == [0]
    found = moved(tmp_path)
    assert found == {
        i: expected(i // 2) if i % 2 else []
        for i in range(1, 10)
    }


def test_a_resumed_run_goes_on_with_the_right_branch(tmp_path):
    toy.run(tmp_path, **options(interval=5))
    (tmp_path / 'iter_10.pth').unlink()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_5.pth'))
    whole = moved(tmp_path)
    (tmp_path / 'moved_0.txt').unlink()
    assert toy.run(tmp_path, **options(interval=5, resume=True)) == [0]
    again = moved(tmp_path)
    assert list(again) == [6, 7, 8, 9]  # after the first, there is a before
    assert all(again[i] == whole[i] for i in again)


def test_all_ranks_train_the_same_branch(tmp_path):
    assert toy.run(tmp_path, world=2, **options()) == [0, 0]
    for rank in (0, 1):
        found = moved(tmp_path, rank)
        assert found == {i: expected(i) for i in range(1, 10)}


def test_a_model_without_two_branches_is_refused():
    model = nn.Module()
    with pytest.raises(InputError, match='lacks a branch'):
        AlternateLossesHook().before_train(SimpleNamespace(model=model))
    model.trained_branch = None
    model.loss_weights = dict(instance=1.0, semantic=0.0)
    with pytest.raises(InputError, match='semantic'):
        AlternateLossesHook().before_train(SimpleNamespace(model=model))
    model.loss_weights = dict(instance=1.0, semantic=0.5)
    model.find_unused_parameters = False  # as DDP is by default
    with pytest.raises(InputError, match='find_unused_parameters=True'):
        AlternateLossesHook().before_train(SimpleNamespace(model=model))
    del model.find_unused_parameters
    runner = SimpleNamespace(model=model, iter=1, cfg={})
    hook = AlternateLossesHook()
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    assert model.trained_branch == 'semantic'
    hook.after_train(runner)
    assert model.trained_branch is None
