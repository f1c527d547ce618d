"""EMAHook in our runner: what is saved, evaluated, resumed and refused."""
import copy
import signal

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModel

from mmengine_exact import CheckpointError
from panoptic_fpn.training.runner import PanopticRunner

from . import toy

MOMENTUM = 0.1
EMA = dict(type='EMAHook', momentum=MOMENTUM)


def options(kill_at=None, **extra):
    hooks = [dict(type='NonFiniteLossHook'), EMA]
    if kill_at is not None:
        hooks.append(dict(type='KillHook', at=kill_at))
    return dict(custom_hooks=hooks, **extra)


def run(folder, resume=False, kill_at=None, **extra):
    return toy.run(folder, resume=resume, **options(kill_at, **extra))


def averaged_and_raw(folder, iteration=20):
    """Weights of a checkpoint: the averages and those of the run."""
    content = toy.final_state(folder, iteration)
    return content['state_dict'], {
        key[len('module.'):]: value
        for key, value in content['ema_state_dict'].items()
        if key.startswith('module.')
    }


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ema')
    assert run(folder, interval=1) == [0]
    return folder


def test_checkpoints_hold_the_average(whole):
    """By the formula, from the run's own weights after each iteration."""
    average = None
    for iteration in range(1, 21):
        saved, raw = averaged_and_raw(whole, iteration)
        weight = raw['head.weight'].double()
        average = weight if average is None else (
            1 - MOMENTUM) * average + MOMENTUM * weight
        torch.testing.assert_close(
            saved['head.weight'].double(), average, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(saved['head.weight'], raw['head.weight'])
    # statistics of batch norm are the run's
    key = 'backbone.1.running_mean'
    assert torch.equal(saved[key], raw[key])


def test_the_hook_leaves_the_training_alone(whole, tmp_path):
    assert toy.run(tmp_path) == [0]
    assert toy.same(
        dict(toy.final_state(tmp_path)['state_dict']),
        averaged_and_raw(whole)[1])


def test_kill_and_resume_to_the_bit(tmp_path, whole):
    assert run(tmp_path, kill_at=13) == [-signal.SIGKILL]
    assert run(tmp_path, resume=True) == [0]
    one, two = toy.final_state(tmp_path), toy.final_state(whole)
    for key in ('state_dict', 'ema_state_dict', 'optimizer'):
        assert toy.same(one[key], two[key]), key


def test_two_processes_have_one_average(tmp_path):
    assert toy.run(tmp_path / 'a', world=2, **options()) == [0, 0]
    killed = toy.run(tmp_path / 'b', world=2, **options(kill_at=13))
    assert killed == [-signal.SIGKILL] * 2
    assert toy.run(tmp_path / 'b', world=2, resume=True, **options()) == [0, 0]
    one, two = (toy.final_state(tmp_path / name) for name in 'ab')
    for key in ('state_dict', 'ema_state_dict', 'optimizer'):
        assert toy.same(one[key], two[key]), key


def score(config, weights):
    """The metric ``sum`` of the validation data by these weights."""
    runner = PanopticRunner.from_cfg(config)
    runner.model.load_state_dict(weights)
    runner.model.eval()
    with torch.no_grad():
        return sum(result['score'] for data in runner.val_dataloader
                   for result in runner.model.val_step(data))


def score_by_test(folder, load_from, **extra):
    """The metric ``sum`` of a test of these files."""
    cfg = toy.toy_config(folder, validate=True, load_from=load_from, **extra)
    cfg.update(
        test_dataloader=cfg.val_dataloader,
        test_cfg=dict(),
        test_evaluator=cfg.val_evaluator)
    return PanopticRunner.from_cfg(cfg).test()['toy/sum']


def test_validation_and_test_are_of_the_average(tmp_path):
    """Also the best checkpoint, and a file that has no average."""
    config = toy.toy_config(tmp_path, max_iters=10, validate=True, **options())
    runner = PanopticRunner.from_cfg(config)
    seen = []
    evaluate = runner.val_loop.evaluator.evaluate
    runner.val_loop.evaluator.evaluate = lambda size: seen.append(
        evaluate(size)) or seen[-1]
    runner.train()
    averaged, raw = averaged_and_raw(tmp_path, 10)
    plain = toy.toy_config(tmp_path / 'plain', validate=True)
    wanted = score(copy.deepcopy(plain), averaged)
    assert seen[-1]['toy/sum'] == pytest.approx(wanted, rel=1e-5)
    assert wanted != pytest.approx(score(copy.deepcopy(plain), raw), rel=1e-3)
    # after the validation the run has its own weights again
    assert toy.same(dict(runner.model.state_dict()), raw)
    best = torch.load(tmp_path / 'best_toy_PQ_iter_10.pth', weights_only=True)
    assert toy.same(dict(best['state_dict']), dict(averaged))
    torch.save(
        dict(state_dict=averaged, meta={}), tmp_path / 'weights_alone.pth')
    for name in ('iter_10', 'best_toy_PQ_iter_10', 'weights_alone'):
        for extra in (options(), {}):
            found = score_by_test(tmp_path / 'test',
                                  str(tmp_path / f'{name}.pth'), **extra)
            assert found == pytest.approx(wanted, rel=1e-5)


def test_a_resume_without_the_hook_is_refused(tmp_path, whole):
    """It would go on from averages, with the optimizer's other state."""
    path = str(whole / 'iter_10.pth')

    def resume(**extra):
        config = toy.toy_config(tmp_path, load_from=path, **extra)
        PanopticRunner.from_cfg(config).train()

    with pytest.raises(CheckpointError, match='written with EMAHook.*custom'):
        resume(resume=True)
    # and one of another model says what differs, as without the hook
    with pytest.raises(CheckpointError, match='head.weight has 3 rows'):
        resume(resume=True, model=dict(rows=4), **options())
    # fine-tuning from them is what they are for
    resume(max_iters=1)


@MODELS.register_module()
class ToyPair(BaseModel):
    """Two networks, each from a checkpoint of its own."""

    networks = ('one', 'two')

    def __init__(self):
        super().__init__()
        self.one, self.two = toy.ToyModel(), toy.ToyModel()

    def forward(self, inputs, data_samples=None, mode='tensor'):
        results = [
            getattr(self, name)(inputs, data_samples, mode)
            for name in self.networks
        ]
        return [
            dict(score=sum(one['score'] for one in both))
            for both in zip(*results)
        ]


def test_weights_of_two_files_are_evaluated(tmp_path):
    """The average that a test swaps in is of them, not of what was drawn."""
    torch.manual_seed(3)
    pair, paths = ToyPair(), []
    for name in pair.networks:
        paths.append(str(tmp_path / f'{name}.pth'))
        torch.save(
            dict(state_dict=getattr(pair, name).state_dict(), meta={}),
            paths[-1])
    found = [
        score_by_test(tmp_path, paths, model=dict(type='ToyPair'), **extra)
        for extra in ({}, options())
    ]
    assert found[0] == pytest.approx(found[1]) and found[0] != 0
