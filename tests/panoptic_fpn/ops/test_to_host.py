"""Maps and masks of a GPU on the host: what is copied stands for the whole.

The ways of a GPU run on CPU tensors here.
"""
import numpy as np
import pytest
import torch

from panoptic_fpn.ops import to_host
from panoptic_fpn.ops.run_length import values_inside
from tests.oracles.runs import encode

RNG = np.random.default_rng(0)
#: 280,000 pixels: of blocks of 65,536 some have many runs, some none.
LARGE = np.zeros((400, 700), np.int64)
LARGE[:100, ::3] = 5
LARGE[390:, 650:] = 2**31 - 1
#: Maps (h, w): one pixel, lines, 300 classes, 200 instances, void, alternating
#: values, noise of any size.
MAPS = dict(
    large=LARGE,
    pixel=np.full((1, 1), 133),
    row=np.arange(9)[None] // 4,
    column=np.arange(9)[:, None] // 4,
    constant=np.full((20, 30), 7),
    classes=np.arange(300).repeat(40).reshape(60, 200),
    instances=(np.arange(200) * 1000 + 80).repeat(30).reshape(60, 100),
    negative=np.where(RNG.random((12, 40)) < 0.5, -1, 3),
    alternating=np.indices((11, 13)).sum(0) % 2,
    bytes=RNG.integers(0, 256, (20, 30)),
    shorts=RNG.integers(0, 300, (20, 30)),
    codes=RNG.integers(0, 133 + 1000 * 200, (20, 30)))


@pytest.mark.parametrize('name', MAPS)
@pytest.mark.parametrize('dtype', [torch.int64, torch.int32])
def test_maps(name, dtype):
    plane = MAPS[name]
    found = to_host.copy_map(torch.from_numpy(plane).to(dtype)[None])
    assert found.dtype == np.int32 and (found == plane[None]).all()


def bytes_copied(monkeypatch, copy, *args):
    """Bytes of the tensors that leave for the host."""
    sizes, leave = [], torch.Tensor.cpu
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, 'cpu',
                      lambda t: sizes.append(t.nbytes) or leave(t))
        copy(*args)
    return sum(sizes)


def test_a_map_costs_its_runs_or_four_bytes_a_pixel(monkeypatch):
    for name, size in (('instances', 200 * 6 + 4), ('classes', 300 * 6 + 4),
                       ('pixel', 4), ('codes', 2400)):
        channels = torch.from_numpy(MAPS[name])
        assert bytes_copied(monkeypatch, to_host.copy_map, channels) == size


def corners(h, w):
    masks = np.zeros((4, h, w), bool)
    masks[[0, 1, 2, 3], [0, 0, -1, -1], [0, -1, 0, -1]] = True
    return masks


#: Masks (n, h, w): none, empty, full, single pixels, lines, 200 of noise.
MASKS = dict(
    none=np.zeros((0, 4, 5), bool),
    empty=np.zeros((3, 4, 5), bool),
    full=np.ones((3, 4, 5), bool),
    pixel=np.array([[[True]], [[False]]]),
    corners=corners(6, 7),
    row=RNG.random((5, 1, 9)) < 0.5,
    column=RNG.random((5, 9, 1)) < 0.5,
    large=LARGE == np.array([0, 1, 5, 2**31 - 1])[:, None, None],
    alternating=np.stack([np.indices((6, 7)).sum(0) % 2 == i for i in (0, 1)]),
    noise=RNG.random((200, 12, 15)) < np.linspace(0, 1, 200)[:, None, None])


@pytest.mark.parametrize('name', MASKS)
@pytest.mark.parametrize('at_once', [to_host.AT_ONCE, 200])
def test_masks(name, at_once, monkeypatch):
    monkeypatch.setattr(to_host, 'AT_ONCE', at_once)
    monkeypatch.setattr(to_host, 'is_remote', lambda data: True)
    masks = MASKS[name]
    rles, index = list(map(encode,
                           masks)), RNG.integers(0, 99, masks[0:1].shape[1:])
    for dtype in (torch.bool, torch.uint8, torch.float32):
        tensor = torch.from_numpy(masks).to(dtype)
        assert to_host.encode_masks(tensor) == rles
        found = to_host.to_bitmaps(tensor)
        assert found.dtype == bool and np.array_equal(found, masks)
        for mask in found:
            assert np.array_equal(values_inside(index, mask), index[mask])


def test_half_precision_becomes_float32():
    for dtype in (torch.float16, torch.bfloat16):
        values = torch.tensor([0.5, 0.1234]).to(dtype)
        found = to_host.to_array(values)
        assert found.dtype == np.float32
        assert found.tolist() == values.tolist()


def test_the_cpu_is_viewed_and_the_switch_copies_whole(monkeypatch):
    plane = torch.arange(6).view(1, 2, 3)
    assert np.shares_memory(to_host.to_plane(plane), plane.numpy())
    masks = torch.ones(2, 3, 4) > 0
    assert np.shares_memory(to_host.to_bitmaps(masks), masks.numpy())
    remote = plane.to('meta')
    assert to_host.is_remote(remote) and not to_host.is_remote(plane)
    monkeypatch.setenv('PANOPTIC_FAST_OPS', '0')
    assert not to_host.is_remote(remote)
