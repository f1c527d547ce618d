"""What the training and testing tools share: config, errors, exit codes."""
import inspect
import os.path as osp
import sys
from typing import Callable, Dict, Optional

import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.dist import get_rank, is_distributed
from mmengine.runner import Runner
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from .errors import ConfigError
from .launch import explain

#: Keys at the top of a config that a run reads beside the runner's arguments.
_MORE_KEYS = {
    'activation_checkpointing', 'auto_scale_lr', 'channels_last', 'compile',
    'custom_imports', 'efficient_conv_bn_eval', 'find_unused_parameters',
    'model_wrapper_cfg', 'runner_type', 'sync_bn', 'tta_model', 'tta_pipeline'
}


def read_config(path: str, cfg_options: Optional[dict] = None) -> Config:
    """Read a config file; override keys.

    Args:
        path (str): Python, YAML or JSON.
        cfg_options (dict, optional): Dotted keys and values.

    Raises:
        ConfigError: The file, or one that it inherits, is missing or has a
            syntax error; or nothing reads an option.
    """
    try:
        cfg = Config.fromfile(path)
    except (FileNotFoundError, SyntaxError) as error:
        text = ' '.join(str(error).split())[:300].rstrip('. ')
        raise ConfigError(
            f'{path}: {text}. Correct it, or its _base_.') from None
    known = {*cfg, *inspect.signature(Runner).parameters, *_MORE_KEYS}
    cfg.merge_from_dict(cfg_options or {})
    for key, value in (cfg_options or {}).items():
        fault = None
        if key.split('.')[0] not in known:
            fault = 'no run reads it. Correct the key'
        elif key == 'data_root':
            fault = _unread_data_root(cfg, value)
        if fault is not None:
            raise ConfigError(f'--cfg-options {key}={value}: {fault}.')
    return cfg


def tool_config(path: str, launcher: str, cfg_options: Optional[dict],
                work_dir: Optional[str]) -> Config:
    """The config of a tool's command line.

    Raises:
        ConfigError: See :func:`read_config`.
    """
    cfg = read_config(path, cfg_options)
    cfg.launcher = launcher
    _allow_no_workers(cfg)
    if work_dir:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        stem = osp.splitext(osp.basename(path))[0]
        cfg.work_dir = osp.join('work_dirs', stem)
    if cfg.get('runner_type') is None:
        cfg.runner_type = 'ExactRunner'
    return cfg


def _loaders(cfg: Config) -> Dict[str, dict]:
    names = [f'{split}_dataloader' for split in ('train', 'val', 'test')]
    return {name: cfg[name] for name in names if cfg.get(name)}


def _unread_data_root(cfg: Config, root: str) -> Optional[str]:
    """``data_root`` is a variable of the config file: the data sets have
    its old value by then."""
    loaders = _loaders(cfg)
    read = [
        loader.get('dataset', {}).get('data_root')
        for loader in loaders.values()
    ]
    if root in read:
        return None
    keys = ' '.join(f'{name}.dataset.data_root={root}' for name in loaders)
    return (f'no data set reads it any more. Give {keys}, or a config that '
            'inherits and sets them')


def _allow_no_workers(cfg: Config) -> None:
    """``num_workers=0``, as for a debugger, without torch's complaint about
    settings that only workers have."""
    for loader in _loaders(cfg).values():
        if loader.get('num_workers') == 0:
            loader['persistent_workers'] = False
            loader.pop('prefetch_factor', None)


def run_to_exit_code(run: Callable[[], None]) -> int:
    """Call a function; turn the project's own errors into one line, and those
    of the system, of loader workers and of lost processes (:func:`explain`).

    Other exceptions are programming errors and keep their traceback. torchrun
    shows either in its report and ends the other processes.

    Returns:
        int: 0, 1 after an error, 75 for a run that a signal has ended.
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
