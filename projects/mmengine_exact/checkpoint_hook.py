"""Checkpoints that survive a kill at any moment.

MMEngine's hook deletes the old checkpoint (and the old best one) before it
writes the new one. Here a deletion waits until the new file is complete and
``last_checkpoint`` names it. Files are written atomically by
:meth:`ExactRunner.save_checkpoint`; a torn ``last_checkpoint`` is
tolerated by :func:`latest_checkpoint`.
"""
import os.path as osp
from typing import Any, Dict, List, Optional

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS

from .checkpoint_io import is_local, remove_partial


class _DeferredRemoval:
    """File backend that collects deletions until :meth:`flush`.

    Only files of the run's own folder are ever deleted: the message hub of a
    resumed checkpoint may name the best checkpoint of another run.
    """

    def __init__(self, backend: Any, folder: str) -> None:
        self._backend = backend
        self._folder = folder
        self._doomed: List[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        if osp.dirname(osp.abspath(path)) == osp.abspath(self._folder):
            self._doomed.append(path)

    rmtree = remove

    def flush(self, keep: List[Optional[str]]) -> None:
        """Delete what was collected, except what is in use again."""
        for path in self._doomed:
            if path in keep:
                continue
            if self._backend.isfile(path):
                self._backend.remove(path)
            elif self._backend.isdir(path):
                self._backend.rmtree(path)
        self._doomed.clear()


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """``CheckpointHook`` that deletes old files last; same arguments."""

    file_backend: Any

    def before_train(self, runner: Any) -> None:
        super().before_train(runner)
        if is_main_process() and is_local(self.out_dir):
            remove_partial(self.out_dir)
        self.file_backend = _DeferredRemoval(self.file_backend, self.out_dir)

    def after_train_iter(self,
                         runner: Any,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        self._delete_old()

    def after_train_epoch(self, runner: Any) -> None:
        super().after_train_epoch(runner)
        self._delete_old()

    def after_val_epoch(self, runner: Any, metrics: Dict[str, float]) -> None:
        # Outside of training (runner.val) there is nothing to save, and
        # MMEngine's hook would fail for want of before_train.
        if isinstance(getattr(self, 'file_backend', None), _DeferredRemoval):
            super().after_val_epoch(runner, metrics)
            self._delete_old()

    def has_saved(self, iteration: int) -> bool:
        """Whether the last checkpoint is that of this iteration."""
        last = getattr(self, 'last_ckpt', None)
        return last is not None and \
            osp.basename(last) == self.filename_tmpl.format(iteration)

    def save_now(self, runner: Any, iteration: int) -> None:
        """Save after this iteration, whatever the interval; all ranks."""
        runner.logger.info(f'Saving checkpoint at {iteration} iterations')
        self._save_checkpoint_with_step(
            runner, iteration, meta=dict(epoch=runner.epoch, iter=iteration))
        self._delete_old()

    def _delete_old(self) -> None:
        best = getattr(self, 'best_ckpt_path_dict', {}).values()
        self.file_backend.flush(keep=[
            self.last_ckpt,
            getattr(self, 'best_ckpt_path', None), *best
        ])
