"""Losses and weights that are NaN or infinite stop a run before it saves."""
import math
from typing import Any, Dict, List, Mapping, Optional

import torch
from mmengine.dist import all_gather_object, get_rank, is_distributed
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import nn

from .errors import NonFiniteLossError
from .loop import any_rank


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stops all processes when a loss is NaN or infinite on any of them.

    It looks right after the optimizer step and before any hook that saves,
    so nothing after the last good checkpoint is written. Looking before the
    step would make the host wait for the forward pass alone and leave the
    GPU idle until the backward pass is queued; here the wait coincides with
    that of ``RuntimeInfoHook``, which reads every loss each iteration.

    A finite loss with a broken gradient is caught where it would do harm:
    :func:`require_finite_weights` keeps its weights out of checkpoints.
    """

    priority = 'HIGH'

    def after_train_iter(self,
                         runner: Any,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: Optional[Dict[str, Any]] = None) -> None:
        """Look at every output whose name contains 'loss'.

        Raises:
            NonFiniteLossError: On all ranks alike, with the iteration, the
                losses and the images of each rank that has a broken one.
        """
        losses = {
            name: float(torch.as_tensor(value).detach().float().mean())
            for name, value in (outputs or {}).items() if 'loss' in name
        }
        broken = [
            f'{name} = {value}' for name, value in losses.items()
            if not math.isfinite(value)
        ]
        if not any_rank(bool(broken)):
            return
        rank = f'rank {get_rank()}: ' if is_distributed() else ''
        found = (f'{rank}{", ".join(broken)} with the images '
                 f'{", ".join(image_names(data_batch)) or "(unknown)"}')
        gathered = all_gather_object(found if broken else None)
        raise NonFiniteLossError(
            f'Iteration {runner.iter + 1}: '
            f'{"; ".join(filter(None, gathered))}. Training stopped; the '
            f'last checkpoint in {runner.work_dir} is from before. Look at '
            'these images; or start a run with a lower '
            'optim_wrapper.optimizer.lr or a longer warm-up, from a good '
            'checkpoint with load_from (--resume keeps the old rate).')


def image_names(data_batch: Any) -> List[str]:
    """Path and id of each image of a batch, as far as they are known."""
    if not isinstance(data_batch, Mapping):
        return []
    metas = [
        getattr(sample, 'metainfo', sample)
        for sample in data_batch.get('data_samples', ())
    ]
    return [
        f'{meta.get("img_path")} (id {meta.get("img_id")})' for meta in metas
        if isinstance(meta, Mapping)
    ]


def require_finite_weights(model: nn.Module, iteration: int,
                           filename: str) -> None:
    """Require that the weights about to be saved are finite.

    Raises:
        NonFiniteLossError: A weight is NaN or infinite.
    """
    named = dict(model.named_parameters())
    flags = [weight.detach().isfinite().all() for weight in named.values()]
    if not flags or bool(torch.stack(flags).all()):
        return
    broken = [name for name, finite in zip(named, flags) if not finite]
    raise NonFiniteLossError(
        f'Iteration {iteration}: {len(broken)} weights are NaN or infinite '
        f'(first: {broken[0]}), so {filename} is not written and the '
        'checkpoint before it stays the last. Start a run from it with '
        'load_from and a lower optim_wrapper.optimizer.lr (--resume keeps the '
        'old rate) or with gradient clipping (optim_wrapper.clip_grad).')
