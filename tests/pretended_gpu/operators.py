"""Operators in C++: their results get tags, mixes are refused, costs counted.
"""
import sys
from functools import lru_cache
from typing import Any, List, Sequence

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from . import costs
from .device import CPU, CUDA, PretendedGpu
from .ledger import caller
from .tags import MixedDevices, storage_key


class Operators(TorchDispatchMode):
    """Sees each operator below autograd."""

    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        gpu, kwargs = self.gpu, dict(kwargs or {})
        space, name = _name(func)
        tensors = _tensors((args, kwargs))
        there = [gpu.has(t) for t in tensors]
        on_gpu = any(there)
        target = gpu.target
        device = kwargs.get('device')
        if device is not None and torch.device(device).type == 'cuda':
            # from inside a function of torch, where Functions is asleep
            kwargs['device'], target = CPU, CUDA
            if tensors and not on_gpu:
                out = gpu.place(func(*args, **kwargs).clone())
                gpu.copied(out.nbytes, True, True)
                return out
        crosses = on_gpu and not all(there)
        if crosses:
            self._judge(name, args, kwargs, tensors, there)
        elif not on_gpu:
            gpu.require_finished(*tensors)
        if on_gpu and space == 'c10d' and not gpu.silent:
            gpu.ledger.collectives[caller(name)] += 1
        elif on_gpu:
            self._count_waits(name, args, kwargs)
        out = func(*args, **kwargs)
        if not tensors:
            on_gpu = target is CUDA or (target is None and gpu.backward > 0
                                        and _called_by_engine())
        given = {storage_key(t) for t in tensors}
        new = [t for t in _tensors(out) if storage_key(t) not in given]
        for tensor in new:
            gpu.place(tensor, on_gpu)
        is_copy = crosses and name in costs.COPIES
        if on_gpu and space != 'c10d' and not is_copy:
            gpu.launch(name, costs.kernels(name, len(tensors)))
        return out

    def _judge(self, name: str, args: Sequence, kwargs: dict,
               tensors: List[torch.Tensor], there: List[bool]) -> None:
        """Tensors of both devices: a copy, a number, an index, or an error.
        """
        gpu = self.gpu
        if name in costs.COPIES:
            self._copy(
                args[0], args[1],
                bool(kwargs.get('non_blocking') or args[2:3] == (True, )))
            return
        host = [t for t, found in zip(tensors, there) if not found]
        indices = []
        if name in costs.INDEXING and gpu.has(args[0]):
            indices = [t for t in _tensors(args[1]) if not gpu.has(t)]
        in_place = name.endswith('_') and not gpu.has(args[0]) if isinstance(
            args[0], torch.Tensor) else False
        numbers = name not in costs.NO_NUMBERS and not in_place
        if all(numbers and t.dim() == 0 or any(t is i for i in indices)
               for t in host):
            for index in indices:
                gpu.copied(index.nbytes, True, True)
            return
        shapes = ', '.join(f'{"cuda:0" if found else "cpu"} {tuple(t.shape)}'
                           for t, found in zip(tensors, there))
        raise MixedDevices(
            'Expected all tensors to be on the same device, but found at '
            f'least two devices, cuda:0 and cpu! {name}: {shapes} @ '
            f'{caller(name)}')

    def _copy(self, target: torch.Tensor, source: torch.Tensor,
              non_blocking: bool) -> None:
        """``target.copy_(source)`` from one device to the other."""
        gpu, to_gpu = self.gpu, self.gpu.has(target)
        # torch casts on the host on the way there, and on the way back
        nbytes = source.numel() * (target if to_gpu else source).element_size()
        free = non_blocking and (to_gpu or target in gpu.pinned)
        gpu.copied(nbytes, to_gpu, not free)
        if free and not to_gpu:
            gpu.pending.add(target)

    def _count_waits(self, name: str, args: Sequence, kwargs: dict) -> None:
        gpu = self.gpu
        if name == '_local_scalar_dense':
            gpu.copied(args[0].element_size(), False, False)
            gpu.wait('item')
        elif name in costs.WAITS:
            if kwargs.get('output_size') is None:
                gpu.wait(name, costs.WAITS[name])
        elif name in costs.INDEXING:
            masks = [
                t for t in _tensors(args[1])
                if t.dtype in (torch.bool, torch.uint8) and gpu.has(t)
            ]
            put = args[2] if len(args) > 2 else None
            # a number that is put becomes masked_fill
            if masks and not (isinstance(put, torch.Tensor)
                              and put.numel() == 1 and not gpu.has(put)):
                gpu.wait(f'{name} by a mask', len(masks))
                gpu.launch(name, costs.MASK_KERNELS * len(masks))


def _tensors(tree: Any) -> List[torch.Tensor]:
    return [t for t in tree_leaves(tree) if isinstance(t, torch.Tensor)]


@lru_cache(maxsize=None)
def _name(func: Any):
    """Namespace and name: 'aten::sort.stable' -> ('aten', 'sort')."""
    space, _, name = func.name().partition('::')
    return space, name.partition('.')[0]


def _called_by_engine() -> bool:
    """Whether autograd's engine called, not a backward pass in Python."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if not ('_compile.py' in name or '_dynamo' in name
                or name == __file__):
            return name.endswith('autograd/graph.py')
        frame = frame.f_back
    return False
