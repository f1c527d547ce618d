"""Hooks of a run: alternate losses, stop on a broken one, write scores."""
import json
import math
import os.path as osp
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
import torch
from mmdet.registry import HOOKS
from mmengine.dist import (all_gather_object, all_reduce, get_rank,
                           is_distributed, master_only)
from mmengine.hooks import Hook

from ..allocator import bound_kept_memory
from ..errors import PanopticError
from .checkpoint_io import make_plain, write_atomically
from .checkpoint_match import bare_model
from .errors import NonFiniteLossError
from .record import score_record


class PlainCheckpointHook(Hook):
    """Gives checkpoints a content that weights-only loading accepts.

    :class:`PanopticRunner` adds it as the last hook to see a checkpoint.
    """

    priority = 'LOWEST'

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        make_plain(checkpoint)


class KeptMemoryHook(Hook):
    """Bounds the memory that a run on a CPU keeps; see ``allocator``.

    :class:`PanopticRunner` adds it.
    """

    priority = 'LOWEST'

    def _after_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        bound_kept_memory()


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stops all processes when a loss is NaN or infinite on any of them.

    It looks right after the optimizer step and before any hook that saves,
    so nothing after the last good checkpoint is written. Looking before the
    step would make the host wait for the forward pass alone and leave the
    GPU idle until the backward pass is queued; here the wait coincides with
    that of ``RuntimeInfoHook``, which reads every loss each iteration. What
    it costs is one flag per iteration, summed over the processes.

    A finite loss with a broken gradient is caught where it would do harm:
    :meth:`PanopticRunner.save_checkpoint` refuses weights that are not
    finite.
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
            name: value
            for name, value in (outputs or {}).items() if 'loss' in name
        }
        if not _any_rank(_broken_flag(losses)):
            return
        found = _describe(losses, data_batch)
        if is_distributed():
            gathered = all_gather_object((get_rank(), found))
            found = '; '.join(f'rank {rank}: {text}' for rank, text in gathered
                              if text)
        raise NonFiniteLossError(
            f'Iteration {runner.iter + 1}: {found}. Training stopped; the '
            f'last checkpoint in {runner.work_dir} is from before. Look at '
            'these images; or start a run with a lower '
            'optim_wrapper.optimizer.lr or a longer warm-up, from a good '
            'checkpoint with load_from (--resume keeps the old rate).')


def _broken_flag(losses: Mapping[str, Any]) -> torch.Tensor:
    """1 where any loss is not finite, as a tensor (no wait for the GPU)."""
    tensors = [v for v in losses.values() if isinstance(v, torch.Tensor)]
    numbers = [v for k, v in losses.items() if not isinstance(v, torch.Tensor)]
    flag = torch.tensor(
        int(any(not math.isfinite(v) for v in numbers)), dtype=torch.int32)
    if not tensors:
        return flag
    device = tensors[0].device
    values = torch.stack(
        [v.detach().float().mean().to(device) for v in tensors])
    broken = (~torch.isfinite(values)).any().to(torch.int32)
    return broken + flag.to(device)


def _any_rank(flag: torch.Tensor) -> bool:
    if is_distributed():
        all_reduce(flag, op='max')
    return bool(flag.item())


def _describe(losses: Mapping[str, Any], data_batch: Any) -> str:
    """Broken losses and the batch's images; empty if all are finite."""
    values = {
        name: float(torch.as_tensor(v).detach().float().mean())
        for name, v in losses.items()
    }
    broken = [
        f'{name} = {v}' for name, v in values.items() if not math.isfinite(v)
    ]
    if not broken:
        return ''
    return (f'{", ".join(broken)} with the images '
            f'{", ".join(image_names(data_batch)) or "(unknown)"}')


def image_names(data_batch: Any) -> List[str]:
    """Path and id of each image of a batch, as far as it tells them."""
    samples: Sequence = ()
    if isinstance(data_batch, Mapping):
        samples = data_batch.get('data_samples') or ()
    names = []
    for sample in samples:
        meta = getattr(sample, 'metainfo', sample)
        if not isinstance(meta, Mapping):
            continue
        path, image_id = meta.get('img_path'), meta.get('img_id')
        names.append(f'{path} (id {image_id})' if path else f'id {image_id}')
    return names


