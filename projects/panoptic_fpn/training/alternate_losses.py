"""Training of one branch per iteration (Table 3c, 'alternate')."""
from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook

from mmengine_exact.errors import InputError
from mmengine_exact.match import bare_model


@HOOKS.register_module()
class AlternateLossesHook(Hook):
    """Trains one branch in each iteration, in turn (Table 3c, 'alternate').

    Even iterations have the losses of the instance branch and of RPN, odd
    ones those of the semantic branch, on all processes alike and also after
    a resume. The idle branch gets no gradient, so the optimizer skips it:
    neither weight decay nor momentum changes it. Where gradients of
    several iterations are accumulated, these have the same branch.

    Under DDP the config needs ``find_unused_parameters=True``.
    """

    branches = ('instance', 'semantic')

    def before_train(self, runner: Any) -> None:
        """Raises:
            InputError: The model cannot train a branch alone or lacks one, or
                DDP would wait for the gradients of the idle one.
        """
        model = bare_model(runner.model)
        weights = getattr(model, 'loss_weights', {})
        if not (hasattr(model, 'trained_branch')
                and all(weights.get(branch) for branch in self.branches)):
            raise InputError(
                f'AlternateLossesHook: {type(model).__name__} with '
                f'loss_weights={dict(weights)} lacks a branch to train in '
                'turn. Leave the hook out, or set both weights of '
                'model.loss_weights above 0.')
        if getattr(runner.model, 'find_unused_parameters', True) is False:
            raise InputError(
                'AlternateLossesHook: DDP waits for gradients of the idle '
                'branch. Set find_unused_parameters=True in the config.')

    def before_train_iter(self,
                          runner: Any,
                          batch_idx: int,
                          data_batch: Any = None) -> None:
        optim = runner.cfg.get('optim_wrapper') or {}
        step = runner.iter // optim.get('accumulative_counts', 1)
        bare_model(runner.model).trained_branch = self.branches[step % 2]

    def after_train(self, runner: Any) -> None:
        bare_model(runner.model).trained_branch = None
