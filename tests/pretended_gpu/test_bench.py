"""The bench itself: does it see what a GPU would, and nothing else?"""
import copy

import mmengine.device
import numpy as np
import pytest
import torch
from mmcv.ops import RoIAlign, nms
from torch import distributed as dist
from torch import nn
from torch.utils.data import DataLoader

from . import Counts, MixedDevices, UnfinishedCopy, pretended_gpu

CASES = {
    'item': (lambda x: x.sum().item(), dict(launches=1, waits=1, from_gpu=4)),
    'number': (lambda x: x + torch.tensor(2.), dict(launches=1)),
    'truth': (lambda x: bool(
        (x > 0).any()), dict(launches=2, waits=1, from_gpu=1)),
    'tolist': (lambda x: x.tolist(), dict(waits=1, from_gpu=48)),
    'nonzero': (lambda x: x.nonzero(), dict(launches=3, waits=1)),
    'mask': (lambda x: x[x > 0], dict(launches=5, waits=1)),
    'put a number': (lambda x: x.__setitem__(x > 0, 3.), dict(launches=2)),
    'unique': (lambda x: x.unique(), dict(launches=8, waits=1)),
    'bincount':
    (lambda x: x.long().view(-1).bincount(), dict(launches=5, waits=2)),
    'cpu': (lambda x: x.cpu(), dict(waits=1, from_gpu=48)),
    'new_tensor': (lambda x: x.new_tensor([1, 2]), dict(waits=1, to_gpu=8)),
    'index of the host':
    (lambda x: x[torch.tensor([0, 1])], dict(launches=1, waits=1, to_gpu=16)),
    'zeros': (lambda x: torch.zeros(3, device=x.device), dict(launches=1)),
    'new_zeros': (lambda x: x.new_zeros(3), dict(launches=1)),
    'views': (lambda x: x[1:].view(-1)[None].expand(2, -1).detach(), {}),
    'same':
    (lambda x: torch.as_tensor(x.to(x.device).cuda().float(), device=x.device),
     {}),
    'cast': (lambda x: x.half(), dict(launches=1)),
    'sort': (lambda x: x.sort(), dict(launches=4)),
    'many': (lambda x: torch._foreach_add([x + 0] * 120, 1), dict(launches=3)),
}


@pytest.mark.parametrize('name', CASES)
def test_costs(gpu, name):
    run, expected = CASES[name]
    x = torch.ones(3, 4, device='cuda')
    with gpu.counted() as ledger:
        run(x)
    assert ledger.counts() == Counts(**expected), ledger.text()
    # the line of the case, not one of torch's or of the bench
    for counter in vars(ledger).values():
        assert all('test_bench.py' in place for place in counter)


COPIES = {
    'blocking': (lambda host: host.cuda(), 1),
    'pageable': (lambda host: host.to('cuda', non_blocking=True), 0),
    'pinned': (lambda host: host.pin_memory().cuda(non_blocking=True), 0),
    'pinned, blocking': (lambda host: host.pin_memory().cuda(), 1),
    'into': (lambda host: torch.empty(3, 4, device='cuda').copy_(host), 1),
    'into, free': (lambda host: torch.empty(3, 4, device='cuda').copy_(
        host, non_blocking=True), 0),
    'cast on the host': (lambda host: host.double().to('cuda', torch.float), 1)
}


@pytest.mark.parametrize('name', COPIES)
def test_copies_to_the_gpu(gpu, name):
    run, waits = COPIES[name]
    with gpu.counted() as ledger:
        found = run(torch.ones(3, 4))
    assert found.is_cuda and found.dtype == torch.float32
    assert ledger.counts() == Counts(waits=waits, to_gpu=48)


def test_copies_from_the_gpu_wait_for_pageable_memory(gpu):
    x = torch.ones(3, device='cuda')
    pinned = torch.empty(3, pin_memory=True)
    assert pinned.is_pinned() and not torch.empty(3).is_pinned()
    for target, waits in ((pinned, 0), (torch.empty(3), 1)):
        with gpu.counted() as ledger:
            target.copy_(x, non_blocking=True)
        assert ledger.counts() == Counts(waits=waits, from_gpu=12)


