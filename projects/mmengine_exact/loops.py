"""Training loop that resumes by arithmetic.

``IterBasedTrainLoop`` starts its loader in the constructor, before a
checkpoint is read, and resumes by loading every past batch again. Here the
loader starts in :meth:`~ResumableIterTrainLoop.run`, when the iteration is
known, and its sampler is told where to begin and where to end.
"""
import logging
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.dist import (all_gather_object, all_reduce, barrier, broadcast,
                           get_rank, is_distributed)
from mmengine.logging import print_log
from mmengine.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch.utils.data import DataLoader

from .checkpoint_hook import SafeCheckpointHook
from .checkpoint_match import bare_model
from .errors import InputError, RunError
from .failures import explain
from .loading import WatchedBatches
from .randomness import SeededDatasetMixin, derive_seed, seed_generators

#: Key of the message hub: iteration of the last validation that was begun.
VAL_ITER = 'last_val_iter'


def start_loader_at(dataloader: DataLoader,
                    iteration: int,
                    max_iters: Optional[int] = None,
                    seed: Optional[int] = None) -> None:
    """Make the next iterator of a loader begin at an iteration.

    Args:
        dataloader (DataLoader): Its batch sampler, or else its sampler, has
            ``start_at``.
        iteration (int): First batch to yield.
        max_iters (int, optional): Batch before which the stream ends, so
            that workers do not read ahead in vain.
        seed (int, optional): Seed of the stream, equal on all ranks.

    Raises:
        RunError: The loader cannot be advanced without loading data.
    """
    batch_sampler = dataloader.batch_sampler
    if hasattr(batch_sampler, 'start_at'):
        batch_sampler.start_at(iteration, max_iters, seed)
        return
    sampler = getattr(batch_sampler, 'sampler', None)
    if not hasattr(sampler, 'start_at'):
        raise RunError(
            f'train_dataloader has the sampler {type(sampler).__name__} and '
            f'the batch sampler {type(batch_sampler).__name__}, which cannot '
            'be advanced without loading data. Set train_dataloader.sampler='
            "dict(type='ResumableInfiniteSampler') and batch_sampler=None or "
            "dict(type='ResumableAspectRatioBatchSampler').")
    assert batch_sampler is not None and sampler is not None
    size = batch_sampler.batch_size
    stop = None if max_iters is None else max_iters * size
    sampler.start_at(iteration * size, stop, seed)


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
        if int(max_iters) != max_iters:
            raise RunError(
                f'train_cfg.max_iters is {max_iters}. Set a whole number.')
        self._max_iters = int(max_iters)
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
            print_log(
                f'{type(dataset).__name__} does not seed its pipeline '
                '(SeededDatasetMixin). ConcatDataset and RepeatDataset pass '
                'the seed on to a dataset that does; with others, such as '
                'ClassBalancedDataset, augmentation differs after a resume.',
                logger='current',
                level=logging.WARNING)

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
                batch = self._next(batches)
                with batches.undisturbed():
                    self.run_iter(batch)
                self._decide_current_val_interval()
                if self._val_due():
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

        Raises:
            Exception: What the loader raises.
            RunError: On the other processes.
        """
        batch: Any = None
        error: Optional[Exception] = None
        try:
            batch = next(batches)
        except Exception as caught:
            error = caught
        if not self._any_rank(error is not None):
            return batch
        found = None
        if error is not None:
            text = explain(error) or f'{type(error).__name__}: {error}'
            found = f'rank {get_rank()}: {text}'
        self._save()
        if is_distributed():
            found = '; '.join(filter(None, all_gather_object(found)))
            barrier()
        if error is not None:
            raise error
        raise RunError(f'Another process has no next batch. {found}')

    @staticmethod
    def _any_rank(failed: bool) -> bool:
        if not is_distributed():
            return failed
        flag = torch.tensor(int(failed))
        all_reduce(flag, op='max')
        return bool(flag.item())

    def _save(self) -> None:
        """Save after the last iteration, as far as that can be resumed."""
        runner = self.runner
        hook = next(
            (hook
             for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)),
            None)
        # gradients that were collected would be lost
        steps = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if hook is None or hook.by_epoch or not self._iter or \
                self._iter % steps:
            return
        try:
            if not hook.has_saved(self._iter):
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
            print_log(
                f'Training continues at iteration {self._iter} of '
                f'{self._max_iters}; past data are skipped, not read.',
                logger='current')
        return WatchedBatches(self.dataloader)

    def _val_due(self) -> bool:
        return (self.runner.val_loop is not None
                and self._iter >= self.val_begin
                and (self._iter % self.val_interval == 0
                     or self._iter == self._max_iters))

    def _val_pending(self) -> bool:
        """Whether the run stopped between a checkpoint and its validation.

        The checkpoint is written before the validation of the same
        iteration; without this a kill in between would cost that
        validation, and perhaps the best checkpoint.
        """
        done = self.runner.message_hub.get_info(VAL_ITER, 0)
        return self._iter > 0 and self._iter != done and self._val_due()

    def repeat_validation(self) -> None:
        """The one that is under way does not count: a checkpoint that is
        saved now has it repeated."""
        self.runner.message_hub.update_info(VAL_ITER, 0)

    def _validate(self) -> None:
        # Noted before, so that a checkpoint which the validation itself
        # rewrites (new best) already carries it.
        self.runner.message_hub.update_info(VAL_ITER, self._iter)
        self._share_buffers()
        self.runner.val_loop.run()

    def _share_buffers(self) -> None:
        """All ranks evaluate the model that rank 0 saves.

        Running statistics of BatchNorm differ between ranks; those of rank
        0 are in the checkpoint and do not change here.
        """
        if is_distributed():
            for buffer in bare_model(self.runner.model).buffers():
                broadcast(buffer, src=0)
