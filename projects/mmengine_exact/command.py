"""What the training and testing tools share: config, errors, exit codes."""
import inspect
import os.path as osp
import sys
from difflib import SequenceMatcher, get_close_matches
from functools import reduce
from operator import getitem
from typing import Any, Callable, List, Optional, Sequence, Set

import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.dist import get_rank, is_distributed
from mmengine.runner import Runner
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from .errors import RunError
from .launch import explain
from .variables import ConfigFiles, check_inherited, computed_from

#: Keys at the top of a config that a run reads besides the runner's arguments.
_MORE_KEYS = {
    'activation_checkpointing', 'auto_scale_lr', 'channels_last', 'compile',
    'custom_imports', 'efficient_conv_bn_eval', 'find_unused_parameters',
    'model_wrapper_cfg', 'runner_type', 'sync_bn', 'tta_model', 'tta_pipeline'
}
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def read_config(path: str, cfg_options: Optional[dict] = None) -> Config:
    """Read a config file; override keys.

    Args:
        path (str): Python, YAML or JSON.
        cfg_options (dict, optional): Dotted keys and values.

    Raises:
        RunError: A variable of a base or an option has no effect.
    """
    cfg = Config.fromfile(path)
    files = ConfigFiles(path, _keys_read(cfg))
    check_inherited(files)
    override(cfg, cfg_options or {}, files)
    return cfg


def override(cfg: Config,
             options: dict,
             files: Optional[ConfigFiles] = None) -> None:
    """Override keys of a config, in place.

    Args:
        cfg (Config): The config.
        options (dict): Dotted keys and values. A variable of the files also
            sets the keys that are computed from it, unless they are given.
        files (ConfigFiles, optional): The files that it was read from.

    Raises:
        RunError: An option has no effect.
    """
    read = _keys_read(cfg)
    for key, value in options.items():
        name, *below = key.split('.')
        known = name in read or name in cfg
        near = misspelt(cfg.get(name), below) if known else get_close_matches(
            name, [*read, *cfg], n=1)
        if near or not known:
            hint = f' (is it {near[0]}?)' if near else ''
            raise RunError(f'--cfg-options {key}={value}: no run reads it'
                           f'{hint}. Correct the key.')
    try:
        if files is not None:
            found = computed_from(files, options)
            for (*parents, key), value in found.items():
                reduce(getitem, parents, cfg)[key] = value
        cfg.merge_from_dict(options)
    except (KeyError, TypeError) as error:
        raise RunError(
            f'--cfg-options: {error}. Correct the key or its value.') from None


def misspelt(node: Any, names: Sequence[str]) -> List[str]:
    """Keys of a nested dict that differ by one letter from the first of
    ``names``, the parts of a dotted key, that is not there."""
    for name in names:
        if isinstance(node, list) and name.isdigit():
            node = dict(enumerate(node)).get(int(name))
            continue
        if not isinstance(node, dict):
            break
        if name not in node:
            plain = len(name) > 3 and not any(map(str.isdigit, name))
            return [
                key for key in map(str, node)
                if plain and SequenceMatcher(None, key, name).ratio() >= 1 -
                1 / max(len(key), len(name))
            ]
        node = node[name]
    return []


def _keys_read(cfg: Any) -> Set[str]:
    """Keys at the top of a config that a run reads; others are variables."""
    keys = {*inspect.signature(Runner).parameters, *_MORE_KEYS}
    if 'data_preprocessor' in (cfg.get('model') or {}):
        keys.remove('data_preprocessor')
    return keys


def tool_config(path: str, launcher: str, cfg_options: Optional[dict],
                work_dir: Optional[str]) -> Config:
    """The config of a tool's command line.

    Raises:
        RunError: See :func:`read_config`.
    """
    cfg = read_config(path, cfg_options)
    cfg.launcher = launcher
    for loader in filter(None, map(cfg.get, _LOADERS)):
        if loader.get('num_workers') == 0:  # for a debugger, say
            # torch refuses what only workers have
            loader['persistent_workers'] = False
            loader.pop('prefetch_factor', None)
    if work_dir:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        stem = osp.splitext(osp.basename(path))[0]
        cfg.work_dir = osp.join('work_dirs', stem)
    if cfg.get('runner_type') is None:
        cfg.runner_type = 'ExactRunner'
    return cfg


def run_to_exit_code(run: Callable[[], None]) -> int:
    """Call a function and report known errors in one line.

    These are the project's own, and those of the system, of loader workers and
    of lost processes (:func:`explain`). Others are programming errors and keep
    their traceback. torchrun reports either and ends the other processes.

    Returns:
        int: 0, 1 after an error, 75 for a run that a signal ended.
    """
    try:
        run()
    except Exception as error:
        text = explain(error)
        # torchrun takes the first that is recorded as the cause of all
        if not (text or '').startswith('Another process'):
            get_error_handler().record_exception(error)
        if text is None:
            raise
        prefix = f'[rank {get_rank()}] ' if is_distributed() else ''
        print(f'{prefix}error: {text}', file=sys.stderr, flush=True)
        return getattr(error, 'exit_code', 1)
    if is_distributed():
        torch_dist.destroy_process_group()
    return 0
