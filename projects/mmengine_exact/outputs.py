"""Outputs of training steps (losses, accuracies), read without a wait.

``loss.item()`` has the host wait until a GPU has computed the loss. No kernel
of the next iteration is queued meanwhile, and the GPU idles. Here values are
copied to the host behind the iteration and read when the next one is queued.
On a CPU they are read at once.
"""
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.registry import HOOKS

#: Is called with the outputs of an iteration.
Reader = Callable[[Dict[str, Any]], Any]


class _Copy:
    """Scalars by name, those on a GPU on their way to the host as one."""

    def __init__(self, iteration: int, outputs: Mapping[str, Any]) -> None:
        self.iteration = iteration
        self.readers: List[Reader] = []
        self._outputs = {
            name: value.detach() if isinstance(value, torch.Tensor) else value
            for name, value in outputs.items()
        }
        self.names = [
            name for name, value in self._outputs.items()
            if isinstance(value, torch.Tensor) and value.is_cuda
        ]
        if self.names:
            values = torch.stack(
                [self._outputs[name].reshape(()) for name in self.names])
            self._host = torch.empty(
                values.shape, dtype=values.dtype, device='cpu').pin_memory()
            self._host.copy_(values, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> None:
        if self.names:
            self._event.synchronize()
            self._outputs.update(zip(self.names, self._host.tolist()))
        for reader in self.readers:
            reader(self._outputs)


class DelayedOutputs:
    """Queue of the outputs of iterations, each copied once for all hooks."""

    #: How many stay unread; by default 1 with values on a GPU, else 0.
    lag: Optional[int] = None

    def __init__(self) -> None:
        self._queue: Deque[_Copy] = deque()

    @classmethod
    def of(cls, runner: Any) -> 'DelayedOutputs':
        """The queue of a run."""
        return vars(runner).setdefault('delayed_outputs', cls())

    def put(self, iteration: int, outputs: Optional[Mapping[str, Any]],
            reader: Reader) -> None:
        """Have ``reader`` called when the outputs of an iteration are due;
        those of former ones that are due now are read."""
        if not self._queue or self._queue[-1].iteration != iteration:
            self._queue.append(_Copy(iteration, outputs or {}))
        newest = self._queue[-1]
        newest.readers.append(reader)
        self.read(bool(newest.names) if self.lag is None else self.lag)

    def read(self, lag: int = 0) -> None:
        """Read all but the last ``lag``, in order."""
        while len(self._queue) > lag:
            self._queue.popleft().read()


@HOOKS.register_module()
class DelayedRuntimeInfoHook(RuntimeInfoHook):
    """``RuntimeInfoHook`` that does not wait for outputs on a GPU.

    :class:`ExactRunner` takes it in the place of MMEngine's. The message hub
    gets the same values in the same order; of a GPU those of the last
    iteration when the next one is queued, or before the log is written, a
    checkpoint is saved, the training ends.
    """

    def after_train_iter(self,
                         runner: Any,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        record = super().after_train_iter
        DelayedOutputs.of(runner).put(
            runner.iter, outputs,
            lambda values: record(runner, batch_idx, None, values))
        for hook in getattr(runner, 'hooks', ()):
            if isinstance(hook, LoggerHook) and (
                    self.every_n_inner_iters(batch_idx, hook.interval)
                    or self.end_of_epoch(runner.train_dataloader, batch_idx)):
                self.read_outputs(runner)

    def read_outputs(self, runner: Any) -> None:
        """Read all that are not read yet; :class:`ExactRunner` calls this
        before it saves."""
        DelayedOutputs.of(runner).read()

    after_train_epoch = read_outputs
