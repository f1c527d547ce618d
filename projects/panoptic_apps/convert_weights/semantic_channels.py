"""Output channels of a semantic head in the class order of each side.

mmdet   this project's labels: things, then stuff
mmseg   the order of mmseg's data set; train ids on Cityscapes

Only the classifier ``conv_seg`` knows about classes: weight (K, C, 1, 1) and
bias (K, ), one row for each class.
"""
from collections import OrderedDict
from typing import Callable, Dict, Mapping, Optional

import numpy as np
import torch
from torch import Tensor

from mmengine_exact.errors import CheckpointError
from panoptic_fpn import cityscapes

#: mmseg's class of each label, for data sets whose orders differ.
CLASS_ORDERS: Dict[str, Callable[[], np.ndarray]] = dict(
    cityscapes=cityscapes.train_ids)

#: Sides that weights can be brought to.
SIDES = ('mmseg', 'mmdet')

CLASSIFIER = ('conv_seg.weight', 'conv_seg.bias')


def channel_order(classes: Optional[str], to: str) -> Optional[np.ndarray]:
    """Rows of the classifier in the order of one side.

    Args:
        classes (str, optional): Key of ``CLASS_ORDERS``; None for a data set
            with one order on both sides.
        to (str): 'mmseg' or 'mmdet'.

    Returns:
        np.ndarray: int64 (K, ), so that ``weight[order]`` is in the order of
        ``to`` where ``weight`` is in that of the other side. None for None.
    """
    if classes is None:
        return None
    mmseg_of_label = CLASS_ORDERS[classes]()
    return mmseg_of_label if to == 'mmdet' else np.argsort(mmseg_of_label)


def reorder_channels(state_dict: Mapping[str, Tensor], prefix: str,
                     order: np.ndarray, source: str) -> Dict[str, Tensor]:
    """Rows of a classifier in another order.

    Args:
        state_dict (Mapping[str, Tensor]): Not changed.
        prefix (str): Of the head's keys, such as 'decode_head.'.
        order (np.ndarray): int64 (K, ), from :func:`channel_order`.
        source (str): File of the weights, for errors.

    Returns:
        dict[str, Tensor]: All entries; the rows of ``conv_seg`` permuted.

    Raises:
        CheckpointError: The classifier is missing or has not K rows.
    """
    result = OrderedDict(state_dict)
    for name in CLASSIFIER:
        key = prefix + name
        if key not in result:
            raise CheckpointError(
                f'{source}: no {key}. Give a checkpoint with the semantic '
                'head.')
        rows = len(result[key]) if result[key].dim() else 0
        if rows != len(order):
            raise CheckpointError(
                f'{source}: {key} has {rows} rows, the data set '
                f'{len(order)} classes. Give a head with one channel for '
                'each class (predict_things=True, no channel for '
                'background), or --classes same for another data set.')
        result[key] = result[key][torch.from_numpy(order)]
    return result
