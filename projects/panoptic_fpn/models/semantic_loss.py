"""Semantic loss Ls of the paper, section 3.2.

In    logits    (N, C, h, w), any float type, at the stride of the head
      target    (N, H, W), integers; channel of each pixel, negative where void
Out   scalar float32: cross-entropy of the bilinearly upsampled logits,
      averaged over the labelled pixels of the batch
H, W  padded batch size in pixels
"""
import torch.nn.functional as F
from torch import Tensor


def semantic_cross_entropy(logits: Tensor,
                           target: Tensor,
                           align_corners: bool = False) -> Tensor:
    """Per-pixel cross-entropy at full resolution over labelled pixels.

    'A per-pixel cross entropy loss between the predicted and the ground-truth
    labels, normalized by the number of labeled image pixels' (section 3.2).
    Float32 also under mixed precision: a sum over 10^6 pixels does not fit
    half precision.

    Args:
        logits (Tensor): (N, C, h, w).
        target (Tensor): (N, H, W), channel of each pixel, negative for void
            and padding.
        align_corners (bool): Of the bilinear upsampling.

    Returns:
        Tensor: Scalar; 0 with a gradient of zeros if no pixel is labelled.
    """
    logits = F.interpolate(
        logits.float(),
        size=target.shape[-2:],
        mode='bilinear',
        align_corners=align_corners)
    labelled = target >= 0
    total = F.cross_entropy(
        logits, target.where(labelled, -1), ignore_index=-1, reduction='sum')
    # clamp: an all-void batch gives 0 / 1, not 0 / 0
    return total / labelled.sum().clamp(min=1)
