"""Files that some decoders take although a part is missing.

Versions of OpenCV differ: where a photograph ends too early, some give grey
for the missing rows, so that training goes on with them, others nothing.
"""
import io
import struct
import zlib
from typing import Optional

from PIL import Image

from ..decoding import SIGNATURE

_JPEG_BEGIN, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
#: Where the end of a JPEG is looked for: some cameras append zeros.
_TAIL = 64


def find_damage(content: bytes) -> Optional[str]:
    """What is missing from an image file.

    Args:
        content (bytes): Of the file; formats other than PNG and JPEG are not
            looked at.

    Returns:
        str, optional: None where nothing is.
    """
    if not content:
        return 'an empty file'
    if content[:8] == SIGNATURE:
        return _png_damage(content)
    if content[:2] == _JPEG_BEGIN:
        return _jpeg_damage(content)
    return None


def _png_damage(content: bytes) -> Optional[str]:
    place, name = len(SIGNATURE), b''
    while name != b'IEND':
        if place + 12 > len(content):
            return f'the PNG ends too early, after {len(content)} bytes'
        length, name = struct.unpack_from('>I4s', content, place)
        end = place + 8 + length
        if end + 4 > len(content):
            return f'the PNG ends too early, after {len(content)} bytes'
        stated, = struct.unpack_from('>I', content, end)
        if zlib.crc32(memoryview(content)[place + 4:end]) != stated:
            return f'a wrong checksum near byte {place}'
        place = end + 4
    return None


def _jpeg_damage(content: bytes) -> Optional[str]:
    if content[-_TAIL:].rstrip(b'\0').endswith(_JPEG_END):
        return None
    # others append more than zeros: the strict decoder knows
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        return f'{len(content)} bytes, cut off ({error})'
    return None
