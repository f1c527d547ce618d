"""Semantic branch of Panoptic FPN (section 3.1, Figure 3).

In    feats[i]  (N, C, H / 2**(i+2), W / 2**(i+2)), i = 0..3  (P2..P5)
Out   logits    (N, K, H/4, W/4)
K     num_stuff + 1, last channel = 'other' (any thing), as on COCO; or
      num_things + num_stuff, in label order, as on Cityscapes (section 4.1)
H, W  padded batch size in pixels, multiples of 32
"""
from math import log2
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import Upsample
from torch import Tensor, nn

from ..labels import channel_labels, semantic_channels
from ..ops.upsampled_argmax import Step, resize, upsampled_argmax
from .class_balance import log_prior
from .semantic_loss import semantic_cross_entropy


class SemanticBranch(BaseDecodeHead):
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
        **kwargs: Further arguments of mmseg's ``BaseDecodeHead``.
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
        kwargs.setdefault('in_index', tuple(range(len(in_channels))))
        kwargs.setdefault('dropout_ratio', 0)
        # No loss of mmseg's: it averages over all pixels at mmdet's scope and
        # knows no 'other'.
        kwargs.setdefault('loss_decode', [])
        super().__init__(
            input_transform='multiple_select',
            in_channels=tuple(in_channels),
            channels=channels,
            num_classes=num_channels,
            out_channels=num_channels,
            norm_cfg=norm_cfg,
            **kwargs)
        self.feature_strides = tuple(feature_strides)
        self.aggregation = aggregation
        self.scale_heads = nn.ModuleList()
        for width, stride in zip(in_channels, feature_strides, strict=True):
            upsamplings = int(log2(stride / feature_strides[0]))
            layers: List[nn.Module] = []
            for _ in range(max(upsamplings, 1)):
                for _ in range(convs_per_stage):
                    layers.append(
                        ConvModule(
                            width,
                            channels,
                            3,
                            padding=1,
                            conv_cfg=self.conv_cfg,
                            norm_cfg=norm_cfg,
                            act_cfg=self.act_cfg))
                    width = channels
                if upsamplings:
                    layers.append(
                        Upsample(
                            scale_factor=2,
                            mode='bilinear',
                            align_corners=self.align_corners))
            self.scale_heads.append(nn.Sequential(*layers))
        width = dict(sum=1, concat=len(in_channels))[aggregation] * channels
        if width > channels:
            self.conv_seg = nn.Conv2d(width, num_channels, 1)

    def forward(self, feats: Tuple[Tensor, ...]) -> Tensor:
        """FPN levels to logits at the finest stride; shapes above."""
        feats = self._transform_inputs(feats)
        joined = self.scale_heads[0](feats[0])
        for head, feat in zip(self.scale_heads[1:], feats[1:]):
            level = self._resize(head(feat), joined.shape[2:])
            if self.aggregation == 'sum':
                joined = joined + level
            else:
                joined = torch.cat([joined, level], dim=1)
        return self.cls_seg(joined)

    def _resize(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        return F.interpolate(
            maps, size, mode='bilinear', align_corners=self.align_corners)


@MODELS.register_module()
class SemanticFPNHead(SemanticBranch):
    """The branch in a detector, with labels, loss and prediction.

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
        classes = (num_things_classes, num_stuff_classes, predict_things)
        super().__init__(len(channel_labels(*classes)), **kwargs)
        self.num_things_classes = num_things_classes
        self.num_stuff_classes = num_stuff_classes
        self.predict_things = predict_things
        # one more entry for void: IGNORE_LABEL = -1 reads the last one
        self.register_buffer(
            'label_channels',
            torch.from_numpy(np.append(semantic_channels(*classes), -1)),
            persistent=False)
        self.register_buffer('log_prior', None, persistent=False)
        if class_balance is not None:
            self.balance_classes(**class_balance)

    def balance_classes(self, file: str, power: float = 1.0) -> None:
        """Divide predicted probabilities by a power of class frequencies;
        see :func:`class_balance.log_prior`. Loss and weights stay."""
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
        2.6 GB. :meth:`predict_channels` gives their argmax without them.

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
    """Steps from the branch's output to the image without padding."""
    shape = tuple(meta['img_shape'][:2])
    steps = [(tuple(meta['batch_input_shape']), shape)]
    if rescale:
        original = tuple(meta['ori_shape'][:2])
        steps.append((original, original))
    return steps
