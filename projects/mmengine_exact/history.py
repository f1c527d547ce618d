"""Histories of logged numbers that do not grow with the training.

MMEngine's message hub keeps up to a million values of each loss, rate and
time, copies all of them to add one, and writes them into every checkpoint:
for 16 scalars after 270,000 iterations (3x on COCO) that is 10 ms of each
iteration and 69 MB of each file.
"""
from typing import Any, Dict, Optional

from mmengine.hooks import Hook

#: Values that are kept at least, for hooks that average over more than the
#: log does.
KEPT = 1000


class BoundedHistoryHook(Hook):
    """Keeps the newest values of each scalar of the message hub.

    These are ``KEPT``, or as many as the log's windows ask for: all with
    ``window_size='global'`` in ``log_processor.custom_cfg``, those of an epoch
    with 'epoch', and of the times of an evaluation those of all its batches.
    :class:`ExactRunner` adds the hook.
    """

    # after the hooks that add values
    priority = 'LOWEST'

    def after_train_iter(self,
                         runner: Any,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        self._bound(runner, 'train')

    def after_val_epoch(self,
                        runner: Any,
                        metrics: Optional[Dict[str, Any]] = None) -> None:
        self._bound(runner, 'val', len(runner.val_dataloader))

    def after_test_epoch(self,
                         runner: Any,
                         metrics: Optional[Dict[str, Any]] = None) -> None:
        self._bound(runner, 'test', len(runner.test_dataloader))

    def _bound(self, runner: Any, mode: str, batches: int = 0) -> None:
        """Of the scalars of a mode; each is cut when it gets its next value.

        Args:
            runner (Runner): The runner.
            mode (str): 'train', 'val' or 'test'.
            batches (int): Values that are kept in any case.
        """
        log = runner.log_processor
        windows = [log.window_size]
        for custom in log.custom_cfg:
            window = custom.get('window_size')
            windows.append(
                len(runner.train_dataloader) if window == 'epoch' else window)
        if not all(isinstance(window, int) for window in windows):
            return
        kept = max(KEPT, batches, *windows)
        for name, history in runner.message_hub.log_scalars.items():
            if name.startswith(f'{mode}/'):
                history.max_length = kept
