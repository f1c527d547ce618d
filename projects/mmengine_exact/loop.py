"""Training loop that resumes by arithmetic.

``IterBasedTrainLoop`` starts its loader before a checkpoint is read, and
resumes by loading every past batch again. Here the loader starts when the
iteration is known, and its sampler gets the first and the last batch.
"""
import signal
import threading
import time
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.dist import (all_gather_object, barrier, broadcast, get_rank,
                           is_distributed)
from mmengine.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch.utils.data import DataLoader

from .checkpoint_hook import saving_hook
from .errors import InputError, RunError
from .launch import explain
from .match import bare_model
from .stopping import stop_together
from .stream import SeededDatasetMixin, derive_seed, seed_generators

#: Key of the message hub: iteration of the last validation that was begun.
VAL_ITER = 'last_val_iter'


class WatchedBatches:
    """Iterator over a loader that reports the death of a worker as an error
    of :meth:`__next__`.

    torch raises it from a signal handler, wherever the training is: in the
    middle of an optimizer step, while a checkpoint is being written, or while
    another worker hands over a file, of which it then prints a traceback.

    Args:
        loader (Iterable): Its workers start here.
    """

    def __init__(self, loader: Iterable) -> None:
        self._batches = iter(loader)
        self._handler: Any = None
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.getsignal(signal.SIGCHLD)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def __next__(self) -> Any:
        try:
            return next(self._batches)  # looks for dead workers each 5 s
        except (OSError, EOFError, RuntimeError):
            # tensors that a worker sent before it died go with it, perhaps
            # before it counts as dead
            if callable(self._handler):
                time.sleep(0.5)
                self._handler(signal.SIGCHLD, None)
            raise

    def close(self) -> None:
        """Give torch its handler back."""
        if self._handler is not None:
            signal.signal(signal.SIGCHLD, self._handler)


def start_loader_at(dataloader: DataLoader, iteration: int, max_iters: int,
                    seed: int) -> None:
    """Make the next iterator of a loader begin at an iteration.

    Raises:
        RunError: Its sampler cannot be advanced without loading data.
    """
    sampler: Any = dataloader.batch_sampler
    if not hasattr(sampler, 'start_at'):  # torch's own, over draws
        size = sampler.batch_size
        iteration, max_iters = iteration * size, max_iters * size
        sampler = sampler.sampler
    if not hasattr(sampler, 'start_at'):
        raise RunError(
            f'train_dataloader.sampler {type(sampler).__name__} cannot be '
            'advanced without loading data. Set train_dataloader.sampler='
            "dict(type='ResumableInfiniteSampler').")
    sampler.start_at(iteration, max_iters, seed)


