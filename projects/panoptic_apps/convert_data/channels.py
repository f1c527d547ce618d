"""Classes and instances in channels of label maps.

    class=R instance=GB crowd=G2 void=G1

R holds the class, 256 * G + B the number of the instance, 0 where there is
none. Of pixels whose G has the bit of value 2, no instance is known; those
with the bit of value 1 mean nothing. L is the channel of maps that have but
one. Without ``class`` and without a second folder all instances are of one
class: values are 1 where an instance is, 0 elsewhere.
"""
import re
from typing import Dict, Optional, Sequence, Tuple

import numpy as np

from mmengine_exact.errors import InputError

from .label_map import read_label_map, read_pixels
from .resumable import Job

_FORMS = dict(
    dict.fromkeys(('class', 'instance'), '[LRGBA]{1,4}'),
    **dict.fromkeys(('crowd', 'void'), r'[LRGBA]\d{1,5}'))
#: Classes or codes (h, w), numbers of instances (None: codes hold them), and
#: whether a pixel means nothing (None: values say so).
Maps = Tuple[np.ndarray, Optional[np.ndarray], Optional[np.ndarray]]


def parse_channels(words: Sequence[str]) -> Dict[str, str]:
    """Channels by what they hold, see the module."""
    found: Dict[str, str] = {}
    for word in words:
        key, _, value = word.partition('=')
        if key in found or not re.fullmatch(_FORMS.get(key, '(?!)'), value):
            raise InputError(
                f'--channels {" ".join(words)}: {word} is none of class=R, '
                'instance=GB, crowd=G2, void=G1 (each at most once), with one '
                'or several of the channels L, R, G, B, A. Correct it.')
        found[key] = value
    if 'crowd' in found and 'instance' not in found:
        raise InputError('--channels crowd=...: where are the instances? Add '
                         'instance=..., such as instance=B.')
    return found


def read_maps(job: Job, size: Tuple[int, int], channels: Dict[str, str],
              colors: bool) -> Maps:
    """The maps of one image of the size (h, w); ``colors``: see
    :func:`read_label_map`."""
    pixels = read_pixels(job.label, size) if channels else np.zeros(0)
    numbers = None
    marked = {
        key: _select(pixels, named[0], job.label) & int(named[1:]) != 0
        for key, named in channels.items() if key in ('crowd', 'void')
    }
    if 'instance' in channels:
        path = job.numbers or job.label
        numbers = _select(
            read_pixels(path, size) if job.numbers else pixels,
            channels['instance'], path)
    elif job.numbers:
        numbers = read_label_map(job.numbers, size, colors=None)
    if 'class' in channels:
        values = _select(pixels, channels['class'], job.label)
    elif numbers is not None and not job.numbers:
        values = (numbers > 0).astype(np.uint8)
    else:
        values = read_label_map(job.label, size, colors=colors)
    if 'crowd' in marked:
        numbers = np.where(marked['crowd'], 0, numbers)
    return values, numbers, marked.get('void')


def _select(pixels: np.ndarray, names: str, path: str) -> np.ndarray:
    """Values (h, w) of some channels, the most significant first."""
    known = 'L' if pixels.ndim == 2 else 'RGBA'[:pixels.shape[2]]
    planes = pixels.reshape(*pixels.shape[:2], -1)
    bits = 8 * pixels.itemsize
    if not set(names) <= set(known) or bits * len(names) > 32:
        raise InputError(
            f'{path}: its channels are {", ".join(known)}, of {bits} bits; '
            f'--channels names {names} (values have at most 32 bits). Correct '
            '--channels.')
    value = np.zeros(pixels.shape[:2], np.int64)
    for name in names:
        value = value << bits | planes[..., known.index(name)]
    return value
