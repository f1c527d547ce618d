"""Semantic branch of Panoptic FPN (section 3.1, Figure 3).

In    feats[i]  (N, C, H / 2**(i+2), W / 2**(i+2)), i = 0..3  (P2..P5)
Out   logits    (N, K, H/4, W/4)
K     num_stuff + 1, last channel = 'other' (any thing), as on COCO; or
      num_things + num_stuff, in label order, as on Cityscapes (section 4.1)
H, W  padded batch size in pixels, multiples of 32
"""
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmseg.models.decode_heads import FPNHead
from torch import Tensor, nn

from ..labels import channel_labels, semantic_channels
from ..ops.upsampled_argmax import Step, resize, upsampled_argmax
from .class_balance import log_prior
from .semantic_loss import semantic_cross_entropy


class SemanticBranch(FPNHead):
    """The branch itself: parameters and forward pass, without labels.

    Each level goes through stages of 3x3 convolution, group norm, ReLU and
    2x bilinear upsampling until it is at stride 4; the levels are summed and
    a 1x1 convolution gives the logits (Figure 3).

    Args:
        num_channels (int): K.
        in_channels (Sequence[int]): Channels of the FPN levels.
        channels (int): Width of the branch. Table 1c.
        feature_strides (Sequence[int]): Strides of the levels, finest first.
        aggregation (str): 'sum' or 'concat' of the levels. Table 1d.
        convs_per_stage (int): 3x3 convolutions before each upsampling; the
            entry of Table 1b had two.
        norm_cfg (dict): Normalization of the convolutions.
        **kwargs: Further arguments of mmseg's ``FPNHead``.
    """

    def __init__(self,
                 num_channels: int,
                 in_channels: Sequence[int] = (256, 256, 256, 256),
                 channels: int = 128,
                 feature_strides: Sequence[int] = (4, 8, 16, 32),
                 aggregation: str = 'sum',
                 convs_per_stage: int = 1,
                 norm_cfg: dict = dict(type='GN', num_groups=32),
                 **kwargs: Any) -> None:
        if aggregation not in ('sum', 'concat'):
            raise ValueError("aggregation of the semantic head must be 'sum' "
                             f"or 'concat', not {aggregation!r}.")
        kwargs.setdefault('in_index', tuple(range(len(in_channels))))
        kwargs.setdefault('dropout_ratio', 0)
        # No loss of mmseg's: it averages over all pixels at mmdet's scope and
        # knows no 'other'.
        kwargs.setdefault('loss_decode', [])
        super().__init__(
            tuple(feature_strides),
            in_channels=tuple(in_channels),
            channels=channels,
            num_classes=num_channels,
            out_channels=num_channels,
            norm_cfg=norm_cfg,
            **kwargs)
        self.aggregation = aggregation
        if convs_per_stage > 1:
            self._deepen(convs_per_stage)
        if aggregation == 'concat':
            self.conv_seg = nn.Conv2d(channels * len(in_channels),
                                      self.num_classes, 1)

    def _deepen(self, convs_per_stage: int) -> None:
        """Follow each 3x3 convolution with ``convs_per_stage - 1`` more."""
        for i, stages in enumerate(self.scale_heads):
            layers = []
            for layer in stages:
                layers.append(layer)
                if isinstance(layer, ConvModule):
                    layers += [
                        ConvModule(
                            self.channels,
                            self.channels,
                            3,
                            padding=1,
                            conv_cfg=self.conv_cfg,
                            norm_cfg=self.norm_cfg,
                            act_cfg=self.act_cfg)
                        for _ in range(convs_per_stage - 1)
                    ]
            self.scale_heads[i] = nn.Sequential(*layers)

    def forward(self, feats: Tuple[Tensor, ...]) -> Tensor:
        """FPN levels to logits at the finest stride; shapes above."""
        if self.aggregation == 'sum':
            return super().forward(feats)
        feats = self._transform_inputs(feats)
        levels = [head(feat) for head, feat in zip(self.scale_heads, feats)]
        size = levels[0].shape[-2:]
        return self.cls_seg(
            torch.cat([
                level if level.shape[-2:] == size else F.interpolate(
                    level,
                    size,
                    mode='bilinear',
                    align_corners=self.align_corners) for level in levels
            ],
                      dim=1))

    def _resize(self, logits: Tensor, size: Tuple[int, int]) -> Tensor:
        return F.interpolate(
            logits[None],
            size=size,
            mode='bilinear',
            align_corners=self.align_corners)[0]


