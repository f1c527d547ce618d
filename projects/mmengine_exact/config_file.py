"""Config files as users write them: read, or one line that names the place."""
import difflib
import os.path as osp
from traceback import walk_tb
from typing import Any, Iterator, Optional, Sequence

from mmengine.config import Config

from .building import hint, reason
from .errors import ConfigError

#: Keys at the top of a config that a run reads.
RUN_KEYS = ('model', 'work_dir', 'train_dataloader', 'val_dataloader',
            'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
            'auto_scale_lr', 'optim_wrapper', 'param_scheduler',
            'val_evaluator', 'test_evaluator', 'default_hooks', 'custom_hooks',
            'data_preprocessor', 'load_from', 'resume', 'launcher', 'env_cfg',
            'log_processor', 'log_level', 'visualizer', 'default_scope',
            'randomness', 'experiment_name', 'runner_type',
            'model_wrapper_cfg', 'find_unused_parameters', 'compile',
            'custom_imports', 'channels_last', 'tta_model', 'tta_pipeline',
            'activation_checkpointing', 'efficient_conv_bn_eval')
#: Entries whose keys are a fixed set, too; what MMEngine does not know there
#: it ignores.
HOOK_KEYS = ('runtime_info', 'timer', 'logger', 'param_scheduler',
             'checkpoint', 'sampler_seed', 'visualization')
#: Of a detector's ``train_cfg`` and ``test_cfg``, which it only asks for what
#: it knows.
SETTING_KEYS = ('rpn', 'rpn_proposal', 'rcnn', 'panoptic', 'assigner',
                'sampler', 'allowed_border', 'pos_weight', 'debug', 'nms_pre',
                'nms_post', 'max_per_img', 'nms', 'min_bbox_size', 'mask_size',
                'score_thr', 'mask_thr_binary', 'overlap_thr', 'stuff_area',
                'nms_iou_thr', 'mask_thr', 'iou_thr', 'mask_overlap',
                'max_per_image')
#: Variables that many configs have and that are no slip of the pen.
_USUAL = ('train_pipeline', 'val_pipeline', 'test_pipeline', 'model_cfg',
          'models')
_ALIKE = 0.87
#: At the top, where names are longer: one slip in seven letters is alike.
_ALIKE_AT_TOP = 0.85


def read_config(path: str, cfg_options: Optional[dict] = None) -> Config:
    """Read a config file; override keys.

    Args:
        path (str): Python, YAML or JSON.
        cfg_options (dict, optional): Dotted keys and values.

    Raises:
        ConfigError: It cannot be read; names file and line. Or an option or
            a key at its top is one that no run reads.
    """
    _require_no_circle(osp.abspath(path))
    try:
        cfg = Config.fromfile(path)
        dict(cfg.items())  # where it has imports, these are done now
    except Exception as error:
        raise ConfigError(_unreadable(path, error)) from error
    if cfg_options:
        _require_known(cfg, cfg_options)
        for key, value in cfg_options.items():
            try:
                cfg.merge_from_dict({key: value})
            except Exception as error:
                raise ConfigError(
                    f'--cfg-options {key}={value}: {path} cannot take it '
                    f'({reason(error)}). Give the key of an entry that is '
                    'there.') from error
    require_run_keys(cfg)
    return cfg


def _require_no_circle(path: str, above: Sequence[str] = ()) -> None:
    """MMEngine follows bases that lead back until Python gives up."""
    if path in above:
        raise ConfigError(f'{above[0]}: its _base_ configs lead back to '
                          f'{path}. Remove one.')
    try:
        bases = Config._get_base_files(path)
    except Exception:  # which reading it will tell
        return
    for base in bases:
        found = osp.abspath(osp.join(osp.dirname(path), str(base)))
        if osp.isfile(found):
            _require_no_circle(found, (*above, path))


def _unreadable(path: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return (f'{path}: {" ".join(str(error).split())[:300]}. Correct the '
                'path in its _base_.')
    place, line = path, getattr(error, 'lineno', None)
    for frame, number in walk_tb(error.__traceback__):
        if frame.f_code.co_name in ('fromfile', '_file2dict'):
            place = str(frame.f_locals.get('filename', path))
        if frame.f_code.co_filename == place:  # its code was being run
            line = number
    if line is not None:
        place = f'{place}, line {line}'
    elif isinstance(error, ImportError) and 'custom modules' in str(error):
        return (f'{path}: custom_imports: {reason(error.__cause__ or error)}. '
                'Correct the name, or set PYTHONPATH to the folder of the '
                f'module. {hint()}')
    return f'{place}: {reason(error)}. Correct the config. {hint()}'


def _require_known(cfg: Config, cfg_options: dict) -> None:
    for key, value in cfg_options.items():
        top = str(key).split('.')[0]
        if top in cfg or top in RUN_KEYS:
            continue
        near = difflib.get_close_matches(top, [*RUN_KEYS, *cfg], 1, 0.7)
        meant = f'Is {near[0]!r} meant? ' if near else ''
        raise ConfigError(f'--cfg-options {key}={value}: {cfg.filename} has '
                          f'no {top}, and no run reads it. {meant}Correct the '
                          'key.')


def require_run_keys(cfg: Config) -> None:
    """No key looks like one that was meant for the run and misspelt.

    MMEngine ignores a key at the top that it does not know. Variables of the
    config's own pass, unless their name is almost a run's key and nothing in
    the config has their value.

    Raises:
        ConfigError: Names the key and the one that was meant.
    """
    for key in cfg:
        if key in RUN_KEYS or key in _USUAL:
            continue
        near = difflib.get_close_matches(key, RUN_KEYS, 1, _ALIKE_AT_TOP)
        if near and not any(
                cfg[other] is not None and _holds(cfg[other], cfg[key])
                for other in RUN_KEYS if other in cfg):
            raise ConfigError(
                f'{cfg.filename}: {key} is read by nothing. Is {near[0]!r} '
                'meant? Correct it; a variable of your own needs a name that '
                'is less like it.')
    hooks = cfg.get('default_hooks')
    for key in hooks if isinstance(hooks, dict) else ():
        near = difflib.get_close_matches(str(key), HOOK_KEYS, 1, _ALIKE)
        if key not in HOOK_KEYS and near:
            raise ConfigError(
                f'{cfg.filename}: default_hooks.{key} would stand beside '
                f'{near[0]!r}, not in its place. Correct its name.')
    model = cfg.get('model')
    for part in ('train_cfg', 'test_cfg') if isinstance(model, dict) else ():
        _require_settings(cfg.filename, model.get(part), f'model.{part}')


def _require_settings(filename: str, value: Any, key: str) -> None:
    """Entries with a type are built, which tells of unknown keys itself."""
    if isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _require_settings(filename, item, f'{key}[{i}]')
    if not isinstance(value, dict) or 'type' in value:
        return
    for name, item in value.items():
        near = difflib.get_close_matches(str(name), SETTING_KEYS, 1, _ALIKE)
        if name not in SETTING_KEYS and near and near[0] not in value:
            raise ConfigError(f'{filename}: {key}.{name} is read by nothing. '
                              f'Is {near[0]!r} meant? Correct it.')
        _require_settings(filename, item, f'{key}.{name}')


def _holds(value: Any, wanted: Any) -> bool:
    return any(found == wanted for found in _parts(value))


def _parts(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict):
        for item in value.values():
            yield from _parts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _parts(item)
