"""Decoded pixels against OpenCV's and Pillow's, whoever decodes."""
import io
import itertools
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from panoptic_fpn.ops import FAST_OPS, decode
from panoptic_fpn.ops.decode import (DecodeError, decode_image, decode_map,
                                     try_decode)

RNG = np.random.default_rng(0)


def chunk(name, data):
    return struct.pack('>I', len(data)) + name + data + struct.pack(
        '>I', zlib.crc32(name + data))


def write_png(pixels, filters=(0, 1, 2, 3, 4), extra=b'', part=8192, **header):
    """A PNG by the specification, each row with the next of ``filters``."""
    pixels = np.asarray(pixels)
    height, width = pixels.shape[:2]
    rows = np.array(
        pixels, pixels.dtype.newbyteorder('>'), order='C').view('u1')
    rows = rows.reshape(height, -1).astype(int)
    depth, channels = 8 * pixels.dtype.itemsize, pixels[0, 0].size
    pixel = channels * depth // 8
    before, lines = np.zeros(rows.shape[1], int), b''
    for row, kind in zip(rows, itertools.cycle(filters)):
        left = np.append(np.zeros(pixel, int), row[:-pixel])
        corner = np.append(np.zeros(pixel, int), before[:-pixel])
        guess = left + before - corner
        nearest = np.argmin(
            [abs(guess - other) for other in (left, before, corner)], 0)
        paeth = np.choose(nearest, [left, before, corner])
        shift = (0, left, before, (left + before) // 2, paeth)[kind]
        lines += bytes([kind]) + ((row - shift) % 256).astype('u1').tobytes()
        before = row
    color = header.get('color', {1: 0, 3: 2, 4: 6}[channels])
    data = zlib.compress(lines)
    head = struct.pack('>IIBBBBB', width, height, depth, color, 0, 0,
                       header.get('interlace', 0))
    parts = [data[i:i + part] for i in range(0, len(data), part)]
    return (decode.SIGNATURE + chunk(b'IHDR', head) + extra +
            b''.join(chunk(b'IDAT', one)
                     for one in parts) + chunk(b'IEND', b''))


def saved(pixels, fmt='PNG', mode=None, **options):
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, fmt, **options)
    return buffer.getvalue()


def smooth(shape, dtype=np.uint8):
    """Neighbours are alike, as in photographs."""
    small = RNG.integers(0, np.iinfo(dtype).max, (3, 4) + shape[2:])
    big = cv2.resize(small.astype(np.float32), shape[1::-1])
    return big.reshape(shape).astype(dtype)


