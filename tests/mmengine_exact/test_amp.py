"""bfloat16 on the CPU."""
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.config import Config
from mmengine.model import BaseModel

from mmengine_exact import CpuAmpOptimWrapper, RunError, enable_amp

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
    assert isinstance(wrapper, CpuAmpOptimWrapper)
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
