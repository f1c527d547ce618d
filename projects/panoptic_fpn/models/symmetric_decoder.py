"""Decoder that mirrors a ResNet: Figure 5c of the paper.

In    feats[i]  (N, C_i, H / 2**(i+2), W / 2**(i+2)), i = 0..3  (C2..C5)
Out   the same shapes, finest first; the first is what Figure 4 calls 1/4
C_i   base_channels * 2**i * expansion: 256, 512, 1024, 2048 from ResNet-50 on
"""
from typing import List, Tuple

import torch
import torch.nn.functional as F
from mmdet.models.backbones import ResNet
from mmdet.models.backbones.resnet import Bottleneck
from mmdet.models.layers import ResLayer
from mmdet.registry import MODELS
from mmdet.utils import OptMultiConfig
from mmengine.model import BaseModule, ModuleList
from torch import Tensor


@MODELS.register_module()
class SymmetricDecoder(BaseModule):
    """'Mirrors the bottom-up pathway, but in reverse' (Figure 5c).

    Each stage of the encoder has one of the decoder with the same blocks,
    number of blocks, channels and resolution; the coarsest goes first. Before
    each next stage the map is upsampled and joined with the encoder's.

    The paper says no more. Chosen here:

    - the coarsest stage is mirrored too, as FPN has a block there (Figure 5d);
      the stem is not, the output is at stride 4 like FPN's;
    - lateral connections concatenate, as in U-Net, which the figure cites;
      the first block of a stage then takes 3 C_i channels and has the
      projection shortcut that ResNet has where channels change;
    - upsampling is nearest, as FPN's: no further convolution;
    - group norm, as in the other parts that are trained from scratch.

    Args:
        depth (int): Depth of the encoder: 18, 34, 50, 101 or 152.
        base_channels (int): Base channels of the encoder.
        norm_cfg (dict): Normalization of the convolutions.
        init_cfg (dict | list[dict], optional): By default that of ResNet.
    """

    def __init__(
        self,
        depth: int,
        base_channels: int = 64,
        norm_cfg: dict = dict(type='GN', num_groups=32),
        init_cfg: OptMultiConfig = (dict(type='Kaiming', layer='Conv2d'),
                                    dict(
                                        type='Constant',
                                        val=1,
                                        layer=['_BatchNorm', 'GroupNorm']))
    ) -> None:
        super().__init__(init_cfg and list(init_cfg))
        block, num_blocks = ResNet.arch_settings[depth]
        # a block starts as its shortcut, as in mmdet's ResNet
        last_norm = 'norm3' if block is Bottleneck else 'norm2'
        shortcut = dict(type='Constant', val=0, override=dict(name=last_norm))
        self.stages = ModuleList()
        for i, number in enumerate(num_blocks):
            planes = base_channels * 2**i
            channels = planes * block.expansion
            coarsest = i == len(num_blocks) - 1
            self.stages.append(
                ResLayer(
                    block,
                    inplanes=channels if coarsest else 3 * channels,
                    planes=planes,
                    num_blocks=number,
                    norm_cfg=norm_cfg,
                    init_cfg=shortcut))

    def forward(self, feats: Tuple[Tensor, ...]) -> Tuple[Tensor, ...]:
        """Encoder's maps to the decoder's; shapes above."""
        outs: List[Tensor] = []
        for stage, lateral in zip(
                reversed(self.stages), reversed(feats), strict=True):
            if outs:
                above = F.interpolate(outs[-1], lateral.shape[-2:])
                lateral = torch.cat([above, lateral], dim=1)
            outs.append(stage(lateral))
        return tuple(reversed(outs))
