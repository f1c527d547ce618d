"""Random weights whose outputs are as far apart as trained ones'."""
import torch
from torch import nn

from panoptic_fpn.inference import inference_panoptic


@torch.no_grad()
def spread(model, image, deviation=3.0):
    """Scale the last layers, so that their outputs on an image have a given
    standard deviation: neither equal nor saturated scores, whose order would
    be a matter of rounding.

    Args:
        model (nn.Module): Is changed.
        image (np.ndarray): BGR uint8 (h, w, 3).
        deviation (float): Of logits; deltas of boxes get a tenth.
    """
    layers = {}
    if model.with_roi_head:
        box, mask = model.roi_head.bbox_head, model.roi_head.mask_head
        layers.update({
            model.rpn_head.rpn_cls: deviation,
            model.rpn_head.rpn_reg: deviation / 10,
            box.fc_cls: deviation,
            box.fc_reg: deviation / 3,
            mask.conv_logits: deviation
        })
    if model.with_semantic_head:
        layers[model.semantic_head.conv_seg] = deviation
    handles = [
        layer.register_forward_hook(_scale_to(target))
        for layer, target in layers.items()
    ]
    list(inference_panoptic(model, [image]))
    for handle in handles:
        handle.remove()


def _scale_to(target):
    done = []

    def hook(layer: nn.Module, _, output):
        if done:
            return None
        done.append(layer)
        factor = target / output.std()
        for parameter in layer.parameters():
            parameter.mul_(factor)
        return output * factor

    return hook
