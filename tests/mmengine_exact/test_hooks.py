"""Broken losses stop every process; metrics are written as JSON."""
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmengine_exact import NonFiniteLossError, NonFiniteLossHook
from mmengine_exact.numerics import image_names, require_finite_weights
from panoptic_fpn.training.metrics_json import MetricsJsonHook, flat_metrics

from . import toy


def run_hook(outputs, batch=None):
    runner = SimpleNamespace(iter=6, work_dir='work')
    NonFiniteLossHook().after_train_iter(runner, 6, batch, outputs)


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
def test_names_iteration_losses_and_images(bad):
    batch = dict(data_samples=[
        SimpleNamespace(metainfo=dict(img_path='a/b.jpg', img_id='b')),
        dict(img_path='c', img_id=7)
    ])
    outputs = dict(
        loss=torch.tensor(bad), loss_ok=torch.tensor(1.), loss_rpn=bad)
    with pytest.raises(NonFiniteLossError) as error:
        run_hook(outputs, batch)
    text = str(error.value)
    assert text.startswith('Iteration 7: ')
    assert f'loss = {bad}, loss_rpn = {bad} with' in text
    assert 'a/b.jpg (id b), c (id 7)' in text and 'loss_ok' not in text


def test_only_many_losses_in_a_row_stop_float16():
    """A GradScaler skips their steps; each is logged."""
    said = []
    wrapper = SimpleNamespace(
        loss_scaler=torch.amp.GradScaler('cpu'), cast_dtype=None)
    runner = SimpleNamespace(
        iter=0,
        work_dir='work',
        optim_wrapper=wrapper,
        logger=SimpleNamespace(warning=said.append))
    hook = NonFiniteLossHook()

    def step(loss):
        batch = dict(data_samples=[dict(img_path='a', img_id=runner.iter)])
        hook.after_train_iter(runner, 0, batch, dict(loss=torch.tensor(loss)))
        runner.iter += 1

    nan = float('nan')
    for loss in 19 * [nan] + [1.] + 19 * [nan]:
        step(loss)
    with pytest.raises(NonFiniteLossError) as error:
        step(nan)
    text = str(error.value)
    assert text.startswith('Iteration 21: loss = nan with the images a (id 20)'
                           '; and so on in 20 iterations in a row.')
    assert 'optim_wrapper.dtype=bfloat16' in text
    assert [line.split('. Its step')[0] for line in said[:2]] == [
        f'Iteration {i + 1}: loss = nan with the images a (id {i})'
        for i in (0, 1)
    ]
    assert len(said) == 39 and len(set(said)) == 39
    # bfloat16 needs no scale, and one that is off skips nothing
    for scaler, dtype in ((wrapper.loss_scaler, torch.bfloat16),
                          (torch.amp.GradScaler('cpu', enabled=False), None)):
        wrapper.loss_scaler, wrapper.cast_dtype = scaler, dtype
        with pytest.raises(NonFiniteLossError, match='a lower optim_wrapper'):
            NonFiniteLossHook().after_train_iter(runner, 0, None,
                                                 dict(loss=nan))


def test_finite_losses_and_other_outputs_pass():
    run_hook(dict(loss=torch.tensor(1.), acc=torch.tensor(float('nan'))))
    run_hook(dict(loss_cls=3.5))
    run_hook({})
    run_hook(None)
    assert image_names([1, 2]) == image_names(None) == image_names({}) == []


@pytest.mark.parametrize('nan_rank', [0, 1])
def test_all_ranks_stop_and_the_last_checkpoint_is_good(tmp_path, nan_rank):
    model = dict(nan_at=8, nan_rank=nan_rank)
    assert toy.run(tmp_path, 2, model=model) == [1, 1]
    texts = [toy.message(tmp_path, rank) for rank in (0, 1)]
    assert texts[0] == texts[1] and texts[0].startswith('Iteration 8: ')
    assert f'rank {nan_rank}: ' in texts[0] and 'loss_cls = nan' in texts[0]
    assert f'rank {1 - nan_rank}' not in texts[0]
    assert texts[0].count('image_') == 4
    weights = toy.final_state(tmp_path, 5)['state_dict']
    assert all(w.isfinite().all() for w in weights.values())
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_5.pth')


def test_broken_weights_are_not_saved(tmp_path):
    """A finite loss whose gradient is not: nothing is written over."""

    def spoil(rank):
        step = torch.optim.SGD.step

        def patched(self, *args, **kwargs):
            result = step(self, *args, **kwargs)
            spoil.count += 1
            if spoil.count == 10:
                with torch.no_grad():
                    self.param_groups[0]['params'][0].fill_(float('inf'))
            return result

        spoil.count = 0
        torch.optim.SGD.step = patched

    assert toy.run(tmp_path, fault=spoil) == [1]
    text = toy.message(tmp_path)
    assert 'Iteration 10: 1 weights' in text and 'iter_10.pth' in text
    assert 'backbone.0.weight' in text
    assert [p.name for p in tmp_path.glob('*.pth')] == ['iter_5.pth']


def test_broken_statistics_are_not_saved():
    """Of a loss whose step was skipped, say: they stay broken."""
    model = toy.ToyModel()
    model.register_buffer('mask', torch.tensor([-math.inf]))
    require_finite_weights(model, 3, 'iter_3.pth')
    model.backbone[1].running_var[2] = math.inf
    with pytest.raises(
            NonFiniteLossError, match='1 weights.*backbone.1.running_var'):
        require_finite_weights(model, 3, 'iter_3.pth')


def test_flat_metrics():
    metrics = {
        'a/PQ': np.float32(0.5),
        'b': torch.tensor(2),
        'nan': float('nan'),
        'none': None,
        'inf': torch.tensor(float('inf')),
        'group': dict(x=1, y=dict(z=np.float64('nan'))),
        'text': 't',
        'table': [1, 2],
        'array': np.arange(3)
    }
    assert flat_metrics(metrics) == {
        'a/PQ': 0.5,
        'b': 2,
        'nan': None,
        'none': None,
        'inf': None,
        'group/x': 1,
        'group/y/z': None,
        'text': 't'
    }


def test_metrics_json(tmp_path):
    runner = SimpleNamespace(work_dir=str(tmp_path))
    hook = MetricsJsonHook()
    hook.after_val_epoch(runner, dict(PQ=1., x=float('nan')))
    path = tmp_path / 'metrics.json'
    assert json.loads(path.read_text()) == dict(PQ=1., x=None)
    hook.after_test_epoch(runner, dict(PQ=2.))
    hook.after_test_epoch(runner, {})  # format_only scores nothing
    assert json.loads(path.read_text()) == dict(PQ=2.)
    assert list(tmp_path.iterdir()) == [path]
