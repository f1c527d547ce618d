"""Label maps of any data set: PNGs with one channel, or a palette."""
import os
from contextlib import suppress
from typing import List, Optional, Tuple

import numpy as np
from PIL import Image

from mmengine_exact.errors import InputError
from mmengine_exact.files import read_bytes
from panoptic_fpn.ops.decode import decode_indices, try_decode

#: The last chunk of a PNG.
_PNG_END = b'\0\0\0\0IEND\xaeB\x60\x82'


def file_stamp(path: str) -> List[int]:
    """Size in bytes and time of the last change in nanoseconds."""
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


def png_size(path: str) -> Optional[Tuple[int, int]]:
    """(h, w) in the header of a PNG that has its end; None for others.

    The pixels are not read: a folder of photographs has gigabytes of them.
    """
    with suppress(OSError, ValueError, Image.DecompressionBombError):
        with open(path, 'rb') as file, Image.open(file) as image:
            file.seek(-len(_PNG_END), os.SEEK_END)
            if image.format == 'PNG' and file.read() == _PNG_END:
                return image.size[::-1]
    return None


def read_label_map(path: str,
                   size: Optional[Tuple[int, int]] = None) -> np.ndarray:
    """Values of a label map.

    Args:
        path (str): The PNG.
        size (tuple[int, int], optional): (h, w) of its image.

    Returns:
        np.ndarray: (h, w), uint8 or uint16; of a palette, the indices.

    Raises:
        InputError: It cannot be read or decoded, has several channels or
            another size.
    """
    content = read_bytes(path, 'label map', None)
    values, fault = try_decode(decode_indices, content)
    if values is None:
        fault = (f'{len(content)} bytes that are no label map ({fault}). '
                 'Restore the PNG.')
    elif values.ndim != 2:
        fault = (f'{values.shape[2]} channels. A label map has one, of 8 or '
                 '16 bits, that holds the classes; not colours.')
    elif size is not None and values.shape != tuple(size):
        fault = (f'{values.shape} (h, w), but its image is {tuple(size)}. '
                 'Scale both alike (labels without interpolation).')
    if fault:
        raise InputError(f'{path}: {fault}')
    return values
