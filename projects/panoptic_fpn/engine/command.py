"""What the training and testing tools share."""
import sys
from typing import Callable

import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.dist import get_rank, is_distributed

from ..errors import PanopticError
from .errors import EngineError


def run_to_exit_code(run: Callable[[], None]) -> int:
    """Call a function; turn the project's own errors into one line.

    Other exceptions are programming errors and keep their traceback.

    Returns:
        int: 0, or 1 after a :class:`PanopticError`.
    """
    try:
        run()
    except PanopticError as error:
        prefix = f'[rank {get_rank()}] ' if is_distributed() else ''
        print(f'{prefix}error: {one_line(error)}', file=sys.stderr)
        return 1
    finally:
        if is_distributed() and sys.exc_info()[0] is None:
            torch_dist.destroy_process_group()
    return 0


def one_line(error: Exception) -> str:
    """The message; of an error in a loader worker, without its traceback."""
    text = str(error).strip()
    if 'Original Traceback' not in text:
        return text
    last = text.splitlines()[-1]
    name = type(error).__name__
    return last.split(f'{name}: ', 1)[-1]


def draw_test_pictures(cfg: Config, folder: str) -> None:
    """What ``--show-dir`` means: pictures of a test go to ``folder``.

    Raises:
        EngineError: The config has no hook that draws.
    """
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise EngineError(
            f'--show-dir: {cfg.filename} has no default_hooks.visualization. '
            "Add dict(type='PanopticVisualizationHook').")
    hook['draw'] = True
    hook['test_out_dir'] = folder
