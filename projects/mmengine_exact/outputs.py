"""Outputs of training steps (losses, accuracies), read without a wait.

``loss.item()`` has the host wait until a GPU has computed the loss. No kernel
of the next iteration is queued meanwhile, and the GPU idles. Here values are
copied to the host behind the iteration and read when the next one is queued.
On a CPU they are read at once.
"""
from collections import deque
from typing import Any, Deque, Dict, Iterator, Mapping, Optional, Tuple

import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.registry import HOOKS

from .optimizers import take_norm


class _Copy:
    """Scalars by name, those on a GPU on their way to the host as one."""

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        self._outputs = {
            name: value.detach() if isinstance(value, torch.Tensor) else value
            for name, value in outputs.items()
        }
        self._names = [
            name for name, value in self._outputs.items()
            if isinstance(value, torch.Tensor) and value.is_cuda
        ]
        if self._names:
            values = torch.stack(
                [self._outputs[name].reshape(()) for name in self._names])
            self._host = torch.empty(
                values.shape, dtype=values.dtype, device='cpu').pin_memory()
            self._host.copy_(values, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    @property
    def on_gpu(self) -> bool:
        return bool(self._names)

    def read(self) -> Dict[str, Any]:
        if self._names:
            self._event.synchronize()
            self._outputs.update(zip(self._names, self._host.tolist()))
        return self._outputs


class DelayedOutputs:
    """Queue of the outputs of iterations."""

    #: How many stay unread; by default 1 with values on a GPU, else 0.
    lag: Optional[int] = None

    def __init__(self) -> None:
        self._queue: Deque[Tuple[Any, _Copy]] = deque()

    def put(self, outputs: Mapping[str, Any], about: Any) -> None:
        """Add scalars by name, and what belongs to them."""
        self._queue.append((about, _Copy(outputs)))

    def arrived(
            self,
            everything: bool = False) -> Iterator[Tuple[Any, Dict[str, Any]]]:
        """Take what is due, or everything: pairs of ``about`` and outputs, in
        order."""
        lag = 0
        if self._queue and not everything:
            newest = self._queue[-1][1]
            lag = newest.on_gpu if self.lag is None else self.lag
        while len(self._queue) > lag:
            about, copy = self._queue.popleft()
            yield about, copy.read()


@HOOKS.register_module()
class DelayedRuntimeInfoHook(RuntimeInfoHook):
    """``RuntimeInfoHook`` that does not wait for outputs on a GPU.

    :class:`ExactRunner` takes it in the place of MMEngine's. The message hub
    gets the same values in the same order; of a GPU those of the last
    iteration when the next one is queued, or at ``read_outputs``: before the
    log is written, a checkpoint is saved, the training ends.
    """

    def __init__(self) -> None:
        self._outputs = DelayedOutputs()

    def after_train_iter(self,
                         runner: Any,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        norm = take_norm(runner.optim_wrapper)
        self._outputs.put({**norm, **(outputs or {})}, batch_idx)
        self._record(runner)

    def read_outputs(self, runner: Any) -> None:
        self._record(runner, everything=True)

    after_train_epoch = read_outputs

    def _record(self, runner: Any, everything: bool = False) -> None:
        for batch_idx, outputs in self._outputs.arrived(everything):
            super().after_train_iter(runner, batch_idx, None, outputs)
