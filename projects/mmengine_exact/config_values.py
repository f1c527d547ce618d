"""Numbers of a config that MMEngine takes as they are, and what they may be.

A batch of no images, an interval of 2.5, a negative learning rate: each runs,
or fails an hour later, in a hook.
"""
import math
from typing import Any, Callable, Iterator, List, Tuple

from mmengine.config import Config

from .errors import ConfigError


def _number(value: Any, least: float = -math.inf) -> bool:
    return isinstance(value, (int, float)) and not isinstance(
        value, bool) and least <= value < math.inf


def _whole(value: Any, least: float) -> bool:
    return _number(value, least) and float(value).is_integer()


def _interval(value: Any) -> bool:
    return type(value) is int and (value > 0 or value == -1)


def _count(value: Any) -> bool:
    return type(value) is int and value > 0


def _milestones(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(
        _whole(item, 0) for item in value) and list(value) == sorted(value)


def _share(value: Any) -> bool:
    return _number(value, 0) and value <= 1


def _paths(value: Any) -> bool:
    several = isinstance(value, (list, tuple)) and all(
        isinstance(item, str) for item in value)
    return isinstance(value, str) or several


#: Key ('*': any), what the value may be, and the test. None is always taken.
RULES: List[Tuple[str, str, Callable[[Any], bool]]] = [
    *((f'{split}_dataloader.{key}', text, test)
      for split in ('train', 'val', 'test')
      for key, text, test in (
          ('dataset', 'a dict', lambda v: isinstance(v, dict)),
          ('batch_size', 'a whole number from 1 on', _count),
          ('num_workers', 'a whole number from 0 on',
           lambda v: type(v) is int and v >= 0))),
    *((f'train_cfg.{key}', 'a whole number from 1 on', lambda v: _whole(v, 1))
      for key in ('max_iters', 'max_epochs', 'val_interval')),
    ('train_cfg.val_begin', 'a whole number from 0 on',
     lambda v: _whole(v, 0)),
    *((f'optim_wrapper.optimizer.{key}', 'a finite number from 0 on',
       lambda v: _number(v, 0))
      for key in ('lr', 'weight_decay', 'momentum')),
    ('optim_wrapper.accumulative_counts', 'a whole number from 1 on', _count),
    ('optim_wrapper.clip_grad.max_norm', 'a number above 0',
     lambda v: _number(v, 0) and v > 0),
    *((f'param_scheduler.*.{key}', 'a whole number from 0 on',
       lambda v: _whole(v, 0)) for key in ('begin', 'end', 'T_max')),
    *((f'param_scheduler.*.{key}', 'a finite number from 0 on',
       lambda v: _number(v, 0))
      for key in ('gamma', 'start_factor', 'end_factor', 'eta_min', 'power')),
    ('param_scheduler.*.milestones', 'a list of whole numbers that rise',
     _milestones),
    ('param_scheduler.*.by_epoch', 'True or False',
     lambda v: isinstance(v, bool)),
    *((f'{hooks}.*.interval', 'a whole number from 1 on, or -1 for never',
       _interval) for hooks in ('default_hooks', 'custom_hooks')),
    ('default_hooks.checkpoint.max_keep_ckpts',
     'a whole number from 1 on, or -1 for all', _interval),
    ('default_hooks.checkpoint.by_epoch', 'True or False',
     lambda v: isinstance(v, bool)),
    ('log_processor.window_size', 'a whole number from 1 on', _count),
    ('log_processor.by_epoch', 'True or False',
     lambda v: isinstance(v, bool)),
    ('randomness.seed', 'a whole number from 0 to 2**32 - 1',
     lambda v: type(v) is int and 0 <= v < 2**32),
    ('auto_scale_lr.base_batch_size', 'a whole number from 1 on', _count),
    ('auto_scale_lr.enable', 'True or False', lambda v: isinstance(v, bool)),
    ('resume', 'True or False', lambda v: isinstance(v, bool)),
    ('load_from', 'a path, or a list of them', _paths),
    ('work_dir', 'a path', lambda v: isinstance(v, str)),
    ('runner_type', 'the name of a runner, such as ExactRunner',
     lambda v: isinstance(v, (str, type))),
    ('model.loss_weights.*', 'a finite number from 0 on',
     lambda v: _number(v, 0)),
    ('model.data_preprocessor.std', 'a list of numbers above 0',
     lambda v: isinstance(v, (list, tuple)) and all(
         _number(item, 0) and item > 0 for item in v)),
    ('model.data_preprocessor.mean', 'a list of finite numbers',
     lambda v: isinstance(v, (list, tuple)) and all(map(_number, v))),
    ('model.data_preprocessor.pad_size_divisor', 'a whole number from 1 on',
     _count),
    *((f'model.test_cfg.{key}', 'a number from 0 to 1', _share)
      for key in ('panoptic.score_thr', 'panoptic.overlap_thr',
                  'panoptic.nms_iou_thr', 'rcnn.score_thr',
                  'rcnn.nms.iou_threshold', 'rpn.nms.iou_threshold',
                  'rcnn.mask_thr_binary')),
    ('model.test_cfg.panoptic.stuff_area', 'a number from 0 on',
     lambda v: _number(v, 0)),
    *((f'model.{part}.max_per_img', 'a whole number from 1 on', _count)
      for part in ('test_cfg.rcnn', 'test_cfg.rpn',
                   'train_cfg.rpn_proposal')),
    *((f'model.{key}', 'a whole number from 0 on',
       lambda v: type(v) is int and v >= 0)
      for key in ('semantic_head.num_things_classes',
                  'semantic_head.num_stuff_classes',
                  'panoptic_fusion_head.num_things_classes',
                  'panoptic_fusion_head.num_stuff_classes')),
]  # yapf: disable

#: Entries of a config that are dicts, or lists of them, or missing.
_DICTS = ('model', 'train_dataloader', 'val_dataloader', 'test_dataloader',
          'train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper', 'auto_scale_lr',
          'default_hooks', 'randomness', 'env_cfg', 'log_processor')
_LISTS = ('custom_hooks', )


def require_values(cfg: Config) -> None:
    """Numbers of a config are such as a run can use.

    Args:
        cfg (Config): Of a run; keys that are missing pass.

    Raises:
        ConfigError: Names the config, the key, the value and what it may be.
    """
    for key in _DICTS:
        if cfg.get(key) is not None and not isinstance(cfg[key], dict):
            raise _wrong(cfg, key, cfg[key], 'a dict')
    for key in _LISTS:
        if cfg.get(key) is not None and not isinstance(cfg[key], list):
            raise _wrong(cfg, key, cfg[key], 'a list of dicts')
    for pattern, what, test in RULES:
        first, *rest = pattern.split('.')
        for key, value in _values(cfg.get(first), rest, first):
            if value is not None and not test(value):
                raise _wrong(cfg, key, value, what)


def _wrong(cfg: Config, key: str, value: Any, what: str) -> ConfigError:
    shown = ' '.join(repr(value).split())[:100]
    return ConfigError(f'{cfg.filename or "The config"}: {key}={shown}. Set '
                       f'{what}.')


def _values(value: Any, path: List[str],
            key: str) -> Iterator[Tuple[str, Any]]:
    """Keys and values that a pattern stands for."""
    if not path:
        yield key, value
        return
    name, *rest = path
    if isinstance(value, (list, tuple)) and name == '*':
        for i, item in enumerate(value):
            yield from _values(item, rest, f'{key}[{i}]')
    elif isinstance(value, dict):
        # param_scheduler may be one dict in the place of a list
        if name == '*' and 'type' in value:
            yield from _values(value, rest, key)
        for child in value if name == '*' else [name] * (name in value):
            yield from _values(value[child], rest, f'{key}.{child}')
