"""Images and label maps from bytes.

kornia-rs decodes PNGs of 8-bit RGB, 8- and 16-bit grey and 8-bit palettes: the
pixels of OpenCV in half its time. OpenCV decodes everything else except other
maps of one channel, which Pillow decodes. Pillow reads headers.

Decoders get no files that are cut off, which some fill with grey, and none
whose header claims gigabytes.

The system zeroes pages that were freed just before, which would take half of
the time; see ``allocator.py``.
"""
import io
import os
import warnings
from typing import Any, Callable, Iterator, Mapping, Optional, Tuple

import cv2
import kornia_rs
import numpy as np
from PIL import ExifTags, Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from mmengine_exact.allocator import keep_freed_megabytes

from . import use_fast

SIGNATURE = b'\x89PNG\r\n\x1a\n'
#: Most pixels of an image that is decoded, where the environment variable
#: ``LIMIT`` gives no other number; Pillow's own limit.
DEFAULT_LIMIT = 178_956_970
LIMIT = 'PANOPTIC_MAX_PIXELS'
#: Pixels that one byte of a file fills at most: in a PNG each byte inflates to
#: 1032, of one bit a pixel; a progressive JPEG has one bit for 64 pixels.
_PIXELS_PER_BYTE = dict(PNG=8 * 1032, JPEG=512)
_ENDS = dict(PNG=b'IEND\xaeB`\x82', JPEG=b'\xff\xd9')
#: More scans than any encoder writes; each takes time for the whole image.
_MOST_SCANS = 100
#: Formats that keep values.
_LOSSLESS = ('PNG', 'TIFF', 'BMP')
#: What Pillow multiplies grey values of 2 and 4 bits by.
_FACTORS = {'L;2': 85, 'L;4': 17}
#: Pillow's raw modes of the PNGs that kornia-rs decodes, and its own modes.
_MODES = {'RGB': 'rgb', 'L': 'mono', 'P': 'mono', 'I;16B': 'mono'}


class DecodeError(ValueError):
    """An image file that must not or cannot be decoded; says why: it is empty,
    damaged, incomplete or too large."""


def decode_image(content: bytes) -> np.ndarray:
    """An image as ``cv2.imdecode(..., cv2.IMREAD_COLOR)`` gives it: BGR uint8
    (h, w, 3), turned by its orientation tag.

    Raises:
        DecodeError: See there.
    """
    header = _read_header(content)
    # the tag may stand before the pixels or after them
    if (_raw_mode(header) != 'RGB' or 'exif' in header.info
            or b'eXIf' in content[content.rfind(b'IDAT'):]):
        return _decode_by_opencv(header, content, cv2.IMREAD_COLOR)
    pixels = _decode_png(header, content)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR, dst=pixels)


def decode_map(content: bytes) -> np.ndarray:
    """A map of ids or classes as it is stored: PNG, TIFF or BMP.

    Returns:
        np.ndarray: C-contiguous. Values of one channel, or indices into a
        palette: (h, w), uint8 where they have 1 to 8 bits, uint16, or int32;
        RGB (h, w, 3), RGBA (h, w, 4).

    Raises:
        DecodeError: See there; or the format may change values, or they are
            not whole numbers.
    """
    header = _read_header(content)
    for fault in _map_faults(header):
        raise DecodeError(fault)
    if _raw_mode(header):
        return _decode_png(header, content)
    if len(header.getbands()) == 1:
        _check_data(header, content)
        return _single_channel(_open(content))
    pixels = _decode_by_opencv(header, content, cv2.IMREAD_UNCHANGED)
    code = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return cv2.cvtColor(pixels, code)


def try_decode(decode: Callable[[bytes], Any],
               content: bytes) -> Tuple[Any, str]:
    """Pixels of a file that may be anything, by one of the functions above;
    or None, and why."""
    try:
        return decode(content), ''
    except DecodeError as error:
        return None, str(error)
    except Exception as error:  # decoders raise all kinds
        return None, f'no decoder takes it, {type(error).__name__}'


def find_fault(content: bytes) -> Optional[str]:
    """Why an image file must not be decoded, without decoding it; None where
    nothing is known. Formats other than PNG and JPEG are not examined for
    damage: their decoders do that."""
    return try_decode(lambda c: _check_data(_read_header(c), c),
                      content)[1] or None


def claimed_size(content: bytes) -> Optional[Tuple[int, int]]:
    """(h, w) in the header of an image file, before any orientation tag is
    applied; None where there is no readable header."""

    def read(content: bytes) -> Tuple[int, int]:
        header = _open(content)
        tags = _tiff_tags(header)  # Pillow gives the size that is shown
        return tags.get(257, header.height), tags.get(256, header.width)

    return try_decode(read, content)[0]


def orientation_tag(content: bytes) -> int:
    """EXIF orientation, 1 to 8, by which :func:`decode_image` turns an image;
    1: it does not."""

    def read(content: bytes) -> int:
        header, exif = _open(content), Image.Exif()
        if b'eXIf' in content[content.rfind(b'IDAT'):]:  # behind the pixels
            header.load()
        exif.load(header.info.get('exif', b''))
        tag = ExifTags.Base.Orientation
        return exif.get(tag, _tiff_tags(header).get(tag, 1))

    tag, _ = try_decode(read, content)
    return tag if tag in range(1, 9) else 1


