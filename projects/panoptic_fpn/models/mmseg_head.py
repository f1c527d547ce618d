"""The semantic branch as a decode head of MMSegmentation.

In    inputs[i]  (N, C, H / 2**(i+2), W / 2**(i+2)), i = 0..3  (P2..P5)
Out   logits     (N, K, H/4, W/4); ``predict``: (N, K, H, W)
K     num_classes, in the order of mmseg's data set (train ids on Cityscapes)
H, W  padded batch size in pixels; of a window in slide mode

Parameters, their names and the mathematics are those of
:class:`SemanticFPNHead`; ``tools/model_converters/semantic_fpn.py`` converts
weights between the two and their class orders.
"""
from typing import Any, Dict, List

import torch
from mmseg.registry import MODELS
from mmseg.utils import SampleList
from torch import Tensor

from .semantic_fpn_head import SemanticBranch
from .semantic_loss import semantic_cross_entropy


@MODELS.register_module(name='SemanticFPNHead')
class SemanticFPNDecodeHead(SemanticBranch):
    """``SemanticFPNHead`` for mmseg's ``EncoderDecoder``.

    Unlike mmseg's ``FPNHead`` it has group norm, no dropout, and a loss that
    is averaged over the labelled pixels alone (section 3.2).

    Args:
        num_classes (int): K, at least 2.
        **kwargs: Further arguments of :class:`SemanticBranch`.
            ``loss_decode`` (with it ``sampler``) replaces the loss of the
            paper with losses of mmseg.
    """

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(num_classes, **kwargs)

    def loss_by_feat(self, seg_logits: Tensor,
                     batch_data_samples: SampleList) -> Dict[str, Tensor]:
        """Loss of logits (N, K, H/4, W/4), where mmseg's base asks for it.

        Returns:
            dict[str, Tensor]: ``loss_seg`` and ``acc_seg``, the percentage
            of labelled pixels that are right; or what mmseg's losses give.
        """
        if self.loss_decode or self.sampler:
            return super().loss_by_feat(seg_logits, batch_data_samples)
        labels = self._stack_batch_gt(batch_data_samples).squeeze(1).long()
        target = labels.where(labels != self.ignore_index, -1)
        return dict(
            loss_seg=semantic_cross_entropy(seg_logits, target,
                                            self.align_corners),
            acc_seg=self._accuracy(seg_logits, target))

    @torch.no_grad()
    def _accuracy(self, logits: Tensor, target: Tensor) -> Tensor:
        """Percentage of labelled pixels; image by image to save memory."""
        right = [(self._resize(single[None],
                               truth.shape).argmax(1) == truth).sum()
                 for single, truth in zip(logits.float(), target)]
        labelled = (target >= 0).sum().clamp(min=1)
        return 100 * torch.stack(right).sum() / labelled

    def predict_by_feat(self, seg_logits: Tensor,
                        batch_img_metas: List[dict]) -> Tensor:
        """Float32 logits at the size of the network's input, (N, K, H, W)."""
        return super().predict_by_feat(seg_logits.float(), batch_img_metas)
