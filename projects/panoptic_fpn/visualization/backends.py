"""Backends that ``visualizer.log_to`` adds: TensorBoard, Weights & Biases.

TensorBoard's is MMEngine's. That of W&B differs from MMEngine's in two ways:
curves and pictures have the training iteration as their axis, not the number
of calls; and code is archived only where ``log_code_name`` asks for it.
"""
from importlib.util import find_spec
from typing import Any, Optional, Sequence, Union

import numpy as np
from mmengine.config import Config
from mmengine.registry import VISBACKENDS
from mmengine.visualization import WandbVisBackend
from mmengine.visualization.vis_backend import force_init_env

from mmengine_exact.errors import InputError

#: Backends by the name that ``visualizer.log_to`` takes, which is also the
#: package's.
BACKENDS = dict(tensorboard='TensorboardVisBackend', wandb='WandbBackend')

#: Axis of everything that W&B draws.
STEP = 'iteration'


def backend_configs(log_to: Union[str, Sequence[str]]) -> list:
    """Configs of the backends that ``visualizer.log_to`` names.

    Raises:
        InputError: There is no such backend, or its package is missing.
    """
    names = dict.fromkeys([log_to] if isinstance(log_to, str) else log_to)
    for name in names:
        if name not in BACKENDS:
            raise InputError(
                f'visualizer.log_to={log_to!r}: {name!r} is unknown. Name '
                f'some of {", ".join(BACKENDS)}; give others as visualizer.'
                'vis_backends.')
        if find_spec(name) is None:
            raise InputError(
                f'visualizer.log_to={log_to!r}: the package {name} is '
                f'missing. Run `pip install {name}` (requirements/logging.txt '
                'has the tested version), or take it out of log_to.')
    return [dict(type=BACKENDS[name]) for name in names]


@VISBACKENDS.register_module()
class WandbBackend(WandbVisBackend):
    """Scalars, config and pictures at Weights & Biases, by iteration.

    Args:
        save_dir (str): Folder of the local files.
        log_code_name (str, optional): Also archive the code of the working
            directory under this name.
        **kwargs: As MMEngine's ``WandbVisBackend``, such as
            ``init_kwargs=dict(project='panoptic')``.
    """

    def _init_env(self) -> None:
        super()._init_env()
        self._wandb.define_metric(STEP)
        self._wandb.define_metric('*', step_metric=STEP)

    @force_init_env
    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Record the config; the code only with ``log_code_name``."""
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
        self.add_scalars({name: self._wandb.Image(image)}, step)

    def add_scalar(self,
                   name: str,
                   value: Any,
                   step: int = 0,
                   **kwargs: Any) -> None:
        """Record one number."""
        self.add_scalars({name: value}, step)

    @force_init_env
    def add_scalars(self,
                    scalar_dict: dict,
                    step: int = 0,
                    file_path: Optional[str] = None,
                    **kwargs: Any) -> None:
        """Record several numbers of one iteration."""
        self._wandb.log({**scalar_dict, STEP: int(step)}, commit=self._commit)
