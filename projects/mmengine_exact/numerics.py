"""Losses and weights that are NaN or infinite stop a run before it saves."""
import math
from functools import partial
from typing import Any, Dict, List, Mapping, Optional, Tuple

import torch
from mmengine.dist import all_gather_object, get_rank, is_distributed
from mmengine.registry import HOOKS
from torch import nn

from .errors import NonFiniteLossError
from .match import counts
from .outputs import DelayedOutputs
from .stopping import StoppingHook, stop_together


@HOOKS.register_module()
class NonFiniteLossHook(StoppingHook):
    """Stops all processes when a loss is NaN or infinite on any of them.

    Losses on a GPU are read when the next iteration is queued, and always
    before a validation, a checkpoint and the end, so nothing after the last
    good checkpoint is written.

    float16 has a loss scale, which skips the step of such a loss, so that
    weights stay good: there only many losses in a row stop the run.

    A finite loss with a broken gradient is caught where it would do harm:
    :func:`require_finite_weights` keeps its weights out of checkpoints.

    Args:
        max_skipped (int): Iterations in a row, without a finite loss, that
            stop a run in float16. Defaults to 20.
    """

    priority = 'HIGH'

    def __init__(self, max_skipped: int = 20) -> None:
        self.max_skipped = max_skipped
        #: iteration and what is wrong with it, of this process
        self._in_a_row: List[Tuple[int, str]] = []
        self._unasked = False

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
        DelayedOutputs.of(runner).put(
            runner.iter, outputs,
            partial(self._look, runner, runner.iter + 1,
                    image_names(data_batch)))
        self._unasked = True
        super().after_train_iter(runner)

    def read_outputs(self, runner: Any) -> None:
        """Look at all losses so far; the runner calls this before it saves.
        Without a new iteration no process is asked: some leave a validation
        one by one, and save alone."""
        if self._unasked:
            DelayedOutputs.of(runner).read()
            self._unasked = False
            stop_together(runner, [self])

    before_val = after_train_epoch = read_outputs

    def _look(self, runner: Any, iteration: int, images: List[str],
              outputs: Dict[str, Any]) -> None:
        broken = [
            f'{name} = {float(value)}' for name, value in outputs.items()
            if 'loss' in name and not math.isfinite(value)
        ]
        if broken:
            text = (f'{", ".join(broken)} with the images '
                    f'{", ".join(images) or "(unknown)"}')
            self._in_a_row.append((iteration, text))
            if self._limit(runner) > 1:
                runner.logger.warning(f'Iteration {iteration}: {text}. Its '
                                      'step is skipped, as float16 may need '
                                      'now and then.')
        elif not self.wants_stop(runner):
            self._in_a_row.clear()

    def _limit(self, runner: Any) -> int:
        """How many in a row stop the run."""
        wrapper = getattr(runner, 'optim_wrapper', None)
        scaler = getattr(wrapper, 'loss_scaler', None)
        skips = (
            scaler is not None and scaler.is_enabled()
            and getattr(wrapper, 'cast_dtype', None) != torch.bfloat16)
        return self.max_skipped if skips else 1

    def wants_stop(self, runner: Any) -> bool:
        return len(self._in_a_row) >= self._limit(runner)

    def stop(self, runner: Any) -> None:
        limit = self._limit(runner)
        iteration, text = self._in_a_row[0] if self.wants_stop(runner) else (
            math.inf, '')
        rank = f'rank {get_rank()}: ' if is_distributed() else ''
        gathered = all_gather_object((iteration, rank + text))
        first = min(found[0] for found in gathered)
        texts = [text for iteration, text in gathered if iteration == first]
        advice = (
            'Look at these images; or start a run with a lower '
            'optim_wrapper.optimizer.lr or a longer warm-up, from a good '
            'checkpoint with load_from (--resume keeps the old rate).')
        if limit > 1:
            texts.append(f'and so on in {limit} iterations in a row')
            advice = ('Look at these images; where nothing is wrong with '
                      'them, float16 is too narrow: continue with --resume '
                      'and optim_wrapper.dtype=bfloat16 (--amp-dtype '
                      'bfloat16).')
        raise NonFiniteLossError(
            f'Iteration {first}: {"; ".join(texts)}. Training stopped; the '
            f'last checkpoint in {runner.work_dir} is from before. {advice}')


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
        NonFiniteLossError: A weight is NaN or infinite; or a statistic of
            BatchNorm, which a step that is skipped has spoilt for good.
    """
    named = {
        name: value
        for name, value in model.state_dict(keep_vars=True).items()
        if counts(name, value)
    }
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
