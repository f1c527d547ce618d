"""Checkpoints that survive a kill at any moment, and stay small.

MMEngine's hook deletes the old checkpoint (and the old best one) before it
writes the new one. Here a deletion waits until the new file is complete and
``last_checkpoint`` names it. Files are written atomically by
:meth:`ExactRunner.save_checkpoint`; a torn ``last_checkpoint`` is
tolerated by :func:`latest_checkpoint`.

MMEngine's message hub keeps up to a million values of each loss, rate and
time, copies all of them to add one, and writes them into every checkpoint:
for 16 scalars after 270,000 iterations (3x on COCO) that is 10 ms of each
iteration and 69 MB of each file. :class:`TidyHook` keeps fewer.
"""
import os.path as osp
from typing import Any, Dict, List, Optional

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS

from .allocator import bound_kept_memory
from .checkpoint import is_local, make_plain
from .files import remove_partial

#: Least number of values kept of a scalar, for hooks that average over more of
#: them than the log does.
KEPT = 1000


class _DeferredRemoval:
    """File backend that collects deletions until :meth:`flush`.

    Only files of the run's own folder are ever deleted: the message hub of a
    resumed checkpoint may name the best checkpoint of another run.
    """

    def __init__(self, backend: Any, folder: str) -> None:
        self._backend = backend
        self._folder = folder
        self._collected: List[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        if osp.dirname(osp.abspath(path)) == osp.abspath(self._folder):
            self._collected.append(path)

    rmtree = remove

    def flush(self, keep: List[Optional[str]]) -> None:
        """Delete what was collected, except what is in use again."""
        for path in self._collected:
            if path in keep:
                continue
            if self._backend.isfile(path):
                self._backend.remove(path)
            elif self._backend.isdir(path):
                self._backend.rmtree(path)
        self._collected.clear()


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """``CheckpointHook`` that deletes old files last; same arguments."""

    file_backend: Any

    def before_train(self, runner: Any) -> None:
        super().before_train(runner)
        if is_main_process() and is_local(self.out_dir):
            remove_partial(self.out_dir)
        self.file_backend = _DeferredRemoval(self.file_backend, self.out_dir)

    def _save_checkpoint_with_step(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint_with_step(*args, **kwargs)
        self._delete_old()

    def after_val_epoch(self, runner: Any, metrics: Dict[str, float]) -> None:
        # Outside of training (runner.val) there is nothing to save, and
        # MMEngine's hook would fail for want of before_train.
        if isinstance(getattr(self, 'file_backend', None), _DeferredRemoval):
            super().after_val_epoch(runner, metrics)
            self._delete_old()
            for key in self.save_best or ():
                score = metrics.get(key)
                if score != score:
                    runner.logger.warning(
                        f'save_best={key!r} is NaN, so no best checkpoint is '
                        'saved. Set default_hooks.checkpoint.save_best to a '
                        f'score that there is, of {list(metrics)}.')

    def save_now(self, runner: Any, iteration: int) -> None:
        """Save after this iteration, whatever the interval, unless that is
        the last checkpoint; all ranks."""
        path = self.file_backend.join_path(
            self.out_dir, self.filename_tmpl.format(iteration))
        if getattr(self, 'last_ckpt', None) == path:
            return
        runner.logger.info(f'Saving checkpoint at {iteration} iterations')
        self._save_checkpoint_with_step(
            runner, iteration, meta=dict(epoch=runner.epoch, iter=iteration))

    def _delete_old(self) -> None:
        best = getattr(self, 'best_ckpt_path_dict', {}).values()
        self.file_backend.flush(keep=[
            self.last_ckpt,
            getattr(self, 'best_ckpt_path', None), *best
        ])


def saving_hook(runner: Any,
                iteration: int = 0) -> Optional[SafeCheckpointHook]:
    """Hook that can save after an iteration of a run, or None: also where
    gradients of several are being summed, which a checkpoint would lose."""
    if iteration % getattr(runner.optim_wrapper, '_accumulative_counts', 1):
        return None
    return next(
        (hook for hook in runner.hooks
         if isinstance(hook, SafeCheckpointHook) and not hook.by_epoch), None)


class TidyHook(Hook):
    """Keeps checkpoints plain and a run small; :class:`ExactRunner` adds it.

    Checkpoints get a content that weights-only loading accepts. After each
    iteration the memory that a run on a CPU keeps is bounded. Of each scalar
    of the message hub the newest values stay: ``KEPT``, or as many as the
    log's windows ask for (all where one is 'global' or 'epoch'); of the times
    of an evaluation those of all its batches.
    """

    # the last to see a checkpoint, and after the hooks that add values
    priority = 'LOWEST'

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        make_plain(checkpoint)

    def _after_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        bound_kept_memory()
        if kwargs['mode'] == 'train':
            self._bound(runner, 'train')

    def after_val_epoch(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        self._bound(runner, 'val', len(runner.val_dataloader))

    def after_test_epoch(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        self._bound(runner, 'test', len(runner.test_dataloader))

    def _bound(self, runner: Any, mode: str, batches: int = 0) -> None:
        """Cut each history of a mode when it gets its next value."""
        log = runner.log_processor
        windows = [custom.get('window_size') for custom in log.custom_cfg]
        if not all(isinstance(window, int) for window in windows):
            return
        kept = max(KEPT, batches, log.window_size, *windows)
        for name, history in runner.message_hub.log_scalars.items():
            if name.startswith(f'{mode}/'):
                history.max_length = kept
