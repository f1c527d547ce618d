"""Label maps of any data set: PNGs with one channel, or a palette."""
from typing import Tuple

import numpy as np

from mmengine_exact.errors import CorruptFileError, InputError
from mmengine_exact.files import read_bytes
from panoptic_fpn.ops.decode import decode_indices, try_decode


def read_label_map(path: str) -> np.ndarray:
    """Values (h, w), uint8 or uint16; of a palette, the indices.

    Raises:
        CorruptFileError: It cannot be read or decoded.
        InputError: It has several channels.
    """
    content = read_bytes(path, 'label map', None)
    values, why = try_decode(decode_indices, content)
    if values is None:
        raise CorruptFileError(f'{path}: {len(content)} bytes that are no '
                               f'PNG ({why}). Copy it again.')
    if values.ndim != 2:
        raise InputError(
            f'{path}: {values.shape[2]} channels. A label map has one, of 8 '
            'or 16 bits, that holds the classes; not colours.')
    return values


def require_size(path: str, values: np.ndarray, size: Tuple[int, int]) -> None:
    """See that a label map is as large as its image.

    Raises:
        InputError: It is not.
    """
    if values.shape != tuple(size):
        raise InputError(
            f'{path}: {values.shape} (h, w), but its image is {tuple(size)}. '
            'Scale both alike (labels without interpolation).')