@MODELS.register_module()
class SemanticFPNHead(SemanticBranch):
    """Light semantic branch on FPN features; mmseg's ``FPNHead`` for mmdet.

    Args:
        num_things_classes (int): T.
        num_stuff_classes (int): S.
        predict_things (bool): One channel for each thing class (Cityscapes)
            instead of one 'other' channel for all (COCO). Section 4.1.
        class_balance (dict, optional): ``file`` and ``power`` of
            :meth:`balance_classes`. Table 1b.
        **kwargs: Further arguments of :class:`SemanticBranch`.
    """

    def __init__(self,
                 num_things_classes: int = 80,
                 num_stuff_classes: int = 53,
                 predict_things: bool = False,
                 class_balance: Optional[dict] = None,
                 **kwargs: Any) -> None:
        label_channels = semantic_channels(num_things_classes,
                                           num_stuff_classes, predict_things)
        painted = channel_labels(num_things_classes, num_stuff_classes,
                                 predict_things)
        super().__init__(len(painted), **kwargs)
        self.num_things_classes = num_things_classes
        self.num_stuff_classes = num_stuff_classes
        self.predict_things = predict_things
        # one entry more for void: IGNORE_LABEL = -1 reads the last one
        self.register_buffer(
            'label_channels',
            torch.from_numpy(np.append(label_channels, -1)),
            persistent=False)
        self.register_buffer('log_prior', None, persistent=False)
        if class_balance is not None:
            self.balance_classes(**class_balance)

    def balance_classes(self, file: str, power: float = 1.0) -> None:
        """Divide predicted probabilities by a power of class frequencies.

        The loss and the weights stay as they are.

        Args:
            file (str): Written by ``tools/class_frequencies.py``.
            power (float): 0 for no balance, 1 for equally frequent classes.

        Raises:
            InputError: See ``class_balance.log_prior``.
        """
        self.log_prior = log_prior(file, power, self.num_classes,
                                   self.predict_things)

    def loss(self, feats: Tuple[Tensor, ...],
             batch_data_samples: SampleList) -> Dict[str, Tensor]:
        """Semantic loss of a batch, not yet weighted with lambda_s.

        Args:
            feats (tuple[Tensor]): FPN levels.
            batch_data_samples (list[:obj:`DetDataSample`]): With
                ``gt_sem_seg.sem_seg`` (1, H, W): labels, -1 for void and
                padding.

        Returns:
            dict[str, Tensor]: ``loss_seg``, a scalar.
        """
        labels = torch.cat(
            [sample.gt_sem_seg.sem_seg for sample in batch_data_samples])
        target = self.label_channels[labels.long()]
        return dict(
            loss_seg=semantic_cross_entropy(
                self(feats), target, self.align_corners))

    def predict(self,
                feats: Tuple[Tensor, ...],
                batch_img_metas: List[dict],
                rescale: bool = True) -> Iterator[Tensor]:
        """Logits of each image of a batch, at image resolution.

        One image at a time: those of a photograph of 12 megapixels take
        2.6 GB. Where their ``argmax`` is all that is wanted,
        :meth:`predict_channels` gives it without them.

        Args:
            feats (tuple[Tensor]): FPN levels.
            batch_img_metas (list[dict]): With ``batch_input_shape``,
                ``img_shape`` and ``ori_shape``, all (h, w).
            rescale (bool): To the original image instead of the network's
                input.

        Yields:
            Tensor: Float32 logits (K, h, w).
        """
        for logits, meta in zip(self._balanced(feats), batch_img_metas):
            yield resize(logits, _steps(meta, rescale), self.align_corners)

    def predict_channels(self,
                         feats: Tuple[Tensor, ...],
                         batch_img_metas: List[dict],
                         rescale: bool = True) -> List[Tensor]:
        """``argmax`` of what :meth:`predict` yields: int64 (h, w) each."""
        return [
            upsampled_argmax(logits, _steps(meta, rescale), self.align_corners)
            for logits, meta in zip(self._balanced(feats), batch_img_metas)
        ]

    def _balanced(self, feats: Tuple[Tensor, ...]) -> Tensor:
        """Logits (N, K, H/4, W/4) of balanced classes, for prediction."""
        # contiguous: interpolation rounds otherwise where channels are last
        logits = self(feats).float().contiguous()
        if self.log_prior is not None:
            logits = logits - self.log_prior[:, None, None]
        return logits


def _steps(meta: dict, rescale: bool) -> List[Step]:
    """From the semantic branch's output to the image, its padding cut off."""
    shape = tuple(meta['img_shape'][:2])
    steps = [(tuple(meta['batch_input_shape']), shape)]
    if rescale:
        original = tuple(meta['ori_shape'][:2])
        steps.append((original, original))
    return steps