@HOOKS.register_module()
class AlternateLossesHook(Hook):
    """Trains one branch in each iteration, in turns (Table 3c, 'alternate').

    Even iterations have the losses of the instance branch and of RPN, odd
    ones those of the semantic branch: on all processes alike, and after a
    resume, too. The idle branch gets no gradient, so the optimizer passes it
    over: neither weight decay nor momentum moves it. Where gradients of
    several iterations are accumulated, these have the same branch.

    Under DDP the config needs ``find_unused_parameters=True``.

    Raises:
        PanopticError: The model cannot train a branch alone or lacks one, or
            DDP would wait for the gradients of the idle one.
    """

    branches = ('instance', 'semantic')

    def before_train(self, runner: Any) -> None:
        model = bare_model(runner.model)
        weights = getattr(model, 'loss_weights', {})
        if not (hasattr(model, 'trained_branch')
                and all(weights.get(branch) for branch in self.branches)):
            raise PanopticError(
                f'AlternateLossesHook: {type(model).__name__} with '
                f'loss_weights={dict(weights)} has not two branches to train '
                'in turns. Leave the hook out, or set both weights of '
                'model.loss_weights above 0.')
        wrapper = runner.model
        if getattr(wrapper, 'find_unused_parameters', True) is False:
            raise PanopticError(
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


@HOOKS.register_module()
class MetricsJsonHook(Hook):
    """Writes the metrics of each evaluation to ``work_dir/metrics.json``.

    One object of flat scores, e.g. ``{"coco_panoptic/PQ": 41.5, "mIoU":
    null}``; NaN and infinity are null. Where the evaluator knows scores of
    single classes (``by_class``), ``"classwise"`` holds them, e.g.
    ``{"car": {"PQ": 53.1, "IoU": 92.0}}``, in the units of the flat scores;
    neither the log nor the scalars of the logger do. In training the file
    holds the last validation.

    Args:
        filename (str): Name of the file. Defaults to 'metrics.json'.
        record (bool): Whether ``"record"`` says what the scores were made
            with, see :func:`score_record`. Defaults to False.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self,
                 filename: str = 'metrics.json',
                 record: bool = False) -> None:
        self.filename = filename
        self.record = record

    def after_val_epoch(self,
                        runner: Any,
                        metrics: Optional[Dict[str, Any]] = None) -> None:
        self._write(runner, metrics, getattr(runner, 'val_loop', None))

    def after_test_epoch(self,
                         runner: Any,
                         metrics: Optional[Dict[str, Any]] = None) -> None:
        self._write(runner, metrics, getattr(runner, 'test_loop', None))

    @master_only
    def _write(self, runner: Any, metrics: Optional[Dict[str, Any]],
               loop: Any) -> None:
        if not metrics:  # results were written, nothing was scored
            return
        content = flat_metrics(metrics)
        evaluator = getattr(loop, 'evaluator', None)
        by_class = getattr(evaluator, 'by_class', None)
        if by_class:
            content['classwise'] = {
                name: flat_metrics(scores)
                for name, scores in by_class.items()
            }
        if self.record:
            content['record'] = score_record(runner, loop.dataloader.dataset)
        text = json.dumps(content, indent=1, default=str)

        def write(path: str) -> None:
            with open(path, 'w', encoding='utf-8') as file:
                file.write(text + '\n')

        write_atomically(osp.join(runner.work_dir, self.filename), write)


def flat_metrics(metrics: Mapping, prefix: str = '') -> Dict[str, Any]:
    """Numbers (not finite: None) and strings; nested keys joined by '/'."""
    flat: Dict[str, Any] = {}
    for key, value in metrics.items():
        name = f'{prefix}{key}'
        if isinstance(value, Mapping):
            flat.update(flat_metrics(value, f'{name}/'))
            continue
        if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
            value = value.tolist()
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        if value is None or isinstance(value, (bool, int, float, str)):
            flat[name] = value
    return flat
