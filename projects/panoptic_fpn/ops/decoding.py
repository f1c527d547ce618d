"""Images and label PNGs from bytes: OpenCV's pixels in half of its time.

A PNG of 8 or 16 bits is inflated by libdeflate (package ``deflate``), which
is twice as fast as zlib on photographs and 25 times on label maps, wrapped
again without compression, and unfiltered by libspng (package ``pyspng``).
Everything else, also what is damaged, is left to OpenCV; so is everything
where these packages are missing. (JPEG: OpenCV's libjpeg-turbo is as fast as
any other.)

:func:`find_fault` tells beforehand what no decoder should be given: files
without their end, which some fill with grey, and headers that claim gigabytes.

Half of the time would go to the system, which zeroes pages that were freed
just before: see ``allocator.py``.
"""
import contextlib
import functools
import io
import os
import re
import struct
import warnings
import zlib
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np
from PIL import Image

from mmengine_exact.allocator import keep_freed_megabytes

try:
    import deflate
    import pyspng
except ImportError:
    deflate = pyspng = None  # type: ignore[assignment]

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
#: Pixels of the largest image that is decoded, where the environment variable
#: ``LIMIT`` names no other number; Pillow's own limit.
DEFAULT_LIMIT = 178_956_970
LIMIT = 'PANOPTIC_MAX_PIXELS'
#: Bytes that a byte of a deflate stream becomes at most.
_INFLATED = 1032
_JPEG_BEGIN, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
#: Where the end of a JPEG is looked for first: some cameras append zeros.
_JPEG_TAIL = 64
#: A marker within a JPEG; not a byte 255 of the data, and no restart.
_JPEG_MARKER = re.compile(rb'\xff+([^\x00\x01\xff\xd0-\xd7])')
#: Of JPEG: begin of a frame, by its coding; begin of a scan.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN = frozenset((0xC0, 0xC1, 0xC2))
_SCAN, _END = 0xDA, 0xD9
#: Pixels that a byte of Huffman codes stands for at most: of each block of
#: 64, one bit for DC in a progressive file.
_PIXELS_A_BYTE = 512
#: More scans than any encoder writes; each takes time for the whole image.
_MOST_SCANS = 100
Size = Tuple[int, int]


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
    view, place = memoryview(content), len(SIGNATURE)
    chunks: List[Tuple[bytes, memoryview]] = []
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
        blocks.append(bytes(block))
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


def claimed_size(content: bytes) -> Optional[Size]:
    """(h, w) in the header of an image file, before any orientation tag is
    obeyed; None where it cannot be told."""
    if content[:8] == SIGNATURE:
        if content[12:16] != b'IHDR' or len(content) < 24:
            return None
        width, height = struct.unpack_from('>II', content, 16)
        return height, width
    if content[:2] == _JPEG_BEGIN:
        frame = _parse_jpeg(content)
        return None if frame is None else frame.size
    try:
        with _no_warnings(), Image.open(io.BytesIO(content)) as image:
            return image.size[1], image.size[0]
    except Exception:  # which ones depends on the format
        return None


def try_decode(decode: Callable[[bytes], Optional[np.ndarray]],
               content: bytes) -> Tuple[Optional[np.ndarray], str]:
    """Pixels of a file that may be anything.

    Args:
        decode (Callable): Gives the pixels of a file that is sound.
        content (bytes): Of the file.

    Returns:
        tuple[np.ndarray | None, str]: Pixels; or None, and why, see
        :func:`find_fault`.
    """
    fault = find_fault(content)
    if fault is not None:
        return None, fault
    try:
        pixels = decode(content)
    except Exception as error:  # decoders raise all kinds
        return None, f'no decoder takes it, {type(error).__name__}'
    return pixels, '' if pixels is not None else 'no decoder takes it'


def find_fault(content: bytes) -> Optional[str]:
    """Why an image file must not be decoded.

    Memory is taken for nothing but the header.

    Args:
        content (bytes): Of the file.

    Returns:
        str, optional: That the file is empty, damaged or not whole, or that
        its header claims more pixels than the limit (``LIMIT``); None where
        nothing is known. Formats other than PNG and JPEG are not looked at
        for damage: their decoders do.
    """
    if not content:
        return 'an empty file'
    if content[:8] == SIGNATURE:
        return _find_png_fault(content)
    if content[:2] == _JPEG_BEGIN:
        return _find_jpeg_fault(content)
    try:
        with _no_warnings(), Image.open(io.BytesIO(content)) as image:
            return _find_excess(image.size[0] * image.size[1])
    except Image.DecompressionBombError as error:
        # Pillow's limit, which is the default of ours
        pixels = re.search(r'\d+', str(error))
        return _find_excess(int(pixels.group()) if pixels else MAX_PIXELS)
    except Exception as error:  # which ones depends on the format
        return f'no image of a known format ({type(error).__name__})'