def blocks(shape, dtype=np.uint8):
    """Few values in large areas, as in label maps."""
    small = RNG.integers(0, np.iinfo(dtype).max, (5, 7) + shape[2:])
    ys, xs = (np.arange(n) * m // n for n, m in zip(shape, (5, 7)))
    return small[ys][:, xs].astype(dtype)


SIZES = [(1, 1), (1, 300), (300, 1), (37, 61), (128, 64)]
IMAGES = {
    f'{what.__name__} {size} {number}': write_png(what(size + (3, )), filters)
    for (number, filters), what, size in itertools.product(
        enumerate([(0, 1, 2, 3, 4), (4, ), (3, 1)]), (smooth, blocks), SIZES)
}
IMAGES['pillow'] = saved(smooth((150, 221, 3)))
IMAGES['opencv'] = cv2.imencode('.png', smooth((150, 221, 3)))[1].tobytes()
IMAGES['one byte a chunk'] = write_png(smooth((9, 5, 3)), part=1)
IMAGES['more than a stored block'] = saved(
    RNG.integers(0, 256, (211, 317, 3)).astype(np.uint8), compress_level=9)
IMAGES['text, resolution, gamma'] = write_png(
    smooth((20, 30, 3)),
    extra=chunk(b'gAMA', struct.pack('>I', 20000)) + chunk(b'sRGB', b'\0') +
    chunk(b'pHYs', struct.pack('>IIB', 9, 9, 1)) + chunk(b'bKGD', bytes(6)) +
    chunk(b'tEXt', b'Comment\0street'))


def orientation_tag(fmt):
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(smooth((20, 30, 3)), fmt, exif=exif.tobytes())


def late_orientation_tag():
    """The tag behind the pixels, where some programs put it."""
    early, plain = orientation_tag('PNG'), saved(smooth((20, 30, 3)))
    begin = early.index(b'eXIf') - 4
    length = struct.unpack_from('>I', early, begin)[0]
    return plain[:-12] + early[begin:begin + 12 + length] + plain[-12:]


#: What OpenCV decodes for us, and often in a way of its own.
OTHERS = dict(
    gray=write_png(smooth((31, 17))),
    gray16=write_png(smooth((31, 17), np.uint16)),
    rgb16=write_png(smooth((31, 17, 3), np.uint16)),
    rgba=write_png(smooth((31, 17, 4))),
    palette=saved(smooth((31, 17, 3)), mode='P'),
    bilevel=saved(smooth((31, 17)), mode='1'),
    few_colours=saved(smooth((31, 17, 3)), mode='P', bits=4),
    transparent=write_png(blocks((31, 17, 3)), extra=chunk(b'tRNS', bytes(6))),
    interlaced=write_png(smooth((1, 1, 3)), interlace=1),
    turned_png=orientation_tag('PNG'),
    turned_png_at_the_end=late_orientation_tag(),
    jpeg=saved(smooth((31, 17, 3)), 'JPEG'),
    jpeg_gray=saved(smooth((31, 17)), 'JPEG'),
    jpeg_cmyk=saved(smooth((32, 16, 3)), 'JPEG', mode='CMYK'),
    jpeg_fine=saved(smooth((33, 47, 3)), 'JPEG', subsampling=0),
    turned_jpeg=orientation_tag('JPEG'),
    bmp=saved(smooth((31, 17, 3)), 'BMP'))


def by_opencv(content, flag):
    return cv2.imdecode(np.frombuffer(content, np.uint8), flag)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and (a == b).all()


MAPS = {
    f'{dtype.__name__} {shape} {what.__name__}':
    write_png(what(shape, dtype), filters=(2, 1, 4, 0, 3))
    for dtype, shapes in ((np.uint8, SIZES + [(37, 61, 3)]), (np.uint16,
                                                              SIZES))
    for shape, what in itertools.product(shapes, (smooth, blocks))
}
MAPS['pillow, 16 bits'] = saved(blocks((90, 170), np.uint16))
MAPS['opencv, 16 bits'] = cv2.imencode('.png', blocks((90, 170),
                                                      np.uint16))[1].tobytes()


@pytest.mark.parametrize('name', [*IMAGES, *OTHERS])
def test_images_have_opencvs_pixels(name, monkeypatch):
    content = {**IMAGES, **OTHERS}[name]
    expected = by_opencv(content, cv2.IMREAD_COLOR)
    if name.startswith('turned'):
        assert expected.shape == (30, 20, 3)
    if name in IMAGES:  # not by OpenCV
        monkeypatch.setattr(decode.cv2, 'imdecode', None)
    image = decode_image(content)
    assert same(image, expected)
    assert image.flags.c_contiguous and image.flags.writeable


@pytest.mark.parametrize('name', [
    *MAPS, 'rgb16', 'rgba', 'transparent', 'interlaced', 'turned_png',
    'turned_png_at_the_end', 'bmp'
])
def test_maps_are_as_they_are_stored(name, monkeypatch):
    """In RGB order."""
    content = {**MAPS, **OTHERS}[name]
    expected = by_opencv(content, cv2.IMREAD_UNCHANGED)
    if expected.ndim == 3:
        expected = expected[..., [2, 1, 0, 3][:expected.shape[2]]]
    if name in MAPS:
        monkeypatch.setattr(decode.cv2, 'imdecode', None)
    pixels = decode_map(content)
    assert same(pixels, expected)
    assert pixels.flags.c_contiguous and pixels.dtype.isnative


def few_bits(values, bits, palette=b''):
    """A PNG of grey values or indices of 1, 2 or 4 bits, by the
    specification."""
    rows = values[..., None] >> np.arange(bits)[::-1] & 1
    rows = np.packbits(rows.reshape(len(values), -1).astype(np.uint8), axis=1)
    head = struct.pack('>IIBBBBB', values.shape[1], len(values), bits,
                       3 if palette else 0, 0, 0, 0)
    data = zlib.compress(b''.join(b'\0' + row.tobytes() for row in rows))
    return (decode.SIGNATURE + chunk(b'IHDR', head) +
            (chunk(b'PLTE', palette) if palette else b'') +
            chunk(b'IDAT', data) + chunk(b'IEND', b''))


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
@pytest.mark.parametrize('extra', ['', 'palette', 'transparent colour'])
def test_values_of_few_bits_are_the_files_own(bits, extra):
    """Not multiplied by 255, 85 or 17, and not the colours of a palette."""
    values = RNG.integers(0, 2**bits, (13, 21)).astype(np.uint8)
    values[0, :2] = 0, 2**bits - 1
    content = few_bits(values, bits,
                       bytes(range(256)) * 3 if extra == 'palette' else b'')
    if extra == 'transparent colour':
        content = content[:33] + chunk(b'tRNS', bytes(2)) + content[33:]
    for switch in ('1', '0'):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(FAST_OPS, switch)
            assert same(decode_map(content), values)


@pytest.mark.parametrize('dtype, mode', [(np.uint8, 'L'), ('<u2', 'I;16'),
                                         ('>u2', 'I;16B'), (np.int32, 'I'),
                                         (np.float32, 'F')])
def test_values_of_tiffs_are_the_files_own(dtype, mode):
    values = RNG.integers(0, 256, (13, 21)) * (1 if mode == 'L' else 255)
    stored = values.astype(dtype)
    image = Image.frombytes(mode, (21, 13), stored.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, 'TIFF')
    pixels = decode_map(buffer.getvalue())
    assert (pixels == values).all() and pixels.dtype.isnative
    assert pixels.dtype == (
        np.int32 if mode == 'F' else stored.dtype.newbyteorder('='))


def tiff_of(value):
    return saved(np.full((3, 4), value, np.float32), 'TIFF')


def inverted():
    """A TIFF whose tag 262 says that 0 is white."""
    tag = struct.pack('<HHI', 262, 3, 1)
    content = saved(smooth((9, 8)), 'TIFF')
    assert content.count(tag + b'\1') == 1
    return content.replace(tag + b'\1', tag + b'\0')


def several():
    pages = [Image.fromarray(smooth((9, 8))) for _ in range(2)]
    buffer = io.BytesIO()
    pages[0].save(buffer, 'TIFF', save_all=True, append_images=pages[1:])
    return buffer.getvalue()


@pytest.mark.parametrize('content, why', [
    (OTHERS['jpeg'], 'its format, JPEG, may change values'),
    (OTHERS['jpeg_gray'], 'its format, JPEG, may change values'),
    (saved(smooth((31, 17)), 'TIFF', compression='jpeg'), 'may change values'),
    (saved(smooth((31, 17, 3)), 'WEBP'), 'may change values'),
    (tiff_of(.5), 'its value 0.5 is not a whole number'),
    (tiff_of(np.nan), 'its value nan is not a whole number'),
    (tiff_of(2**25), 'not a whole number up to 2^24'),
    (inverted(), '0 stands for white'),
    (several(), 'several images'),
])
def test_maps_whose_values_are_lost(content, why):
    pixels, fault = try_decode(decode_map, content)
    assert pixels is None and why in fault


@pytest.mark.parametrize('content',
                         [IMAGES['pillow'], OTHERS['jpeg'], OTHERS['gray']])
def test_what_is_damaged_has_opencvs_pixels_or_none(content):
    """Cut anywhere, or with a wrong byte."""
    cut = [content[:n] for n in range(0, len(content), 1 + len(content) // 60)]
    cut += [content[:-n] for n in (1, 2, 4, 5, 12, 13)]
    for one in cut:
        assert try_decode(decode_image, one)[0] is None
    for place in RNG.integers(0, len(content), 60):
        spoilt = bytearray(content)
        spoilt[place] ^= 1 << int(RNG.integers(8))
        pixels, why = try_decode(decode_image, bytes(spoilt))
        if pixels is None:
            assert why
        else:
            assert same(pixels, by_opencv(bytes(spoilt), cv2.IMREAD_COLOR))


def test_damage_behind_intact_checksums():
    """A zlib stream that is too short, or no such stream."""
    pixels = smooth((20, 30, 3))
    whole = write_png(pixels)
    data = zlib.decompress(whole[41:-16])
    for stream in (zlib.compress(data[:-91]), data,
                   zlib.compress(bytes([9]) + data[1:])):
        png = whole[:33] + chunk(b'IDAT', stream) + whole[-12:]
        with pytest.raises(DecodeError, match='a damaged PNG'):
            decode_image(png)


def test_no_kornia_under_the_switch(monkeypatch):
    expected = [decode_map(content) for content in MAPS.values()]
    monkeypatch.setenv(FAST_OPS, '0')
    monkeypatch.setattr(decode, 'kornia_rs', None)
    for content, pixels in zip(MAPS.values(), expected):
        assert same(decode_map(content), pixels)
    for content in [*IMAGES.values(), *OTHERS.values()]:
        assert same(
            decode_image(content), by_opencv(content, cv2.IMREAD_COLOR))
