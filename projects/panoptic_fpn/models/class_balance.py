"""Class balance at test time: a posterior divided by a power of the prior.

The entry of Table 1b 'at test time balanced the class distribution'. A class's
probability p(c | x) becomes p(c | x) / f(c)**power, up to a factor that all
classes share; f(c) is the share of the class among the labelled pixels of the
training set. The paper gives no formula; this is Bayes' rule for classes that
are equally frequent (power 1) or nearly so.
"""
import json
import os.path as osp

import torch
from torch import Tensor

from mmengine_exact.errors import InputError
from mmengine_exact.files import read_bytes

#: What writes the file of frequencies.
_WRITE = 'python tools/class_frequencies.py CONFIG --out {}'


def log_prior(file: str, power: float, num_channels: int,
              predict_things: bool) -> Tensor:
    """``power * log f(c)`` of each channel: subtracted from the logits.

    A class without any training pixel counts as rare as the rarest that has
    some: nothing is known of it, and 1 / 0 would put it everywhere.

    Args:
        file (str): Written by ``tools/class_frequencies.py``.
        power (float): 0 for no balance, 1 for classes equally frequent.
        num_channels (int): K of the semantic head.
        predict_things (bool): Layout of its channels.

    Returns:
        Tensor: Float32 (K, ).

    Raises:
        InputError: The file is missing, is no such file or belongs to
            other classes.
    """
    content = _read(file)
    pixels = [entry['pixels'] for entry in content['classes']]
    if (len(pixels), content['predict_things']) != (num_channels,
                                                    predict_things):
        raise InputError(
            f'{file}: {len(pixels)} classes with predict_things='
            f'{content["predict_things"]}, but the semantic head has '
            f'{num_channels} channels with predict_things={predict_things}. '
            f'Count again: {_WRITE.format(file)}')
    counts = torch.tensor(pixels, dtype=torch.float64)
    counts = counts.clamp(min=counts[counts > 0].min())
    return (power * (counts / counts.sum()).log()).float()


def _read(file: str) -> dict:
    if not osp.isfile(file):
        raise InputError(
            f'{file}: no such file of class frequencies, which class_balance '
            f'divides by. Write it: {_WRITE.format(file)}')
    try:
        content = json.loads(read_bytes(file, 'class frequencies', None))
        [entry['pixels'] + 0 for entry in content['classes']]
        content['predict_things']
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f'{file}: no class frequencies ({type(error).__name__}: {error}). '
            f'Write it again: {_WRITE.format(file)}') from None
    return content
