"""What has to be another thing while the pretended GPU is there.

``unittest.mock`` puts all of it back.
"""
import functools
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List
from unittest.mock import patch

import mmengine.device.utils
import torch
from torch.utils._pytree import tree_leaves, tree_map

from . import costs
from .device import CUDA, PretendedGpu
from .functions import wants_gpu
from .tags import MixedDevices

_real_device = torch._C.TensorBase.device.__get__
_FUNCTIONS = dict(
    is_available=lambda: True,
    is_initialized=lambda: True,
    is_bf16_supported=lambda *args, **kwargs: True,
    device_count=lambda: 1,
    current_device=lambda: 0,
    get_device_name=lambda *args, **kwargs: 'pretended',
    get_device_capability=lambda *args, **kwargs: (9, 0),
    max_memory_allocated=lambda *args, **kwargs: 0,
    memory_allocated=lambda *args, **kwargs: 0,
    get_rng_state=lambda *args, **kwargs: torch.zeros(16, dtype=torch.uint8),
    get_rng_state_all=lambda: [torch.zeros(16, dtype=torch.uint8)])
_NOTHING = ('_lazy_init', 'empty_cache', 'manual_seed', 'manual_seed_all',
            'reset_peak_memory_stats', 'set_device', 'set_rng_state',
            'set_rng_state_all')


def patches(gpu: PretendedGpu) -> List[Any]:
    """Context managers that make torch and mmengine see the GPU."""
    tensor = dict(
        device=property(lambda t: CUDA if gpu.has(t) else _real_device(t)),
        is_cuda=property(gpu.has),
        is_cpu=property(lambda t: not gpu.has(t)),
        get_device=lambda t: 0 if gpu.has(t) else -1)
    nothing = {name: lambda *args, **kwargs: None for name in _NOTHING}
    streams = _streams(gpu)
    return [
        *(patch.object(torch.Tensor, name, new)
          for name, new in tensor.items()),
        patch.multiple(torch.cuda, **_FUNCTIONS, **nothing, **streams),
        # only builds of torch with CUDA ask for the stream
        patch.multiple(
            torch.accelerator,
            is_available=lambda: True,
            current_stream=streams['current_stream']),
        patch.object(torch, 'load', _load(gpu)),
        patch.object(mmengine.device.utils, 'DEVICE', 'cuda'), *_mmcv(gpu)
    ]


def _load(gpu: PretendedGpu) -> Callable:
    load = torch.load

    @functools.wraps(load)
    def load_to(f, map_location=None, **kwargs):
        if callable(map_location) or not wants_gpu(map_location):
            return load(f, map_location=map_location, **kwargs)
        found = load(f, map_location='cpu', **kwargs)
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor):
                gpu.copied(tensor.nbytes, True, True)
        return tree_map(gpu.place, found)

    return load_to


def _streams(gpu: PretendedGpu) -> dict:
    """``torch.cuda``'s events and its one stream."""

    class Event:
        """Waiting for it is a wait only where the GPU then has nothing left
        to do: work that was given after it goes on."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.record()

        def record(self, stream: Any = None) -> None:
            self._covered, self._at = gpu.pending.keys(), gpu.launched

        def synchronize(self) -> None:
            if gpu.launched == self._at:
                gpu.wait('event')
            gpu.pending.remove(self._covered)

        def query(self) -> bool:
            gpu.pending.remove(self._covered)
            return True

        def wait(self, stream: Any = None) -> None:
            pass

        def elapsed_time(self, end: 'Event') -> float:
            return 0.0

    class Stream:
        """All work is in one order."""
        device, device_index, cuda_stream = CUDA, 0, 0

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            pass

        def synchronize(self) -> None:
            gpu.wait('stream')

        def record_event(self, event: Any = None) -> Event:
            event = event or Event()
            event.record()
            return event

        def query(self) -> bool:
            return True

        def is_capturing(self) -> bool:
            return False

        def wait_stream(self, stream: Any) -> None:
            pass

        wait_event = wait_stream

    @contextmanager
    def stream(stream: Any) -> Iterator[None]:
        yield

    only = Stream()
    return dict(
        Event=Event,
        Stream=Stream,
        stream=stream,
        current_stream=lambda *args: only,
        default_stream=lambda *args: only,
        synchronize=lambda *args: gpu.wait('synchronize'))


def _mmcv(gpu: PretendedGpu) -> List[Any]:
    """The operators of mmcv's extension that the models use."""
    import mmcv.ops.nms  # noqa: F401  mmcv.ops has a function of that name
    from mmcv.ops.roi_align import ext_module
    names = ('nms', 'roi_align_forward', 'roi_align_backward')
    return [
        patch.object(ext_module, name,
                     _extension(gpu, name, getattr(ext_module, name)))
        for name in names
    ]


def _extension(gpu: PretendedGpu, name: str, function: Callable) -> Callable:

    def call(*args: Any, **kwargs: Any) -> Any:
        tensors = [
            t for t in (*args, *kwargs.values())
            if isinstance(t, torch.Tensor) and t.numel()
        ]
        on_gpu = {gpu.has(t) for t in tensors}
        if len(on_gpu) > 1:
            raise MixedDevices(f'{name}: at least one argument is on another '
                               'device than the others')
        if on_gpu == {True}:
            if name != 'nms' and not all(t.is_contiguous() for t in tensors):
                raise RuntimeError(f'{name}: its kernel takes memory as if it '
                                   'were contiguous')
            gpu.launch(name, costs.kernels(name, len(tensors)))
            if name in costs.WAITS:
                gpu.wait(name, costs.WAITS[name])
        with gpu.quiet(), gpu.creating(False), gpu.on_host(tensors):
            out = function(*args, **kwargs)
        return gpu.place(out, True in on_gpu)

    return call
