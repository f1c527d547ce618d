"""bfloat16 on the CPU; types and loss scale of a GPU, played by the CPU."""
from functools import partial

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim.optimizer import amp_optimizer_wrapper

from mmengine_exact import (Bfloat16OptimWrapper, RunError, amp, enable_amp,
                            enable_test_amp, half_precision)
from mmengine_exact.amp import HalfPrecisionHook, half_dtype

from . import toy


class Small(BaseModel):
    """A convolution, group norm and a loss, as in the semantic branch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.GroupNorm(4, 8)
        self.out = nn.Conv2d(8, 5, 1)
        self.seen = []

    def forward(self, inputs, data_samples=None, mode='loss'):
        features = self.conv(inputs)
        logits = self.out(F.relu(self.norm(features)))
        loss = F.cross_entropy(logits, data_samples)
        self.seen.append((features.dtype, loss.dtype))
        return dict(loss=loss)


def build(model, **kwargs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return OPTIM_WRAPPERS.build(
        dict(type='ExactAmpOptimWrapper', optimizer=optimizer, **kwargs))


@pytest.mark.skipif(torch.cuda.is_available(), reason='CPU only')
def test_trains_in_bfloat16_with_float32_losses_and_weights():
    torch.manual_seed(0)
    model = Small()
    wrapper = build(model, dtype='float16', loss_scale='dynamic')
    assert isinstance(wrapper, Bfloat16OptimWrapper)
    data = dict(
        inputs=torch.randn(4, 3, 8, 8),
        data_samples=torch.randint(0, 5, (4, 8, 8)))
    losses = [
        model.train_step(data, wrapper)['loss'].item() for _ in range(30)
    ]
    assert set(model.seen) == {(torch.bfloat16, torch.float32)}
    assert losses[-1] < losses[0] - 0.05
    with wrapper.optim_context(model):
        loss = model(**data)['loss']
    assert not torch.is_autocast_enabled('cpu')
    loss.backward()
    for parameter in model.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


@pytest.mark.skipif(torch.cuda.is_available(), reason='CPU only')
def test_a_gpu_runs_state_is_loaded():
    model = Small()
    wrapper = build(model)
    state = dict(wrapper.state_dict(), loss_scaler=dict(scale=2.))
    wrapper.load_state_dict(state)
    assert 'loss_scaler' in state


def test_enable_amp():
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD'))))
    enable_amp(cfg)
    assert cfg.optim_wrapper.type == 'ExactAmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == 'dynamic'
    enable_amp(cfg)
    cfg.optim_wrapper.type = 'Strange'
    with pytest.raises(RunError, match="type='Strange'"):
        enable_amp(cfg)


def test_resumed_run_has_the_same_bits(tmp_path):
    options = dict(
        optim_wrapper=dict(
            type='ExactAmpOptimWrapper',
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9)))
    assert toy.run(tmp_path / 'a', **options) == [0]
    assert toy.run(tmp_path / 'b', kill_at=13, **options) == [-9]
    assert toy.run(tmp_path / 'b', resume=True, **options) == [0]
    a, b = (toy.final_state(tmp_path / name) for name in 'ab')
    assert toy.same(a['state_dict'], b['state_dict'])


# As on a GPU ---------------------------------------------------------------


def with_scaler(rank=0, patch=setattr):
    """A fault: MMEngine's wrapper, with the GradScaler of a CPU."""
    patch(amp, 'on_cpu', lambda: False)
    patch(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    patch(amp_optimizer_wrapper, 'GradScaler',
          partial(torch.amp.GradScaler, 'cpu'))


def half_run(folder, dtype, **options):
    wrapper = dict(
        type='ExactAmpOptimWrapper',
        optimizer=dict(type='SGD', lr=0.1, momentum=0.9),
        **dtype)
    run = toy.Run(folder, fault=with_scaler, optim_wrapper=wrapper, **options)
    return run, run.end()


def test_float16_skips_the_step_of_a_nan(tmp_path):
    run, codes = half_run(tmp_path, {}, model=dict(nan_at=8))
    assert codes == [0]
    assert run.output().count('Its step is skipped') == 1
    assert 'Iteration 8: loss = nan, loss_cls = nan with' in run.output()
    scaler = toy.final_state(tmp_path)['optimizer']['loss_scaler']
    assert scaler['scale'] == 2.**15 and scaler['_growth_tracker'] == 12
    last = toy.final_state(tmp_path)
    assert all(w.isfinite().all() for w in last['state_dict'].values())
    losses = last['message_hub']['log_scalars']['train/loss']['log']
    assert (~losses.isfinite()).nonzero().tolist() == [[7]]


def test_bfloat16_stops_and_has_no_scale(tmp_path):
    dtype = dict(dtype='bfloat16')
    run, codes = half_run(tmp_path, dtype, model=dict(nan_at=8))
    assert codes == [1] and 'lower optim_wrapper' in run.message()
    assert 'loss_scaler' not in toy.final_state(tmp_path, 5)['optimizer']
    # float16 continues it with a scale of its own
    assert half_run(tmp_path, {}, resume=True)[1] == [0]
    scaler = toy.final_state(tmp_path)['optimizer']['loss_scaler']
    assert scaler['scale'] == 2.**16 and scaler['_growth_tracker'] == 15
    assert half_run(tmp_path, dtype, resume=True, max_iters=22)[1] == [0]


@pytest.mark.parametrize('device, wish, dtype',
                         [('cpu', True, torch.bfloat16),
                          ('cpu', 'float16', torch.bfloat16),
                          ('cuda', True, torch.float16),
                          ('cuda', 'float16', torch.float16),
                          ('cuda', 'bfloat16', torch.bfloat16)])
def test_types_of_half_precision(device, wish, dtype):
    assert half_dtype(device, wish) is dtype
    with half_precision(torch.device('cpu'), wish):
        assert torch.get_autocast_dtype('cpu') is torch.bfloat16


@pytest.mark.filterwarnings('ignore:torch.set_autocast_gpu_dtype')
def test_a_test_in_bfloat16(monkeypatch):
    """MMEngine's loop takes the type that the hook sets."""
    monkeypatch.setattr(amp, 'get_device', lambda: 'cuda')
    before = torch.get_autocast_dtype('cuda')
    try:
        HalfPrecisionHook('bfloat16').before_test(None)
        assert torch.get_autocast_dtype('cuda') is torch.bfloat16
        HalfPrecisionHook('float16').before_test(None)
        assert torch.get_autocast_dtype('cuda') is torch.float16
    finally:
        torch.set_autocast_dtype('cuda', before)
    with pytest.raises(RunError, match="amp='half': .* float16 or bfloat16"):
        HalfPrecisionHook('half').before_test(None)


def test_the_type_is_that_of_the_command_line():
    cfg = Config(
        dict(
            optim_wrapper=dict(optimizer=dict(type='SGD'), dtype='float16'),
            test_cfg=dict(type='TestLoop'),
            custom_hooks=[dict(type='NonFiniteLossHook')]))
    enable_amp(cfg)
    enable_test_amp(cfg)
    assert cfg.optim_wrapper.dtype == 'float16' and cfg.test_cfg.fp16 is True
    assert len(cfg.custom_hooks) == 1
    enable_amp(cfg, 'bfloat16')
    enable_test_amp(cfg, 'bfloat16')
    assert cfg.optim_wrapper.dtype == 'bfloat16'
    assert cfg.custom_hooks[1] == dict(
        type='HalfPrecisionHook', dtype='bfloat16')
