"""Processes of a run stop after the same iteration, whichever has the reason.

Hooks that may end a run are asked together, so that an iteration costs one
exchange of flags between the processes.
"""
from typing import Any, Optional, Sequence

import torch
from mmengine.dist import all_reduce, is_distributed
from mmengine.hooks import Hook


class StoppingHook(Hook):
    """A hook that may end the run on all processes.

    A training loop with ``asks_hooks = True`` asks it by
    :func:`stop_together`; in others it asks the processes itself.
    """

    def wants_stop(self, runner: Any) -> bool:
        """Whether this process has a reason to stop."""
        raise NotImplementedError

    def stop(self, runner: Any) -> None:
        """Raise; called on all processes once any of them wants to stop."""
        raise NotImplementedError

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        loop = getattr(runner, 'train_loop', None)
        if not getattr(loop, 'asks_hooks', False):
            stop_together(runner, [self])


def stop_together(runner: Any,
                  hooks: Optional[Sequence[StoppingHook]] = None,
                  failed: bool = False) -> bool:
    """Stop if a hook wants to on any process; all processes call this.

    Args:
        runner (Runner): Its ``host_group`` is the process group for flags.
        hooks (Sequence[StoppingHook], optional): By default all of the run.
        failed (bool): One more flag.

    Returns:
        bool: Whether any process has ``failed``.
    """
    if hooks is None:
        hooks = [h for h in runner.hooks if isinstance(h, StoppingHook)]
    flags = torch.tensor([*(h.wants_stop(runner) for h in hooks),
                          failed]).int()
    if is_distributed():
        group = getattr(runner, 'host_group', None)
        all_reduce(flags, op='max', group=group)
    *stops, failed = flags.bool().tolist()
    for hook, stop in zip(hooks, stops):
        if stop:
            hook.stop(runner)
    return failed
