"""Weights that a part of a model begins with, read with protection on."""
from mmengine.model import PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from .checkpoint_io import read_checkpoint
from .checkpoint_match import unusable
from .errors import CheckpointError


@WEIGHT_INITIALIZERS.register_module(name='Pretrained', force=True)
class CheckedPretrainedInit(PretrainedInit):
    """``init_cfg=dict(type='Pretrained')``, in the place of MMEngine's.

    Arguments are the same. A file that is damaged, or of another
    architecture, is refused; MMEngine's logs the names and trains from
    scratch.
    """

    def __call__(self, module: nn.Module) -> None:
        """Raises:
            CheckpointError: The file cannot be read, or fills less than half
                of the module.
        """
        weights = read_checkpoint(self.checkpoint,
                                  self.map_location)['state_dict']
        weights = {
            key.removeprefix('module.'): value
            for key, value in weights.items()
        }
        prefix = self.prefix or ''
        if prefix and not prefix.endswith('.'):
            prefix += '.'
        weights = {
            key[len(prefix):]: value
            for key, value in weights.items() if key.startswith(prefix)
        }
        self._require_fit(module, weights)
        load_state_dict(module, weights, strict=False, logger='current')
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())

    def _require_fit(self, module: nn.Module, weights: dict) -> None:
        own = {
            key: value
            for key, value in module.state_dict().items()
            if not key.endswith('num_batches_tracked')
        }
        fitting = [
            key for key in own
            if key in weights and weights[key].shape == own[key].shape
        ]
        if 2 * len(fitting) < len(own):
            raise CheckpointError(
                f'Pretrained weights {self.checkpoint} fill {len(fitting)} of '
                f'{len(own)} tensors of {type(module).__name__} (its first: '
                f'{next(iter(own))}; of the file: '
                f'{next(iter(weights), "none")}). Set init_cfg to weights of '
                'this architecture, with prefix= where they are those of a '
                'whole model, or to None.')
        for key in fitting:
            problem = unusable(weights[key], own[key])
            if problem:
                raise CheckpointError(
                    f'Pretrained weights {self.checkpoint}: {key} {problem}. '
                    'Copy or download it again.')
