"""What the training and testing tools share."""
import os.path as osp
import sys
from typing import Callable, Dict, Optional

import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.dist import get_rank, is_distributed
from mmengine.registry import RUNNERS

from .building import print_traceback, unregistered
from .config_file import read_config
from .config_values import require_values
from .errors import ConfigError, RunError
from .failures import explain
from .peers import stop_watching, tell_peers


def tool_config(path: str, launcher: str, cfg_options: Optional[dict],
                work_dir: Optional[str]) -> Config:
    """The config of a tool's command line.

    Args:
        path (str): The config file.
        launcher (str): What starts the processes.
        cfg_options (dict, optional): Keys to override.
        work_dir (str, optional): By default the config's, or else
            ``work_dirs/NAME_OF_THE_CONFIG``.

    Raises:
        ConfigError: The file, or an option, cannot be read or used; or
            ``runner_type`` names no runner.
        RunError: ``data_root`` is overridden where nothing reads it.
    """
    cfg = read_config(path, cfg_options)
    require_values(cfg)
    cfg.launcher = launcher
    if cfg_options:
        _check_data_root(cfg, cfg_options)
    _allow_no_workers(cfg)
    if work_dir:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        stem = osp.splitext(osp.basename(path))[0]
        cfg.work_dir = osp.join('work_dirs', stem)
    if cfg.get('runner_type') is None:
        cfg.runner_type = 'ExactRunner'
    _require_runner(cfg)
    return cfg


def _require_runner(cfg: Config) -> None:
    """Raises:
        ConfigError: ``runner_type`` names no runner.
    """
    kind = cfg.runner_type
    try:
        found = RUNNERS.get(kind) if isinstance(kind, str) else kind
    except RuntimeError:  # of a text that can be no name
        found = None
    if not hasattr(found, 'from_cfg'):
        raise ConfigError(f'{cfg.filename}: '
                          f'{unregistered("runner_type", kind, RUNNERS)}.')


def _loaders(cfg: Config) -> Dict[str, dict]:
    names = [f'{split}_dataloader' for split in ('train', 'val', 'test')]
    return {name: cfg[name] for name in names if cfg.get(name)}


def _check_data_root(cfg: Config, cfg_options: dict) -> None:
    """``data_root`` is a variable of the config file: the data sets have
    its old value by then."""
    root = cfg_options.get('data_root')
    read = [
        loader.get('dataset', {}).get('data_root')
        for loader in _loaders(cfg).values()
    ]
    if root is not None and root not in read:
        keys = [f'{name}.dataset.data_root={root}' for name in _loaders(cfg)]
        raise RunError(f'--cfg-options data_root={root}: no data set reads '
                       f'it any more. Give {" ".join(keys)}, or a config '
                       'that inherits and sets them.')


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

    Other exceptions are programming errors and keep their traceback. The
    other processes of a run are told why this one ends.

    Returns:
        int: 0, 1 after an error, 75 for a run that was told to end.
    """
    try:
        run()
    except Exception as error:
        text = explain(error)
        code = getattr(error, 'exit_code', 1)
        if code == 1:
            tell_peers(text or f'{type(error).__name__}: {error}')
        else:
            stop_watching()
        if text is None:
            raise
        print_traceback(error)
        prefix = f'[rank {get_rank()}] ' if is_distributed() else ''
        print(f'{prefix}error: {text}', file=sys.stderr, flush=True)
        return code
    finally:
        if is_distributed() and sys.exc_info()[0] is None:
            torch_dist.destroy_process_group()
    stop_watching()
    return 0
