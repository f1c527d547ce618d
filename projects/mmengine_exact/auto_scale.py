"""Linear scaling rule: another batch size, the same training.

With r = images per optimizer step / ``base_batch_size``, the learning rate
is multiplied by r and everything counted in iterations is divided by it, so
that the same number of images is seen (Goyal et al. 2017; Detectron2 scales
a schedule to other numbers of workers in the same way).

Configured by ``auto_scale_lr = dict(enable=False, base_batch_size=16,
scale_schedule=True)``; MMEngine's own scaling changes the rate alone.
"""
import copy
from typing import Any, List, Optional, Tuple

from mmengine.config import Config

from .errors import AutoScaleError

_LOOP_KEYS = ('max_iters', 'val_interval', 'val_begin')
_SCHEDULER_KEYS = ('begin', 'end', 'T_max', 'step_size', 'total_iters')


def effective_batch(cfg: Config, world_size: int) -> Tuple[int, int]:
    """Images per iteration, and per optimizer step, of all processes.

    They differ by ``optim_wrapper.accumulative_counts``.
    """
    loader = cfg.train_dataloader
    batch_size = loader.get('batch_size')
    if batch_size is None:
        batch_size = (loader.get('batch_sampler') or {}).get('batch_size')
    if batch_size is None:
        raise AutoScaleError('train_dataloader.batch_size is not set. Set the '
                             'number of images per process.')
    per_iteration = int(batch_size) * world_size
    return per_iteration, per_iteration * cfg.optim_wrapper.get(
        'accumulative_counts', 1)


def batch_size_warning(cfg: Config, world_size: int) -> Optional[str]:
    """What to tell a user whose batch is not the one of the schedule.

    Returns:
        str or None: A sentence with both numbers; None where they agree or
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
    """What ``--auto-scale-lr`` means.

    Raises:
        AutoScaleError: The config does not say what to scale from.
    """
    if (cfg.get('auto_scale_lr') or {}).get('base_batch_size') is None:
        raise AutoScaleError(
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

    Raises:
        AutoScaleError: A value that the rule needs is missing.
    """
    auto = cfg.get('auto_scale_lr') or {}
    if not auto.get('enable', False) or cfg.get('train_dataloader') is None:
        return cfg
    cfg = copy.deepcopy(cfg)
    if auto.get('base_batch_size') is None:
        enable_auto_scale(cfg)
    per_iteration, per_step = effective_batch(cfg, world_size)
    base = int(auto['base_batch_size'])
    _scale_lr(cfg, per_step / base)
    if auto.get('scale_schedule', True):
        _scale_schedule(cfg, base / per_iteration)
    cfg.auto_scale_lr = dict(
        auto, enable=False, base_batch_size=per_step, scaled=True)
    return cfg


def _scale_lr(cfg: Config, ratio: float) -> None:
    optimizer = cfg.optim_wrapper.get('optimizer')
    if optimizer is None or 'lr' not in optimizer:
        raise AutoScaleError('optim_wrapper.optimizer.lr is not set, so '
                             '--auto-scale-lr has nothing to scale. Set it.')
    optimizer['lr'] = optimizer['lr'] * ratio
    for scheduler in _schedulers(cfg):
        if 'eta_min' in scheduler:
            scheduler['eta_min'] = scheduler['eta_min'] * ratio


def _scale_schedule(cfg: Config, factor: float) -> None:
    for key in _LOOP_KEYS:
        _scale(cfg.train_cfg, key, factor, by_iter=_by_iter(cfg.train_cfg))
    if cfg.train_cfg.get('dynamic_intervals') and _by_iter(cfg.train_cfg):
        cfg.train_cfg['dynamic_intervals'] = [
            (_times(start, factor), _times(every, factor))
            for start, every in cfg.train_cfg['dynamic_intervals']
        ]
    for scheduler in _schedulers(cfg):
        by_iter = not scheduler.get('by_epoch', True)
        for key in (*_SCHEDULER_KEYS, 'milestones'):
            _scale(scheduler, key, factor, by_iter)
    saver = (cfg.get('default_hooks') or {}).get('checkpoint')
    if saver:
        for key in ('interval', 'save_begin'):
            _scale(saver, key, factor, not saver.get('by_epoch', True))


def _by_iter(train_cfg: Any) -> bool:
    return 'max_iters' in train_cfg


def _schedulers(cfg: Config) -> List[Any]:
    schedulers = cfg.get('param_scheduler') or []
    return [schedulers] if isinstance(schedulers, dict) else list(schedulers)


def _scale(owner: Any, key: str, factor: float, by_iter: bool) -> None:
    value = owner.get(key)
    if not by_iter or value is None:
        return
    if isinstance(value, (list, tuple)):
        owner[key] = [_times(item, factor) for item in value]
    else:
        owner[key] = _times(value, factor)


def _times(value: int, factor: float) -> int:
    """Whole number of iterations; 0 and -1 (never) stay, the rest is >= 1."""
    return value if value <= 0 else max(1, int(value * factor + 0.5))
