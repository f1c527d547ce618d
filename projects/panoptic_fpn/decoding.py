"""Images and label PNGs from bytes: OpenCV's pixels in half of its time.

A PNG of 8 or 16 bits is inflated by libdeflate (package ``deflate``), which
is twice as fast as zlib on photographs and 25 times on label maps, wrapped
again without compression, and unfiltered by libspng (package ``pyspng``).
Everything else, also what is damaged, is left to OpenCV; so is everything
where these packages are missing. (JPEG: OpenCV's libjpeg-turbo is as fast as
any other.)

Half of the time would go to the system, which zeroes pages that were freed
just before: see ``allocator.py``.
"""
import functools
import struct
import warnings
from typing import List, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from .allocator import keep_freed_megabytes

try:
    import deflate
    import pyspng
except ImportError:
    deflate = pyspng = None

SIGNATURE = b'\x89PNG\r\n\x1a\n'
#: Chunks that change no pixel that OpenCV returns. Not so, for example, tRNS
#: (transparency), eXIf (orientation), acTL (animation).
HARMLESS = frozenset([
    b'PLTE', b'bKGD', b'cHRM', b'gAMA', b'hIST', b'iCCP', b'iTXt', b'pHYs',
    b'sBIT', b'sRGB', b'tEXt', b'tIME', b'zTXt'
])
#: Bytes of a block of a deflate stream that is stored as it is.
STORED = 65535
#: Colour types of PNG.
GRAY, RGB, PALETTE = 0, 2, 3
#: Pixels OpenCV reads at most.
MAX_PIXELS = 2**30


class _Png(NamedTuple):
    """A PNG without interlacing, of 8 or 16 bits and one kind of colour."""
    size: Tuple[int, int]  # (h, w)
    depth: int
    color: int
    data: bytes  # the zlib stream of filtered rows

    @property
    def row_bytes(self) -> int:
        """Of a filtered row: the filter's number, then the pixels."""
        channels = 3 if self.color == RGB else 1
        return 1 + self.size[1] * channels * self.depth // 8


def decode_image(content: bytes) -> Optional[np.ndarray]:
    """An image as ``cv2.imdecode(..., cv2.IMREAD_COLOR)`` gives it.

    Args:
        content (bytes): Of a file in any format that OpenCV reads.

    Returns:
        np.ndarray, optional: BGR uint8 (h, w, 3), turned by its orientation
        tag; None where it cannot be decoded.

    Raises:
        cv2.error: It cannot be decoded.
    """
    png = _parse_png(content)
    if png is not None and (png.depth, png.color) == (8, RGB):
        pixels = _decode_png(png)
        if pixels is not None:
            return cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR, dst=pixels)
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


def decode_map(content: bytes) -> Optional[np.ndarray]:
    """A PNG that holds ids, as it is stored.

    Args:
        content (bytes): Of the file.

    Returns:
        np.ndarray, optional: C-contiguous. One channel: (h, w) uint8 or
        uint16, native byte order; three: RGB (h, w, 3) uint8. Other kinds of
        images as OpenCV reads them unchanged, but RGB or RGBA. None where it
        cannot be decoded.

    Raises:
        cv2.error: It cannot be decoded.
    """
    png = _parse_png(content)
    if png is not None and png.color != PALETTE:
        pixels = _decode_png(png)
        if pixels is not None:
            return pixels
    pixels = cv2.imdecode(
        np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is not None and pixels.ndim == 3 and pixels.shape[2] >= 3:
        code = (
            cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
        pixels = cv2.cvtColor(pixels, code)
    return pixels


def decode_indices(content: bytes) -> Optional[np.ndarray]:
    """Values (h, w) uint8 or uint16 of a PNG of one channel, or indices into
    its palette; None for any other, and where libraries are missing."""
    png = _parse_png(content)
    return None if png is None or png.color == RGB else _decode_png(png)


def _parse_png(content: bytes) -> Optional[_Png]:
    """What the chunks say; None where OpenCV is to decode."""
    if content[:8] != SIGNATURE or not _has_libraries():
        return None
    chunks = _chunks(content)
    if chunks is None or [chunks[0][0], chunks[-1][0]] != [b'IHDR', b'IEND']:
        return None
    if len(chunks[0][1]) != 13:
        return None
    width, height, depth, color, *methods = struct.unpack(
        '>IIBBBBB', chunks[0][1])
    if not 0 < height * width <= MAX_PIXELS or any(methods):
        return None
    if (depth, color) not in ((8, GRAY), (16, GRAY), (8, RGB), (8, PALETTE)):
        return None
    names = {name for name, _ in chunks[1:-1]}
    if not names <= HARMLESS | {b'IDAT'}:
        return None
    data = [data for name, data in chunks if name == b'IDAT']
    return _Png((height, width), depth, color, b''.join(data))


def _chunks(content: bytes) -> Optional[List[Tuple[bytes, memoryview]]]:
    """Names and data up to IEND; None where one is damaged or missing."""
    view, chunks, place = memoryview(content), [], len(SIGNATURE)
    while not chunks or chunks[-1][0] != b'IEND':
        if place + 12 > len(view):
            return None
        length, name = struct.unpack_from('>I4s', view, place)
        end = place + 8 + length
        if end + 4 > len(view):
            return None
        checksum = deflate.crc32(view[place + 4:end])
        if checksum != struct.unpack_from('>I', view, end)[0]:
            return None
        chunks.append((name, view[place + 8:end]))
        place = end + 4
    return chunks


def _decode_png(png: _Png) -> Optional[np.ndarray]:
    """Pixels (h, w) or (h, w, 3); None where the data is damaged."""
    keep_freed_megabytes()
    size = png.size[0] * png.row_bytes
    try:
        rows = deflate.zlib_decompress(png.data, size)
        if len(rows) != size:
            return None
        pixels = pyspng.load(_stored_png(png, rows))
    except (deflate.DeflateError, RuntimeError, ValueError):
        return None
    if png.depth == 16:  # pyspng adds a channel of opacity
        pixels = np.ascontiguousarray(pixels[..., 0])
    return pixels


def _stored_png(png: _Png, rows: bytearray) -> bytes:
    """A PNG of filtered rows without compression; indices become gray."""
    view = memoryview(rows)
    blocks = [b'\x78\x01']
    for begin in range(0, len(view), STORED):
        block = view[begin:begin + STORED]
        last = begin + STORED >= len(view)
        blocks.append(
            struct.pack('<BHH', last, len(block),
                        len(block) ^ 0xFFFF))
        blocks.append(block)
    blocks.append(struct.pack('>I', deflate.adler32(view)))
    color = RGB if png.color == RGB else GRAY
    height, width = png.size
    header = struct.pack('>IIBBBBB', width, height, png.depth, color, 0, 0, 0)
    length = sum(map(len, blocks))
    # libspng was told by pyspng not to look at checksums of chunks
    return b''.join([
        SIGNATURE,
        struct.pack('>I4s', len(header), b'IHDR'), header,
        struct.pack('>I', deflate.crc32(b'IHDR' + header)),
        struct.pack('>I4s', length, b'IDAT'), *blocks,
        bytes(4),
        struct.pack('>I4sI', 0, b'IEND', deflate.crc32(b'IEND'))
    ])


@functools.lru_cache(None)
def _has_libraries() -> bool:
    """Whether PNGs can be decoded fast; warns once where not."""
    if pyspng is None:
        warnings.warn(
            'PNGs are decoded by OpenCV, at half the speed: the packages '
            'deflate and pyspng are missing. Install them as '
            'requirements/runtime.txt pins them.')
    return pyspng is not None
