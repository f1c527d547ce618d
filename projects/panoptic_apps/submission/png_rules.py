"""PNGs of results: kind and size, then pixels."""
import struct
from typing import List, Optional, Tuple

import numpy as np

from panoptic_fpn.ops.decode import SIGNATURE, decode_map, try_decode

from .violations import Violation

#: Colour types of PNG.
GRAY, RGB = 0, 2
_KINDS = {GRAY: 'grey', RGB: 'RGB', 3: 'palette', 4: 'grey and alpha',
          6: 'RGBA'}  # yapf: disable


def read_png(content: bytes, name: str, size: Tuple[int, int],
             color: int) -> Tuple[Optional[np.ndarray], List[Violation]]:
    """Pixels of a PNG of 8 bits.

    Args:
        content (bytes): Of the file.
        name (str): Its name, for the violations.
        size (tuple[int, int]): (h, w) that it must have.
        color (int): ``GRAY`` or ``RGB``.

    Returns:
        tuple: uint8 (h, w) or (h, w, 3), None where it is not as it must be;
        and why not.
    """
    head = content[:26]
    if len(head) < 26 or head[:8] != SIGNATURE or head[12:16] != b'IHDR':
        return None, [Violation('png kind', name, 'is no PNG')]
    width, height, bits, found = struct.unpack('>IIBB', head[16:])
    if (bits, found) != (8, color):
        kind = _KINDS.get(found, f'colour type {found}')
        return None, [
            Violation('png kind', name,
                      f'{kind} of {bits} bits, not {_KINDS[color]} of 8')
        ]
    if (height, width) != tuple(size):
        return None, [
            Violation(
                'png size', name, f'{height} x {width} pixels, the '
                f'image has {size[0]} x {size[1]} (height x width)')
        ]
    pixels, fault = try_decode(decode_map, content)
    if pixels is None:
        return None, [
            Violation('png kind', name, f'cannot be decoded ({fault})')
        ]
    return pixels, []
