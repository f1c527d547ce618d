"""TensorBoard and Weights & Biases beside the log files.

MMEngine's backends, with three differences: a missing package is said when
the run is built, before data and model are; curves and pictures of W&B have
the training iteration as their axis, not the number of calls; and W&B's
archive of code is left to who asks for it.
"""
from importlib.util import find_spec
from typing import Any, Optional, Sequence, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import VISBACKENDS
from mmengine.visualization import TensorboardVisBackend, WandbVisBackend
from mmengine.visualization.vis_backend import force_init_env

from mmengine_exact.errors import InputError

#: Backends by the name that ``visualizer.log_to`` takes.
BACKENDS = dict(tensorboard='TensorboardBackend', wandb='WandbBackend')

#: Axis of everything that W&B draws.
STEP = 'iteration'

Number = Union[int, float, torch.Tensor, np.ndarray]


def require_package(name: str, backend: str) -> None:
    """Raise where a package cannot be imported.

    Args:
        name (str): To import and to install.
        backend (str): Who needs it, for the error.

    Raises:
        InputError: Names the command that installs it.
    """
    if find_spec(name) is None:
        raise InputError(
            f'{backend}: the package {name} is missing. Run `pip install '
            f'{name}` (requirements/logging.txt has the tested version), or '
            'take the backend out of visualizer.log_to and '
            'visualizer.vis_backends.')


def backend_configs(log_to: Union[str, Sequence[str]]) -> list:
    """Configs of the backends that ``visualizer.log_to`` names.

    Args:
        log_to (str | Sequence[str]): Of 'tensorboard' and 'wandb'.

    Raises:
        InputError: There is no such backend.
    """
    names = [log_to] if isinstance(log_to, str) else list(log_to)
    unknown = [name for name in names if name not in BACKENDS]
    if unknown:
        raise InputError(
            f'visualizer.log_to={log_to!r}: {unknown[0]!r} is unknown. Name '
            f'some of {", ".join(BACKENDS)}; give others as visualizer.'
            'vis_backends.')
    return [dict(type=BACKENDS[name]) for name in dict.fromkeys(names)]


@VISBACKENDS.register_module()
class TensorboardBackend(TensorboardVisBackend):
    """Scalars, config and pictures as TensorBoard's event files.

    Args:
        save_dir (str): Folder of the files.

    Raises:
        InputError: The package is missing.
    """

    def __init__(self, save_dir: str) -> None:
        require_package('tensorboard', type(self).__name__)
        super().__init__(save_dir)


@VISBACKENDS.register_module()
class WandbBackend(WandbVisBackend):
    """Scalars, config and pictures at Weights & Biases, by iteration.

    Args:
        save_dir (str): Folder of the local files.
        log_code_name (str, optional): Also archive the code of the working
            directory under this name.
        **kwargs: As MMEngine's ``WandbVisBackend``, such as
            ``init_kwargs=dict(project='panoptic')``.

    Raises:
        InputError: The package is missing.
    """

    def __init__(self,
                 save_dir: str,
                 log_code_name: Optional[str] = None,
                 **kwargs: Any) -> None:
        require_package('wandb', type(self).__name__)
        super().__init__(save_dir, log_code_name=log_code_name, **kwargs)

    def _init_env(self) -> None:
        super()._init_env()
        self._wandb.define_metric(STEP)
        self._wandb.define_metric('*', step_metric=STEP)

    @force_init_env
    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Record the config; the code only where it was asked for."""
        self._wandb.config.update(config.to_dict(), allow_val_change=True)
        if self._log_code_name is not None:
            self._wandb.run.log_code(name=self._log_code_name)

    @force_init_env
    def add_image(self,
                  name: str,
                  image: np.ndarray,
                  step: int = 0,
                  **kwargs: Any) -> None:
        """Record a picture, RGB uint8 (h, w, 3)."""
        self._log({name: self._wandb.Image(image)}, step)

    @force_init_env
    def add_scalar(self,
                   name: str,
                   value: Number,
                   step: int = 0,
                   **kwargs: Any) -> None:
        """Record one number."""
        self._log({name: value}, step)

    @force_init_env
    def add_scalars(self,
                    scalar_dict: dict,
                    step: int = 0,
                    file_path: Optional[str] = None,
                    **kwargs: Any) -> None:
        """Record several numbers of one iteration."""
        self._log(scalar_dict, step)

    def _log(self, values: dict, step: Any) -> None:
        self._wandb.log({**values, STEP: int(step)}, commit=self._commit)