def _find_excess(pixels: int) -> Optional[str]:
    """That an image is beyond the limit."""
    stated = os.environ.get(LIMIT) or str(DEFAULT_LIMIT)
    if not stated.isdecimal():
        return (f'{LIMIT}={stated} in the environment is no whole number of '
                'pixels')
    if pixels <= int(stated):
        return None
    return (f'its header claims {pixels} pixels, the limit is {int(stated)}; '
            'where images are meant to be so large, set the environment '
            f'variable {LIMIT}')


def _find_png_fault(content: bytes) -> Optional[str]:
    size = claimed_size(content)
    if size is None:
        return 'a PNG without a header'
    excess = _find_excess(size[0] * size[1])
    if excess is not None:
        return excess
    crc32 = zlib.crc32 if deflate is None else deflate.crc32
    view, place, name, stored = memoryview(content), len(SIGNATURE), b'', 0
    while name != b'IEND':
        if place + 12 > len(view):
            return f'the PNG ends too early, after {len(view)} bytes'
        length, name = struct.unpack_from('>I4s', view, place)
        end = place + 8 + length
        if end + 4 > len(view):
            return f'the PNG ends too early, after {len(view)} bytes'
        if crc32(view[place + 4:end]) != struct.unpack_from('>I', view,
                                                            end)[0]:
            return f'a wrong checksum near byte {place}'
        stored += length if name == b'IDAT' else 0
        place = end + 4
    # at least one bit for a pixel
    if size[0] * size[1] > 8 * _INFLATED * stored:
        return (f'{stored} bytes of pixels cannot fill the {size[1]} x '
                f'{size[0]} (w x h) of its header')
    return None


class _Jpeg(NamedTuple):
    """What the segments before the first scan say."""
    size: Size
    coding: int  # marker of the frame
    interleaved: bool  # the first scan has all components
    data: int  # where the first scan begins


def _parse_jpeg(content: bytes) -> Optional[_Jpeg]:
    """None where no frame and scan are found."""
    place = len(_JPEG_BEGIN)
    frame: Optional[Tuple[int, ...]] = None
    while True:
        found = _JPEG_MARKER.search(content, place)
        if found is None or found.end() + 9 > len(content):
            return None
        marker, place = found.group(1)[0], found.end()
        length, = struct.unpack_from('>H', content, place)
        if marker in _FRAMES and frame is None:
            frame = marker, *struct.unpack_from('>HHB', content, place + 3)
        elif marker == _SCAN:
            if frame is None:
                return None
            coding, height, width, components = frame
            return _Jpeg((height, width), coding,
                         content[place + 2] == components, place + length)
        elif marker == _END:
            return None
        place += length


def _find_jpeg_fault(content: bytes) -> Optional[str]:
    frame = _parse_jpeg(content)
    if frame is None:
        return f'the photograph is cut off after {len(content)} bytes'
    height, width = frame.size
    excess = _find_excess(height * width)
    if excess is not None:
        return excess
    if (frame.coding in _HUFFMAN
            and height * width > _PIXELS_A_BYTE * len(content)):
        return (f'{len(content)} bytes cannot fill the {width} x {height} '
                '(w x h) of its header')
    if not frame.interleaved or frame.coding not in (0xC0, 0xC1):
        scans = content.count(bytes((0xFF, _SCAN)), frame.data)
        if scans > _MOST_SCANS:
            return f'{scans} scans; no encoder writes so many'
    if content[-_JPEG_TAIL:].rstrip(b'\0').endswith(_JPEG_END):
        return None
    # others append more than zeros
    for found in _JPEG_MARKER.finditer(content, frame.data):
        if found.group(1)[0] == _END:
            return None
    return f'the photograph is cut off after {len(content)} bytes'


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Pillow warns of sizes below its limit and of odd metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
