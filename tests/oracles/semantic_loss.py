"""Oracle: the semantic loss at full resolution, all in memory at once.

In    logits (N, C, h, w), any float type; target (N, H, W), integers, channel
      of each pixel, negative where void
Out   scalar float32 (float64 for float64 logits): cross-entropy of the
      bilinearly upsampled logits, averaged over the labelled pixels
"""
import torch
import torch.nn.functional as F


def full_resolution_cross_entropy(logits, target, align_corners=False):
    """Upsample, then cross-entropy; 0 if no pixel is labelled."""
    if logits.dtype != torch.float64:
        logits = logits.float()
    logits = F.interpolate(
        logits,
        size=target.shape[-2:],
        mode='bilinear',
        align_corners=align_corners)
    labelled = target >= 0
    total = F.cross_entropy(
        logits,
        target.long().where(labelled, -1),
        ignore_index=-1,
        reduction='sum')
    return total / labelled.sum().clamp(min=1)
