"""Photographs that are damaged, cut off or bombs: refused, or right.

Each file goes the ways of training, inference, the data set check and the
converter. Right are the pixels that Pillow decodes. ``pytest -m slow -s
tests/fuzz/test_images.py`` prints what became of the files.
"""
import io
import os
import random
import resource
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from mmengine_exact.errors import InputError
from panoptic_apps.check_dataset.image_files import picture_faults
from panoptic_apps.convert_data.label_folders import find_pairs
from panoptic_fpn.coco_format import ERROR, collect
from panoptic_fpn.data import LoadPanopticImage
from panoptic_fpn.inference import PanopticInferencer
from panoptic_fpn.ops.decode import (DEFAULT_LIMIT, LIMIT, claimed_size,
                                     find_fault)
from panoptic_fpn.visualization.image_io import \
    read_image as read_for_inference
from tests.tiny import write_tiny_model

from . import children
from .mutate import Outcomes, as_png, mutated_bytes, png_chunks

SIZE = 48, 64
#: Megabytes that a small file may take; decoders have buffers of their own.
MEMORY = 150
SECONDS = 20


def photo(shape=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def saved(fmt, mode='RGB', **options):
    buffer = io.BytesIO()
    Image.fromarray(photo()).convert(mode).save(buffer, fmt, **options)
    return buffer.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved('JPEG', exif=exif.tobytes())


JPEGS = dict(
    baseline=saved('JPEG'),
    progressive=saved('JPEG', progressive=True),
    restarts=cv2.imencode('.jpg', photo(),
                          [cv2.IMWRITE_JPEG_RST_INTERVAL, 4])[1].tobytes(),
    grey=saved('JPEG', mode='L'),
    turned=turned())
OTHERS = dict(
    png=saved('PNG'),
    palette=saved('PNG', mode='P'),
    transparent=saved('PNG', mode='RGBA'),
    bmp=saved('BMP'),
    tiff=saved('TIFF', compression='tiff_lzw'),
    webp=saved('WEBP', lossless=True))


def by_pillow(content):
    """RGB (h, w, 3), or None."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image = ImageOps.exif_transpose(image)
            return np.asarray(image.convert('RGB'))
    except Exception:
        return None


def train(path, size=None):
    results = dict(img_path=path)
    if size is not None:
        results.update(height=size[0], width=size[1])
    return LoadPanopticImage().transform(results)['img']


def check(path):
    """Its digest, where training and check decode alike."""
    found = []
    result = collect(picture_faults(path), found.append)
    found = [fault for fault in found if fault.severity == ERROR]
    if found:
        assert len(found) == 1 and found[0].where == path
        raise InputError(f'{path}: {found[0].value}')
    return result


def peak():
    """Largest memory so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def outcome(path, content, must_refuse=False):
    """What becomes of one file, whichever way it goes."""
    with open(path, 'wb') as file:
        file.write(content)
    before, said = peak(), {}
    for way in (train, read_for_inference, check):
        try:
            said[way.__name__] = way(path)
        except InputError as error:
            assert str(path) in str(error), str(error)
            said[way.__name__] = None
        except Exception as error:
            return f'raw {way.__name__} {type(error).__name__}: {error}'
    if peak() - before > MEMORY:
        return f'memory {peak() - before:.0f} MB'
    if len({found is None for found in said.values()}) > 1:
        return f'disagreement {[k for k, v in said.items() if v is None]}'
    image = said['train']
    if image is None:
        return 'refused'
    if must_refuse:
        return 'unnoticed'
    expected = by_pillow(content)
    if expected is None:  # Pillow is stricter about metadata
        expected = cv2.imdecode(np.frombuffer(content, np.uint8), 1)
        expected = expected if expected is None else expected[..., ::-1]
    if (expected is None or not np.array_equal(image[..., ::-1], expected)
            or not np.array_equal(image, said['read_image'])):
        return 'wrong pixels'
    return 'right'


def is_cut(kind, good, content):
    """Whether the end of the file is missing."""
    return kind in ('truncated', 'tail') and good.startswith(content)


def judge_all(jobs, work, title, processes=1):
    """Outcomes of jobs, of which none may be bad; ``work`` returns the kind
    of fault and the outcome."""
    outcomes = Outcomes(title)
    for job, result in zip(jobs, children.run(jobs, work, SECONDS, processes)):
        outcomes.add(*(result if isinstance(result, list) else (str(job),
                                                                result)))
    outcomes.judge()
    return outcomes


def run(folder, files, count, seed, title, processes=1):
    draw = random.Random(seed)

    def work(job):
        name, state = job
        good = files[name]
        kind, content = mutated_bytes(random.Random(state), good, 200)
        result = outcome(f'{folder}/{os.getpid()}.{name}', content,
                         is_cut(kind, good, content))
        return [kind, result]

    jobs = [(draw.choice(list(files)), draw.random()) for _ in range(count)]
    return judge_all(jobs, work, title, processes)


def test_good_files_are_right(tmp_path):
    for name, content in {**JPEGS, **OTHERS}.items():
        if name == 'transparent':  # OpenCV drops the alpha, Pillow too
            continue
        assert outcome(f'{tmp_path}/{name}', content) == 'right', name


def test_damaged_photographs(tmp_path):
    outcomes = run(tmp_path, {**JPEGS, **OTHERS}, 300, 1, 'Photographs')
    assert outcomes.counts['truncated', 'refused'] > 5


@pytest.mark.slow
@pytest.mark.parametrize('files', [JPEGS, OTHERS], ids=['JPEG', 'others'])
def test_many_damaged_photographs(tmp_path, files):
    run(tmp_path, files, 3500, 2, f'Photographs {[*files]}', processes=2)


@pytest.mark.parametrize('name', JPEGS)
def test_a_photograph_cut_anywhere(tmp_path, name):
    """Grey in the place of what is missing would be trained on."""
    content = JPEGS[name]
    for end in range(2, len(content) - 1, 1 + len(content) // 40):
        assert find_fault(content[:end]) is not None
        zeros = content[:end] + bytes(len(content) - end)
        assert find_fault(zeros) is not None
    for rest in (b'', bytes(3), bytes(5000), b'from a camera' * 99, content):
        assert find_fault(content + rest) is None


def head_of_png(width, height, data=b'\0'):
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return as_png([(b'IHDR', header), (b'IDAT', zlib.compress(data)),
                   (b'IEND', b'')])


def with_jpeg_size(width, height, content=JPEGS['baseline']):
    place = max(content.find(b'\xff\xc0'), content.find(b'\xff\xc2'))
    return (content[:place + 5] + struct.pack('>HH', height, width) +
            content[place + 9:])


def with_bmp_size(width, height):
    content = OTHERS['bmp']
    return content[:18] + struct.pack('<ii', width, height) + content[26:]


def with_tiff_size(width, height):
    content = bytearray(saved('TIFF'))
    place = struct.unpack_from('<I', content, 4)[0]
    for entry in range(struct.unpack_from('<H', content, place)[0]):
        at = place + 2 + 12 * entry
        tag = struct.unpack_from('<H', content, at)[0]
        if tag in (256, 257):
            struct.pack_into('<HHII', content, at, tag, 4, 1,
                             width if tag == 256 else height)
    return bytes(content)


def webp_bomb():
    # VP8X: canvas of 2**14 x 2**14, as many as are allowed
    canvas = (2**14 - 1).to_bytes(3, 'little')
    chunk = b'VP8X' + struct.pack('<I', 10) + bytes(4) + canvas + canvas
    body = b'WEBP' + chunk + saved('WEBP', lossless=True)[12:]
    return b'RIFF' + struct.pack('<I', len(body)) + body


def text_bomb(kind):
    big = zlib.compress(bytes(1 << 27), 9)
    data = dict(
        zTXt=b'k\0\0' + big, iTXt=b'k\0\1\0\0\0' + big, iCCP=b'k\0\0' + big)
    first, *rest = png_chunks(OTHERS['transparent'])
    return as_png([first, (kind.encode(), data[kind]), *rest])


BOMBS = dict(
    png=head_of_png(60000, 60000),
    png_data=head_of_png(13000, 13000, bytes(1000)),
    png_wide=head_of_png(2**31 - 1, 2),
    jpeg=with_jpeg_size(60000, 60000),
    jpeg_progressive=with_jpeg_size(60000, 60000, JPEGS['progressive']),
    jpeg_below_the_limit=with_jpeg_size(13000, 13000),
    jpeg_scans=JPEGS['progressive'][:-2] +
    JPEGS['progressive'][JPEGS['progressive'].index(b'\xff\xda'):-2] * 200 +
    b'\xff\xd9',
    bmp=with_bmp_size(60000, 60000),
    tiff=with_tiff_size(60000, 60000),
    webp=webp_bomb())


@pytest.mark.parametrize('name', BOMBS)
def test_bombs(tmp_path, name):
    """They are refused before their memory is taken."""

    def work(content):
        return outcome(f'{tmp_path}/bomb', content, must_refuse=True)

    assert children.run([BOMBS[name]], work, SECONDS) == ['refused']


@pytest.mark.parametrize('kind', ['zTXt', 'iTXt', 'iCCP'])
def test_chunks_that_inflate(tmp_path, kind):
    """Pillow reads at most 1 MB of a compressed text."""

    def work(content):
        return outcome(f'{tmp_path}/bomb.png', content)

    found = children.run([text_bomb(kind)], work, SECONDS)
    assert found[0] in ('refused', 'right')


@pytest.mark.parametrize('name', ['png', 'jpeg', 'bmp', 'tiff'])
def test_the_message_names_size_limit_and_way_out(tmp_path, name):
    path = tmp_path / 'bomb'
    path.write_bytes(BOMBS[name])
    for way in (train, read_for_inference, check):
        with pytest.raises(InputError) as info:
            way(str(path))
        for text in (path, 3600000000, DEFAULT_LIMIT, LIMIT):
            assert str(text) in str(info.value)


def test_the_limit_is_a_setting(tmp_path, monkeypatch):
    path = tmp_path / 'a.jpg'
    path.write_bytes(JPEGS['baseline'])
    monkeypatch.setenv(LIMIT, str(SIZE[0] * SIZE[1]))
    assert train(str(path)).shape[:2] == SIZE
    monkeypatch.setenv(LIMIT, str(SIZE[0] * SIZE[1] - 1))
    with pytest.raises(InputError, match=f'{LIMIT}'):
        train(str(path))
    monkeypatch.setenv(LIMIT, 'many')
    with pytest.raises(InputError, match=f'{LIMIT}=many'):
        train(str(path))
    monkeypatch.setenv(LIMIT, str(10**10))
    path.write_bytes(BOMBS['png'])
    with pytest.raises(InputError, match='cannot fill the 60000 x 60000'):
        train(str(path))


@pytest.mark.parametrize('size', [(2048, 1024), (10000, 10000)])
def test_sizes_that_are_in_use(size):
    for content in (head_of_png(*size, bytes(3 * size[0] * size[1] // 50)),
                    with_jpeg_size(*size) + bytes(size[0] * size[1] // 500)):
        assert claimed_size(content) == size[::-1]
        fault = find_fault(content)
        assert fault is None or 'fill' in fault


def test_a_size_that_is_not_the_jsons(tmp_path):
    """It is told before anything is decoded."""
    path = tmp_path / 'a'
    for content in (head_of_png(9000, 9000,
                                bytes(99)), with_jpeg_size(9000, 9000)):
        path.write_bytes(content)
        with pytest.raises(
                InputError, match=r'9000, 9000\) \(h, w\), the JSON says'):
            train(str(path), SIZE)
    path.write_bytes(JPEGS['turned'])
    assert train(str(path), SIZE[::-1]).shape[:2] == SIZE[::-1]
    with pytest.raises(InputError, match='orientation tag'):
        train(str(path), SIZE)


def test_the_converter_refuses_bombs(tmp_path):
    for name, content in BOMBS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / 'a.png').write_bytes(content)
        with pytest.raises(InputError, match='a.png: not a readable image'):
            find_pairs(
                str(tmp_path / name), str(tmp_path / name), '.png', '.png')


def test_the_inferencer_goes_on(tmp_path):
    """One line for each file that cannot be used."""
    config, checkpoint = write_tiny_model(tmp_path)
    (tmp_path / 'images').mkdir()
    files = dict(BOMBS, cut=JPEGS['baseline'][:-30], good=JPEGS['turned'])
    for name, content in files.items():
        (tmp_path / 'images' / f'{name}.jpg').write_bytes(content)
    segment = PanopticInferencer(str(config), str(checkpoint))
    found = segment(str(tmp_path / 'images'))['predictions']
    assert len(found) == len(files)
    told = [entry['error'] for entry in found if 'error' in entry]
    for name in files:
        assert (name == 'good') != any(f'{name}.jpg: ' in e for e in told)
