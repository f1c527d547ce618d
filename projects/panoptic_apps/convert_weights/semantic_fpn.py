"""Semantic FPN between MMSegmentation and this project's detector.

mmseg   ``EncoderDecoder``: backbone, neck, decode_head (this project's
        ``SemanticFPNHead`` or mmseg's ``FPNHead``)
mmdet   ``TwoStagePanopticFPN``: backbone, neck, semantic_head and what has
        no counterpart (rpn_head, roi_head), which is left out and reported
"""
import re
from dataclasses import replace
from typing import Dict, Mapping

from mmseg.datasets import CityscapesDataset
from torch import Tensor

from panoptic_fpn import cityscapes

from .conversion import (Conversion, convert_weights, read_weights,
                         write_weights)
from .layouts import LAYOUTS

#: What a key says about the model that gets the weights: a pattern of keys,
#: and for each side what to set.
_SETTINGS = {
    r'backbone\.stem\.': dict(
        mmseg="model.backbone.type='ResNetV1c' and style='pytorch'",
        mmdet="model.backbone.deep_stem=True, style='pytorch' "
        "(type='ResNet') and init_cfg=None"),
    r'scale_heads\..*\.bn\.': dict(
        mmseg="model.decode_head.norm_cfg=dict(type='BN')",
        mmdet="model.semantic_head.norm_cfg=dict(type='BN')"),
}  # yapf: disable


def convert_semantic_fpn(weights: Mapping[str, Tensor],
                         to: str,
                         classes: str = 'cityscapes',
                         source: str = 'the checkpoint') -> Conversion:
    """Weights of one side for the other.

    Args:
        weights (Mapping[str, Tensor]): Not changed.
        to (str): 'mmseg' or 'mmdet': whose keys and class order to give.
        classes (str): 'cityscapes', or 'same' for a data set with one order
            of the classes on both sides.
        source (str): File of the weights, for errors.

    Raises:
        CheckpointError: There is no such head, or its classifier does not have
            one channel for each class; names file and key.
    """
    layout = LAYOUTS['mmseg']
    if classes == 'same':
        layout = replace(layout, order=None)
    result = convert_weights(weights, layout,
                             'ours' if to == 'mmdet' else 'theirs', source)
    result.advice = [
        f'The weights ask for {setting[to]}.'
        for pattern, setting in _SETTINGS.items() if any(
            re.search(pattern, key) for key in weights)
    ] + [
        'A checkpoint does not hold mean, std and channel order of '
        'model.data_preprocessor and model.backbone.style: copy them from its '
        'config.'
    ]
    return result


def convert_file(path: str,
                 out_path: str,
                 to: str,
                 classes: str = 'cityscapes') -> Conversion:
    """Read a checkpoint (local or an address), convert it by
    :func:`convert_semantic_fpn`, write weights and class names."""
    weights, _ = read_weights(path)
    result = convert_semantic_fpn(weights, to, classes, path)
    meta: Dict = {}
    if classes == 'cityscapes':
        meta['dataset_meta'] = (
            cityscapes.label_space().metainfo()
            if to == 'mmdet' else CityscapesDataset.METAINFO)
    write_weights(out_path, result.weights, meta, path)
    return result