def test_an_unfinished_copy_is_not_read(gpu):
    x = torch.ones(3, device='cuda')
    for read in (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.sum):
        found = x.to('cpu', non_blocking=True)
        with pytest.raises(UnfinishedCopy, match='torch.cuda.Event'):
            read(found)
        torch.cuda.synchronize()
        read(found)
    # an event that other work follows is waited for without an idle GPU
    for work, waits in ((lambda: x + 1, 0), (lambda: x, 1)):
        found = x.to('cpu', non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        with gpu.counted() as ledger:
            work()
            event.synchronize()
        assert ledger.counts().waits == waits
        assert found.tolist() == [1., 1., 1.]


MIXES = {
    'sum': lambda x, c: x + c,
    'two numbers in cat': lambda x, c: torch.stack([x[0, 0], c[0, 0]]),
    'in place': lambda x, c: c[0, 0].add_(x[0, 0]),
    'index of the gpu': lambda x, c: c[x.long()],
    'masked': lambda x, c: torch.where(x > 0, x, c),
    'layer': lambda x, c: nn.Linear(4, 2)(x),
    'loss': lambda x, c: nn.functional.mse_loss(x, c),
    'nms': lambda x, c: nms(x, c[:, 0].contiguous(), 0.5),
}


@pytest.mark.parametrize('name', MIXES)
def test_mixes_raise_as_in_torch(gpu, name):
    x, c = torch.ones(3, 4, device='cuda'), torch.ones(3, 4)
    with pytest.raises(RuntimeError, match='device') as raised:
        MIXES[name](x, c)
    assert raised.type is MixedDevices


def test_numpy_of_the_gpu_raises(gpu):
    x = torch.ones(3, device='cuda')
    for read in (torch.Tensor.numpy, np.asarray):
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            read(x)
    assert not torch.from_numpy(np.zeros(3)).is_cuda


def test_training_of_a_layer(gpu):
    layer = nn.Conv2d(4, 8, 3).cuda()
    other = copy.deepcopy(layer)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
    x = torch.randn(2, 4, 8, 8, device='cuda', requires_grad=True)
    assert layer.weight.is_cuda and isinstance(other.weight, nn.Parameter)
    assert other.weight.is_cuda
    with gpu.counted() as ledger:
        layer(x).relu().mean().backward()
        optimizer.step()
    assert layer.weight.grad.is_cuda and x.grad.is_cuda
    assert optimizer.state[layer.weight]['momentum_buffer'].is_cuda
    assert ledger.counts().waits == 0 and 8 <= ledger.counts().launches <= 16
    with pytest.raises(MixedDevices):
        layer(torch.randn(2, 4, 8, 8))


def test_gradient_alone(gpu):
    x = torch.ones(2, 3, 4, 4, device='cuda', requires_grad=True)
    larger = nn.functional.interpolate(x, scale_factor=2, mode='bilinear')
    with gpu.counted() as ledger:
        found, = torch.autograd.grad(larger, x, torch.ones_like(larger))
    assert found.is_cuda and torch.equal(found, torch.full_like(found, 4.))
    # the ones and the gradient
    assert ledger.counts() == Counts(launches=2)


def test_operators_of_mmcv(gpu):
    boxes = torch.tensor([[0., 0, 4, 4], [0, 0, 4, 5]], device='cuda')
    with gpu.counted() as ledger:
        kept = nms(boxes, boxes.new_ones(2), 0.5)[1]
    assert kept.is_cuda and len(kept) == 1
    assert ledger.counts().waits == 1
    feat = torch.ones(1, 2, 8, 8, device='cuda', requires_grad=True)
    rois = torch.tensor([[0., 0, 0, 4, 4]], device='cuda')
    out = RoIAlign(2)(feat, rois)
    out.sum().backward()
    assert out.is_cuda and feat.grad.is_cuda
    with pytest.raises(RuntimeError, match='contiguous'):
        RoIAlign(2)(feat.to(memory_format=torch.channels_last), rois)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_of_cuda(gpu, dtype):
    layer = nn.Linear(4, 2).cuda()
    x = torch.ones(3, 4, device='cuda')
    with torch.autocast('cuda', dtype=dtype):
        half = layer(x)
        assert half.dtype == dtype and half.exp().dtype == torch.float32
        assert (half + x[:, :2]).dtype == torch.float32
        assert nn.functional.linear(torch.ones(3, 4),
                                    layer.weight.cpu()).dtype == torch.float32
    half.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    assert layer(x).dtype == torch.float32
    # rounded
    assert torch.equal(half, half.to(dtype)) and half.is_cuda


def test_loading_and_saving(gpu, tmp_path):
    path = tmp_path / 'x.pth'
    torch.save(dict(x=torch.ones(3, device='cuda').cpu()), path)
    assert torch.load(path, map_location='cuda:0')['x'].is_cuda
    assert not torch.load(path, map_location='cpu')['x'].is_cuda


def test_collectives(gpu):
    x, host = torch.ones(3, device='cuda'), torch.ones(3)
    dist.init_process_group(
        'gloo', store=dist.HashStore(), rank=0, world_size=1)
    try:
        with gpu.counted() as ledger:
            dist.all_reduce(x)
            dist.all_reduce(host)
    finally:
        dist.destroy_process_group()
    assert ledger.counts() == Counts(collectives=1)


def test_loader_that_pins(gpu):
    loader = DataLoader(torch.ones(4, 3), batch_size=2, pin_memory=True)
    assert all(batch.is_pinned() for batch in loader)


def test_ledgers_add_up(gpu):
    x = torch.ones(3, device='cuda')
    with gpu.counted() as outer:
        with gpu.counted() as inner:
            x + 1
        x + 2
    assert inner.counts().launches == 1 and outer.counts().launches == 2
    assert 'test_ledgers_add_up (add)' in outer.text()


def test_nothing_stays_behind():
    load, event = torch.load, torch.cuda.Event
    device = mmengine.device.get_device()
    with pretended_gpu():
        x = torch.ones(3, device='cuda')
        assert x.is_cuda and torch.cuda.is_available()
        assert mmengine.device.get_device() == 'cuda'
    assert not any(
        name in vars(torch.Tensor)
        for name in ('device', 'is_cuda', 'get_device'))
    assert torch.load is load and torch.cuda.Event is event
    assert mmengine.device.get_device() == device == 'cpu'
    assert x.device.type == 'cpu' and (x + torch.ones(3)).tolist() == [2.] * 3
    if not torch.backends.cuda.is_built():
        with pytest.raises((RuntimeError, AssertionError)):
            torch.ones(3, device='cuda')
    with pretended_gpu():
        assert x.is_cuda
