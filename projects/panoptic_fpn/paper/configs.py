"""What the planner has to know of a config file."""
from functools import lru_cache
from pathlib import Path
from typing import Optional, Tuple

from mmengine.config import Config

from ..engine.auto_scale import (batch_size_warning, enable_auto_scale,
                                 scale_to_batch)
from .errors import PaperError

#: lambda_i, lambda_s
Weights = Tuple[float, float]


@lru_cache(maxsize=None)
def load(path: Path) -> Config:
    """A config file, without what it imports; read-only.

    Raises:
        PaperError: It cannot be read.
    """
    try:
        return Config.fromfile(path, import_custom_modules=False)
    except (OSError, SyntaxError, KeyError, AttributeError) as error:
        raise PaperError(f'{path}: cannot be read ({error}).') from None


def schedule(path: Path, processes: int) -> Tuple[int, bool]:
    """Iterations of a training with a number of processes.

    Returns:
        tuple[int, bool]: ``max_iters``, and whether ``--auto-scale-lr`` is
        needed, as for another batch than the schedule's.
    """
    cfg = load(path)
    scaled = batch_size_warning(cfg, processes) is not None
    if scaled:
        cfg = Config(cfg.to_dict())
        enable_auto_scale(cfg)
        cfg = scale_to_batch(cfg, processes)
    return cfg.train_cfg.max_iters, scaled


def loss_weights(path: Path) -> Optional[Weights]:
    """(lambda_i, lambda_s) of a config; None where it has none."""
    weights = load(path).model.get('loss_weights')
    return weights and (float(weights['instance']), float(weights['semantic']))


def equal_but_weights(first: Path, second: Path) -> bool:
    """Whether two configs differ at most in the weights of the losses."""
    return _without_weights(first) == _without_weights(second)


@lru_cache(maxsize=None)
def _without_weights(path: Path) -> dict:
    content = load(path).to_dict()
    content['model'] = dict(content['model'], loss_weights=None)
    return content


def frequencies_file(path: Path) -> Path:
    """The file of class frequencies that a config's evaluation reads.

    Raises:
        PaperError: It names none.
    """
    balance = load(path).get('tta_model', {}).get('class_balance', {})
    if 'file' not in balance:
        raise PaperError(f'{path}: tta_model.class_balance.file is not set, '
                         'but the row of the table is evaluated with --tta.')
    return Path(balance['file'])
