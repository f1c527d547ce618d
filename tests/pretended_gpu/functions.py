"""Functions of Python that name a device or leave it: ``to``, ``device=``,
``numpy``, ``pin_memory``, ``backward``."""
from typing import Any, Callable, Optional

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from . import autocast
from .device import CPU, PretendedGpu

_NEW = frozenset(('new_tensor', 'new_zeros', 'new_ones', 'new_full',
                  'new_empty', 'new_empty_strided'))
_FROM_DATA = frozenset(('tensor', 'as_tensor', 'new_tensor'))
_BACKWARD = ('gradient', 'retain_graph', 'create_graph', 'inputs')


class Functions(TorchFunctionMode):
    """Sees each function of torch as Python calls it; asleep inside of it."""

    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, '__name__', '')
        if args and isinstance(args[0], torch.Tensor):
            special: Optional[Callable] = getattr(self, f'_do_{name}', None)
            if special:
                return special(func, *args, **kwargs)
            if name in _NEW:
                on_gpu = wants_gpu(kwargs.pop('device', None))
                if on_gpu is None:
                    on_gpu = self.gpu.has(args[0])
                return self._create(func, args, kwargs, on_gpu)
        if kwargs.get('device') is not None and name[:1] != '_':
            on_gpu = wants_gpu(kwargs['device'])
            return self._create(func, args, dict(kwargs, device=CPU), on_gpu)
        if kwargs.get('pin_memory'):
            return self._create(func, args, kwargs, False)
        return autocast.run(self.gpu, func, args, kwargs)

    def _create(self, func, args, kwargs, on_gpu):
        """Call a factory; data of Python are sent to the GPU."""
        gpu, name = self.gpu, func.__name__
        pinned = kwargs.pop('pin_memory', False)
        if name == 'as_tensor' and isinstance(args[0], torch.Tensor):
            moved = self._move(args[0], on_gpu, False)
            dtype = kwargs.get('dtype')
            return moved if dtype is None else moved.to(dtype)
        if name not in _FROM_DATA:
            with gpu.creating(on_gpu):
                out = func(*args, **kwargs)
            given = {id(a) for a in tree_leaves(args)}
            for tensor in tree_leaves(out):
                if id(tensor) not in given:
                    gpu.place(tensor, on_gpu)
        else:
            with gpu.creating(False), gpu.quiet():
                out = func(*args, **kwargs)
                if on_gpu and not out.requires_grad:
                    # memory of numpy stays the host's
                    out = out.clone()
            gpu.place(out, on_gpu)
            if on_gpu:
                gpu.copied(out.nbytes, True, True)
        if pinned:
            gpu.pinned.add(out)
        return out

    def _move(self, tensor, on_gpu, non_blocking):
        """The tensor, or a copy on the other device."""
        gpu = self.gpu
        if gpu.has(tensor) == on_gpu:
            return tensor
        gpu.require_finished(tensor)
        with gpu.quiet():
            out = gpu.place(tensor.clone(), on_gpu)
        gpu.copied(out.nbytes, on_gpu, not non_blocking)
        if non_blocking and not on_gpu:
            gpu.pinned.add(out)
            gpu.pending.add(out)
        return out

    def _do_to(self, func, tensor, *args, **kwargs):
        gpu, copies = self.gpu, kwargs.pop('copy', False)
        other = kwargs.get('other', args[0] if args else None)
        if isinstance(other, torch.Tensor):
            on_gpu, dtype, layout = gpu.has(other), other.dtype, None
            non_blocking = kwargs.get('non_blocking', args[1:2] == (True, ))
        else:
            # what nn.Module.to uses; no public function reads these
            device, dtype, non_blocking, layout = torch._C._nn._parse_to(
                *args, **kwargs)
            on_gpu = gpu.has(tensor) if device is None else wants_gpu(device)
        moved = self._move(tensor, False, non_blocking) if not on_gpu \
            else tensor
        options = {}
        if copies and gpu.has(tensor) == on_gpu:
            options['copy'] = True
        if layout is not None:
            options['memory_format'] = layout
        if dtype is not None or options:
            moved = moved.to(dtype or moved.dtype, **options)
        return self._move(moved, on_gpu, non_blocking)

    def _do_cuda(self, func, tensor, device=None, non_blocking=False, **_):
        return self._move(tensor, True, non_blocking)

    def _do_cpu(self, func, tensor, **_):
        return self._move(tensor, False, False)

    def _do_type_as(self, func, tensor, other):
        return self._do_to(None, tensor, other)

    def _do_numpy(self, func, tensor, *args, **kwargs):
        if self.gpu.has(tensor):
            raise TypeError("can't convert cuda:0 device type tensor to "
                            'numpy. Use Tensor.cpu() to copy the tensor to '
                            'host memory first.')
        self.gpu.require_finished(tensor)
        return func(tensor, *args, **kwargs)

    _do___array__ = _do_numpy

    def _do_tolist(self, func, tensor):
        gpu = self.gpu
        gpu.require_finished(tensor)
        if gpu.has(tensor):
            gpu.copied(tensor.nbytes, False, False)
            gpu.wait('tolist')
        with gpu.quiet():
            return func(tensor)

    def _do_pin_memory(self, func, tensor, *_, **__):
        gpu = self.gpu
        if gpu.has(tensor):
            raise RuntimeError('cannot pin a tensor of the GPU: only dense '
                               'CPU tensors can be pinned')
        if tensor not in gpu.pinned:
            tensor = tensor.clone()
            gpu.pinned.add(tensor)
        return tensor

    def _do_is_pinned(self, func, tensor, *_, **__):
        return tensor in self.gpu.pinned

    def _do_record_stream(self, func, tensor, stream):
        return None

    def _do___deepcopy__(self, func, tensor, memo):
        out = func(tensor, memo)  # copies storages, which no operator sees
        return self.gpu.place(out, self.gpu.has(tensor))

    def _do_backward(self, func, tensor, *args, **kwargs):
        given = dict(zip(_BACKWARD, args), **kwargs)
        gradient = given.pop('gradient', None)
        # backward passes in Python name devices, too
        with self.gpu.differentiating(tensor), self:
            torch.autograd.backward(tensor, gradient, **given)

    def _do_grad(self, func, outputs, *args, **kwargs):
        with self.gpu.differentiating(outputs):
            return func(outputs, *args, **kwargs)


def wants_gpu(device: Any) -> Optional[bool]:
    """Whether a device is the GPU; None where none is given."""
    if device is None:
        return None
    return isinstance(device, int) or torch.device(device).type == 'cuda'