@LOOPS.register_module()
class ResumableIterTrainLoop(IterBasedTrainLoop):
    """Iterations whose data and random numbers depend on nothing earlier.

    Args:
        runner (Runner): The runner; its ``base_seed`` (equal on all ranks)
            is used where it has one, else its ``seed``.
        dataloader (DataLoader or dict): With a resumable sampler.
        max_iters (int): Iterations to train.
        val_begin (int): Iteration from which on to validate. Defaults to 1.
        val_interval (int): Iterations between validations. Defaults to 1000.
        dynamic_intervals (list[tuple[int, int]], optional): Pairs of
            (milestone, interval after it). Defaults to None.
    """

    #: Hooks that may stop the run are asked here, see ``stopping``.
    asks_hooks = True

    def __init__(
        self,
        runner: Any,
        dataloader: Union[DataLoader, Dict],
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: Optional[List[Tuple[int, int]]] = None,
    ) -> None:
        # Skips IterBasedTrainLoop.__init__, which would start the workers.
        super(IterBasedTrainLoop, self).__init__(runner, dataloader)
        self._max_iters = max_iters
        self._max_epochs = 1
        self._epoch = 0
        self._iter = 0
        self.val_begin = val_begin
        self.val_interval = val_interval
        self.stop_training = False
        self.dynamic_milestones, self.dynamic_intervals = \
            calc_dynamic_intervals(self.val_interval, dynamic_intervals)
        dataset = self.dataloader.dataset
        if hasattr(dataset, 'metainfo'):
            runner.visualizer.dataset_meta = dataset.metainfo
        if not isinstance(dataset, SeededDatasetMixin):
            runner.logger.warning(
                f'{type(dataset).__name__} does not seed its pipeline '
                '(SeededDatasetMixin). ConcatDataset and RepeatDataset pass '
                'the seed on to a dataset that does; with others, such as '
                'ClassBalancedDataset, augmentation differs after a resume.')

    @property
    def base_seed(self) -> int:
        """int: The run's seed, equal on all ranks."""
        return int(getattr(self.runner, 'base_seed', self.runner.seed))

    def run(self) -> torch.nn.Module:
        """Train from the current iteration to the last one."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self._decide_current_val_interval()
        if self._val_pending():
            self._validate()
        batches = self._start_loader()
        try:
            while self._iter < self._max_iters and not self.stop_training:
                self.runner.model.train()
                self.run_iter(self._next(batches))
                self._decide_current_val_interval()
                if self._val_due():
                    stop_together(self.runner)
                    self._validate()
        finally:
            batches.close()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_iter(self, data_batch: Sequence[dict]) -> None:
        """One iteration, seeded from (seed, iteration, rank)."""
        seed_generators(
            derive_seed('step', self.base_seed, self._iter, get_rank()))
        super().run_iter(data_batch)

    def _next(self, batches: WatchedBatches) -> Sequence[dict]:
        """The next batch; without it all processes save, and stop.

        They also do where a hook wants to stop.

        Raises:
            Exception: What the loader raises.
            RunError: On the other processes.
        """
        error: Optional[Exception] = None
        try:
            batch = next(batches)
        except Exception as caught:
            error = caught
        if not stop_together(self.runner, failed=error is not None):
            return batch
        self._save()
        text = error and (explain(error) or f'{type(error).__name__}: {error}')
        found = all_gather_object(text and f'rank {get_rank()}: {text}')
        barrier()
        raise error or RunError('Another process has no next batch. '
                                f'{"; ".join(filter(None, found))}')

    def _save(self) -> None:
        """Save the last iteration where it can be resumed."""
        runner, hook = self.runner, saving_hook(self.runner, self._iter)
        if hook is None or not self._iter:
            return
        try:
            hook.save_now(runner, self._iter)
        except (InputError, OSError, RuntimeError) as error:
            runner.logger.warning(f'Iteration {self._iter} is not saved: '
                                  f'{explain(error) or error}')
            return
        runner.logger.warning(
            f'The next batch cannot be read: training stops. Iteration '
            f'{self._iter} is saved as {hook.last_ckpt}; when the fault is '
            'mended, continue with --resume.')

    def _start_loader(self) -> WatchedBatches:
        if self._iter >= self._max_iters:
            return WatchedBatches(())
        start_loader_at(self.dataloader, self._iter, self._max_iters,
                        self.base_seed)
        if self._iter > 0:
            self.runner.logger.info(
                f'Training continues at iteration {self._iter} of '
                f'{self._max_iters}; past data are skipped, not read.')
        return WatchedBatches(self.dataloader)

    def _val_due(self) -> bool:
        return (self.runner.val_loop is not None
                and self._iter >= self.val_begin
                and (self._iter % self.val_interval == 0
                     or self._iter == self._max_iters))

    def _val_pending(self) -> bool:
        """Whether the run stopped between a checkpoint and its validation,
        which would be lost, and perhaps the best checkpoint with it."""
        done = self.runner.message_hub.get_info(VAL_ITER, 0)
        return self._iter > 0 and self._iter != done and self._val_due()

    def repeat_validation(self) -> None:
        """Forget the validation that is under way: a run resumed from a
        checkpoint that is saved now repeats it."""
        self.runner.message_hub.update_info(VAL_ITER, 0)

    def _validate(self) -> None:
        # Noted before, so that a checkpoint which the validation itself
        # rewrites (new best) already carries it.
        self.runner.message_hub.update_info(VAL_ITER, self._iter)
        if is_distributed():
            # Statistics of BatchNorm differ between ranks; rank 0's are saved.
            for buffer in bare_model(self.runner.model).buffers():
                broadcast(buffer, src=0)
        self.runner.val_loop.run()