def _open(content: bytes) -> ImageFile.ImageFile:
    """Pillow's reader of a file, which has read the header."""
    stream = io.BytesIO(content)
    with warnings.catch_warnings():  # odd metadata, and sizes below the limit
        warnings.simplefilter('ignore')
        # not by Image.open: its limit cannot be raised for one image
        if content.startswith(SIGNATURE):
            return PngImageFile(stream)
        if content.startswith(b'\xff\xd8'):
            return JpegImageFile(stream)
        return Image.open(stream)


def _read_header(content: bytes) -> ImageFile.ImageFile:
    """Pillow's reader of a file whose header can be believed."""
    try:
        header = _open(content)
    except Image.DecompressionBombError as error:
        raise DecodeError(
            f'{error} Convert it to PNG or JPEG, for which the environment '
            f'variable {LIMIT} sets the limit') from None
    except Exception:  # which ones depends on the format
        raise DecodeError('no image of a known format'
                          if content else 'an empty file') from None
    for fault in _header_faults(header, content):
        raise DecodeError(fault)
    return header


def _header_faults(header: ImageFile.ImageFile,
                   content: bytes) -> Iterator[str]:
    """Faults of the size (above the limit, or more than the file can hold),
    and a missing end."""
    width, height = header.size
    limit = os.environ.get(LIMIT) or str(DEFAULT_LIMIT)
    if not limit.isdecimal():
        yield (f'{LIMIT}={limit} in the environment is not a whole number of '
               'pixels')
    elif width * height > int(limit):
        yield (f'its header claims {width * height} pixels, the limit is '
               f'{int(limit)}; where images are meant to be so large, set the '
               f'environment variable {LIMIT}')
    if header.format not in _ENDS:
        return
    if width * height > _PIXELS_PER_BYTE[header.format] * len(content):
        yield (f'{len(content)} bytes cannot fill the {width} x {height} '
               '(w x h) of its header')
    # behind the thumbnail of a JPEG; anything may follow
    if content.rfind(_ENDS[header.format], _data_begin(header)) < 0:
        yield f'the {header.format} is cut off after {len(content)} bytes'


def _tiff_tags(header: ImageFile.ImageFile) -> Mapping[int, Any]:
    """None for other formats."""
    return getattr(header, 'tag_v2', {})


def _map_faults(header: ImageFile.ImageFile) -> Iterator[str]:
    """Why the values of an image are not those that were written to it."""
    if header.format not in _LOSSLESS or (header.info.get('compression')
                                          == 'jpeg'):
        yield (f'its format, {header.format}, may change values; export a PNG '
               'from the original annotation')
    if getattr(header, 'is_animated', False):
        yield 'it holds several images'
    if _tiff_tags(header).get(262) == 0:  # as scans of text
        yield 'a TIFF in which 0 stands for white; convert it to PNG'


def _single_channel(image: ImageFile.ImageFile) -> np.ndarray:
    """Values (h, w) or indices of an image of one channel, by Pillow."""
    args = image.tile[0].args
    raw_mode = str(args[0] if isinstance(args, tuple) else args)
    values = np.array(image)
    if values.dtype.kind == 'f':
        # float32 holds all whole numbers up to there
        odd = (values != np.rint(values)) | ~(np.abs(values) <= 2**24)
        if odd.any():
            raise DecodeError(f'its value {values[odd][0]} is not a whole '
                              'number up to 2^24')
        return values.astype(np.int32)
    if values.dtype == bool:
        return values.astype(np.uint8)
    values //= _FACTORS.get(raw_mode[:3], 1)
    return values.astype(values.dtype.newbyteorder('='), copy=False)


def _data_begin(header: ImageFile.ImageFile) -> int:
    """Where the pixels of a file begin: Pillow has read up to there."""
    assert header.fp is not None
    return header.fp.tell()


def _check_data(header: ImageFile.ImageFile, content: bytes) -> None:
    """Refuse what OpenCV would fill with grey or decode for hours: a PNG with
    a wrong checksum, a JPEG with too many scans."""
    if header.format == 'PNG':
        try:
            header.verify()
        except Exception as error:
            raise DecodeError(f'a damaged PNG, {error}') from None
    elif header.format == 'JPEG':
        scans = content.count(b'\xff\xda', _data_begin(header))
        if scans > _MOST_SCANS:
            raise DecodeError(f'{scans} scans; no encoder writes so many')


def _raw_mode(header: ImageFile.ImageFile) -> str:
    """Pillow's raw mode of a PNG that kornia-rs decodes; '' for others."""
    if (header.format != 'PNG' or 'transparency' in header.info
            or getattr(header, 'is_animated', False) or not use_fast()):
        return ''
    mode = str(header.tile[0][3])
    return mode if mode in _MODES else ''


def _decode_png(header: ImageFile.ImageFile, content: bytes) -> np.ndarray:
    """Pixels (h, w) or (h, w, 3) of a PNG of a mode in ``_MODES``."""
    keep_freed_megabytes()
    mode = _raw_mode(header)
    decode = kornia_rs.io.decode_image_png_u8
    if mode == 'I;16B':
        decode = kornia_rs.io.decode_image_png_u16
    try:
        pixels = decode(content, header.size[::-1], _MODES[mode])
    except Exception as error:
        raise DecodeError(f'a damaged PNG, {error}') from None
    return pixels if mode == 'RGB' else pixels[..., 0]


def _decode_by_opencv(header: ImageFile.ImageFile, content: bytes,
                      flag: int) -> np.ndarray:
    _check_data(header, content)
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    if pixels is None:
        raise DecodeError('no decoder takes it')
    return pixels
