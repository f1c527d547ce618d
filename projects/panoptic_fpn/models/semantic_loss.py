"""Semantic loss Ls of the paper, section 3.2.

In    logits    (N, C, h, w), any float type, at the stride of the head
      target    (N, H, W), integers; channel of each pixel, negative where void
Out   scalar float32 (float64 for float64 logits)
H, W  padded batch size in pixels
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops import use_fast
from ..ops.tiled_cross_entropy import tiled_cross_entropy


def semantic_cross_entropy(logits: Tensor,
                           target: Tensor,
                           align_corners: bool = False) -> Tensor:
    """Cross-entropy of the bilinearly upsampled logits.

    'A per-pixel cross entropy loss between the predicted and the ground-truth
    labels, normalized by the number of labeled image pixels' (section 3.2).
    Float32 also under mixed precision: a sum over 10^6 pixels does not fit
    half precision.

    Returns:
        Tensor: Scalar; 0 with a gradient of zeros if no pixel is labelled.
    """
    if logits.dtype != torch.float64:
        logits = logits.float()
    # autocast would take products to half precision
    with torch.autocast(logits.device.type, enabled=False):
        if use_fast():  # for its memory, so on every device
            return tiled_cross_entropy(logits, target, align_corners)
        logits = F.interpolate(
            logits,
            target.shape[1:],
            mode='bilinear',
            align_corners=align_corners)
        total = F.cross_entropy(
            logits,
            target.long().clamp(min=-1),
            ignore_index=-1,
            reduction='sum')
        return total / (target >= 0).sum().clamp(min=1)
