"""Linear scaling rule: another batch size, the same training.

With r = images per optimizer step / ``base_batch_size``, the learning rate
is multiplied by r and everything counted in iterations is divided by it, so
that the same number of images is seen (Goyal et al. 2017; Detectron2 scales
a schedule to other numbers of workers in the same way).

Configured by ``auto_scale_lr = dict(enable=False, base_batch_size=16,
scale_schedule=True)``; MMEngine's own scaling changes the rate alone.
"""
import copy
from typing import Any, List, Optional, Sequence, Tuple

from mmengine.config import Config

from .errors import RunError

_LOOP_KEYS = ('max_iters', 'val_interval', 'val_begin', 'dynamic_intervals')
_SCHEDULER_KEYS = ('begin', 'end', 'T_max', 'step_size', 'total_iters',
                   'milestones')


def effective_batch(cfg: Config, world_size: int) -> Tuple[int, int]:
    """Images per iteration, and per optimizer step (which may take several,
    ``optim_wrapper.accumulative_counts``), of all processes."""
    loader = cfg.train_dataloader
    batch_size = loader.get('batch_size')
    if batch_size is None:
        batch_size = loader.batch_sampler.batch_size
    per_iteration = batch_size * world_size
    return per_iteration, per_iteration * cfg.optim_wrapper.get(
        'accumulative_counts', 1)


def batch_size_warning(cfg: Config, world_size: int) -> Optional[str]:
    """Compare the batch with the one that the schedule is made for.

    Returns:
        str or None: A warning with both numbers; None where they agree or
        the config names no base.
    """
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if base is None or cfg.get('train_dataloader') is None:
        return None
    _, per_step = effective_batch(cfg, world_size)
    if per_step == base:
        return None
    return (f'The effective batch is {per_step} images ({world_size} '
            f'process(es)), but learning rate and schedule are made for '
            f'{base} (auto_scale_lr.base_batch_size). Add --auto-scale-lr to '
            'scale both, or change them yourself.')


def enable_auto_scale(cfg: Config) -> None:
    """``--auto-scale-lr``: let the run scale to its batch.

    Raises:
        RunError: The config does not say what to scale from.
    """
    if (cfg.get('auto_scale_lr') or {}).get('base_batch_size') is None:
        raise RunError(
            f'--auto-scale-lr: {cfg.filename or "the config"} has no '
            'auto_scale_lr.base_batch_size. Add auto_scale_lr='
            'dict(base_batch_size=16) with the batch of the schedule.')
    cfg.auto_scale_lr['enable'] = True


def scale_to_batch(cfg: Config, world_size: int) -> Config:
    """The config for the batch size at hand.

    Args:
        cfg (Config): Not changed. Without ``auto_scale_lr.enable`` it is
            returned as it is.
        world_size (int): Number of processes.

    Returns:
        Config: With scaled values, ``auto_scale_lr.enable=False`` (so that
        MMEngine does not scale again) and the new base batch size.
    """
    auto = cfg.get('auto_scale_lr') or {}
    if not auto.get('enable', False) or cfg.get('train_dataloader') is None:
        return cfg
    cfg = copy.deepcopy(cfg)
    base = auto['base_batch_size']
    per_iteration, per_step = effective_batch(cfg, world_size)
    scaled = auto.get('scale_schedule', True)
    _scale(cfg, base / per_iteration if scaled else 1., per_step / base)
    cfg.auto_scale_lr = dict(
        auto, enable=False, base_batch_size=per_step, scaled=True)
    return cfg


def _scale(cfg: Config, factor: float, ratio: float) -> None:
    cfg.optim_wrapper.optimizer['lr'] *= ratio
    for scheduler in schedulers(cfg):
        scale_scheduler(scheduler, factor, ratio)
    if 'max_iters' in cfg.train_cfg:
        _scale_keys(cfg.train_cfg, _LOOP_KEYS, factor)
    saver = (cfg.get('default_hooks') or {}).get('checkpoint')
    if saver and not saver.get('by_epoch', True):
        _scale_keys(saver, ('interval', 'save_begin'), factor)


def schedulers(cfg: Config) -> List[dict]:
    """Entries of a config's ``param_scheduler``, which may be a single one."""
    found = cfg.get('param_scheduler') or []
    return [found] if isinstance(found, dict) else list(found)


def scale_scheduler(scheduler: dict, factor: float, ratio: float) -> None:
    """Scale an entry of ``param_scheduler``, in place.

    Args:
        scheduler (dict): The entry; one that counts epochs keeps its numbers.
        factor (float): New number of iterations by the old one.
        ratio (float): New learning rate by the old one.
    """
    if 'eta_min' in scheduler:
        scheduler['eta_min'] *= ratio
    if not scheduler.get('by_epoch', True):
        _scale_keys(scheduler, _SCHEDULER_KEYS, factor)


def _scale_keys(owner: dict, keys: Sequence[str], factor: float) -> None:
    for key in keys:
        if owner.get(key) is not None:
            owner[key] = scale_count(owner[key], factor)


def scale_count(count: Any, factor: float) -> Any:
    """Whole number of iterations, or nested lists and tuples of them; 0 and -1
    (never) stay, the rest is >= 1."""
    if isinstance(count, (list, tuple)):
        return type(count)(scale_count(item, factor) for item in count)
    return count if count <= 0 else max(1, int(count * factor + 0.5))
