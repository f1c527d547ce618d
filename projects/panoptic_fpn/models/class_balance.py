"""Class balance at test time: a posterior divided by a power of the prior.

The entry of Table 1b 'at test time balanced the class distribution'. A class's
probability p(c | x) becomes p(c | x) / f(c)**power, up to a factor that all
classes share; f(c) is the share of the class among the labelled pixels of the
training set. The paper gives no formula; this is Bayes' rule for classes that
are equally frequent (power 1) or nearly so.
"""
import json
from pathlib import Path

import torch
from torch import Tensor

from mmengine_exact.errors import InputError


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
        InputError: The file is missing, malformed or belongs to other
            classes.
    """
    expected = f'{num_channels} classes with predict_things={predict_things}'
    try:
        content = json.loads(Path(file).read_bytes())
        counts = torch.tensor([c['pixels'] for c in content['classes']],
                              dtype=torch.float64)
        found = (f'{len(counts)} classes with predict_things='
                 f'{content["predict_things"]}')
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = f'no class frequencies ({type(error).__name__}: {error})'
    if found != expected:
        raise InputError(
            f'{file}: {found}, but the semantic head has {expected}. Write it '
            f'again: python tools/class_frequencies.py CONFIG --out {file}')
    counts = counts.clamp(min=counts[counts > 0].min())
    return (power * (counts / counts.sum()).log()).float()
