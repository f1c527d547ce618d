"""PNGs of ids that are damaged or changed: refused, or the map is right.

COCO's panoptic PNGs, Cityscapes' label images and maps of classes go through
the training pipeline, whose maps evaluation reads too, through the data set
check and the converters. Right is what Pillow reads, by plain loops. ``pytest
-m slow -s tests/fuzz/test_label_maps.py`` prints what became of the files.
"""
import io
import os
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mmengine_exact.errors import InputError
from panoptic_apps.check_dataset.image_files import ImageJob, check_image
from panoptic_apps.convert_data.cityscapes.conversion import describe_segments
from panoptic_apps.convert_data.label_map import read_label_map
from panoptic_fpn.coco_format import ERROR
from panoptic_fpn.data import DerivePanopticTargets, LoadPanopticMap
from panoptic_fpn.labels import LabelSpace
from tests.oracles.derive import (derive_instances, derive_panoptic,
                                  derive_semantic, same_partition)
from tests.oracles.perturb import rgb_of_ids

from .mutate import as_png, mutated_bytes, png_chunks
from .test_images import MEMORY, is_cut, judge_all, peak

CATEGORIES = [
    dict(id=26, name='car', isthing=1),
    dict(id=24, name='person', isthing=1),
    dict(id=7, name='road', isthing=0),
    dict(id=23, name='sky', isthing=0)
]
SPACE = LabelSpace.from_coco(CATEGORIES)
SIZE = 24, 32


def scene(ids):
    """(h, w) int: the first id is the background."""
    rng = np.random.default_rng(5)
    values = np.full(SIZE, ids[0])
    for id_ in ids[1:]:
        y, x = rng.integers(0, 16), rng.integers(0, 20)
        values[y:y + rng.integers(5, 9), x:x + rng.integers(5, 12)] = id_
    for place, id_ in enumerate(ids):
        values[0, place] = id_
    return values


def segment(id_, category, crowd=0):
    return dict(id=id_, category_id=category, iscrowd=crowd)


def saved(pixels, palette=None):
    image = Image.fromarray(pixels)
    if palette is not None:
        image = image.convert('P')
        image.putdata(pixels.ravel().tolist())
        image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, 'PNG')
    return buffer.getvalue()


class Kind:
    """One kind of PNG with its annotation.

    ``ids`` that the map holds, void included; ``void`` is None for COCO's RGB;
    ``dtype`` is that of a map with one channel; with ``class_map`` ids are
    classes.
    """

    def __init__(self,
                 ids,
                 segments,
                 void=None,
                 ignored=(),
                 dtype=np.uint8,
                 class_map=False):
        self.values = scene(ids)
        self.segments, self.void, self.ignored = segments, void, list(ignored)
        self.dtype, self.class_map = dtype, class_map
        self.good = self.encode(self.values)

    def encode(self, values):
        if self.void is None:
            return saved(rgb_of_ids(values))
        palette = list(range(255, -1, -1)) * 3 if self.class_map else None
        return saved(values.astype(self.dtype), palette)

    def read(self, content):
        """Ids (h, w) by Pillow; None where it is no PNG of this kind."""
        try:
            with Image.open(io.BytesIO(content)) as image:
                modes = (('RGB', ) if self.void is None else
                         ('1', 'L', 'P', 'I;16', 'I', 'I;16B'))
                if image.mode not in modes or image.size != SIZE[::-1]:
                    return None
                pixels = np.asarray(image).astype(np.int64)
                if image.format == 'PNG' and image.mode == 'L':
                    # grey of 2 and 4 bits fills the range
                    pixels //= 255 // (2**content[24] - 1)
        except Exception:
            return None
        if self.void is None:
            pixels = pixels @ (1, 256, 65536)
        return pixels

    def results(self, path):
        keys = {}
        if self.void is not None:
            keys.update(void_ids=self.void, ignored_ids=self.ignored)
        return dict(
            keys,
            seg_map_path=path,
            img_path='image.jpg',
            ori_shape=SIZE,
            segments_info=[
                dict(
                    id=s['id'],
                    category=SPACE.label(s['category_id']),
                    iscrowd=s['iscrowd']) for s in self.segments
            ],
            class_map=self.class_map,
            label_space=SPACE)

    def fits(self, ids):
        """Whether the ids of a map are those of the annotation."""
        found = set(np.unique(ids).tolist())
        listed = {s['id'] for s in self.segments} | set(self.ignored)
        missing = set() if self.class_map else listed - found
        return not missing and found <= listed | set(self.void or [0])


KINDS = dict(
    coco=Kind([0, 5, 2**16 + 7, 900, 2**24 - 1, 255, 256], [
        segment(5, 7),
        segment(2**16 + 7, 26),
        segment(900, 24),
        segment(2**24 - 1, 26, 1),
        segment(255, 23),
        segment(256, 26),
    ]),
    instance_ids=Kind([7, 0, 3, 26, 26000, 26001, 24003, 23, 29000], [
        segment(7, 7),
        segment(26, 26, 1),
        segment(26000, 26),
        segment(26001, 26),
        segment(24003, 24),
        segment(23, 23),
    ], [0, 3, 65535], [29000], np.uint16),
    label_ids=Kind(
        [7, 0, 23, 26, 3],
        [segment(7, 7), segment(23, 23),
         segment(26, 26, 1)], [0, 3, 255]),
    class_map=Kind(
        [7, 0, 23],
        [segment(c['id'], c['id'], c['isthing'])
         for c in CATEGORIES], [0, 255],
        class_map=True))


def changed_pixels(draw, kind):
    """(name, PNG that is sound, with other ids)."""
    values = kind.values.copy()
    name = draw.choice(('void', 'other', 'new', 'merged', 'rows', 'transposed',
                        'cropped', 'same'))
    ids = np.unique(values).tolist()
    if name == 'void':
        values[values == draw.choice(ids)] = 0
    elif name == 'other':
        values[draw.randrange(24), draw.randrange(32)] = draw.choice(ids)
    elif name == 'new':
        values[draw.randrange(24), draw.randrange(32)] = draw.randrange(
            256 if kind.dtype == np.uint8 else 2**16)
    elif name == 'merged':
        values[values == draw.choice(ids)] = draw.choice(ids)
    elif name == 'rows':
        values = values[::-1]
    elif name == 'transposed':
        values = values.T
    elif name == 'cropped':
        values = values[:-1]
    return f'pixels {name}', kind.encode(np.ascontiguousarray(values))


def changed_kind(draw, kind):
    """(name, the PNG in another kind of file)."""
    with Image.open(io.BytesIO(kind.good)) as image:
        image.load()
    name = draw.choice(('L', 'P', 'RGB', 'RGBA', '1', 'I;16', 'JPEG', 'BMP',
                        'WEBP', 'LA', 'bits'))
    buffer = io.BytesIO()
    if name in ('JPEG', 'BMP', 'WEBP'):
        image.convert('RGB').save(buffer, name)
    elif name == 'bits':
        image.convert('P').save(buffer, 'PNG', bits=4)
    elif name == 'I;16':
        Image.fromarray(kind.values.astype(np.uint16)).save(buffer, 'PNG')
    else:
        image.convert('L' if name == '1' else 'RGB').convert(name).save(
            buffer, 'PNG')
    return f'as {name}', buffer.getvalue()


def changed_chunks(draw, kind):
    """(name, PNG with another chunk; all checksums are right).

    No byte of the compressed stream is changed together with its chunk's
    checksum: kornia-rs does not compare the stream's second one, Adler-32.
    """
    chunks = png_chunks(kind.good)
    name = draw.choice(
        ('IHDR', 'tRNS', 'gAMA', 'order', 'lost', 'twice', 'stream'))
    place = draw.randrange(len(chunks))
    if name == 'IHDR':
        data = bytearray(chunks[0][1])
        data[draw.randrange(13)] = draw.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        chunks[0] = b'IHDR', bytes(data)
    elif name == 'stream':
        at = [chunk for chunk, _ in chunks].index(b'IDAT')
        rows = bytearray(
            zlib.decompress(b''.join(d for c, d in chunks if c == b'IDAT')))
        how = draw.choice(('short', 'long', 'byte'))
        if how == 'short':
            del rows[-draw.randint(1, 200):]
        elif how == 'long':
            rows += bytes(draw.randint(1, 200))
        else:
            rows[draw.randrange(len(rows))] ^= 1 << draw.randrange(8)
        chunks[at] = b'IDAT', zlib.compress(bytes(rows))
        name = f'stream {how}'
    elif name == 'tRNS':
        chunks.insert(1, (b'tRNS', draw.randbytes(draw.choice((1, 2, 6)))))
    elif name == 'gAMA':
        chunks.insert(1, (b'gAMA', struct.pack('>I', 20000)))
    elif name == 'order':
        draw.shuffle(chunks)
    elif name == 'lost':
        del chunks[place]
    else:
        chunks.insert(place, chunks[place])
    return f'chunk {name}', as_png(chunks)


def loaded(kind, path):
    """What the pipeline makes of a PNG."""
    results = LoadPanopticMap().transform(kind.results(path))
    return DerivePanopticTargets(panoptic=True).transform(results)


def is_right(kind, results, ids):
    """Whether targets are those of the plain loops."""
    segments = kind.segments
    if kind.class_map:
        segments = [s for s in segments if (ids == s['id']).any()]
    instances = derive_instances(ids, segments, CATEGORIES)
    panoptic = derive_panoptic(ids, segments, CATEGORIES)
    found = results['gt_panoptic_map']
    # ignored ones have numbers, where the plain map is void
    plain = np.where(found % 1000 == SPACE.void, SPACE.void, found)
    return (
        np.array_equal(results['gt_bboxes'].tensor.numpy(), instances['boxes'])
        and np.array_equal(results['gt_masks'].masks, instances['masks'])
        and np.array_equal(results['gt_bboxes_labels'], instances['labels'])
        and np.array_equal(results['gt_ignore_flags'], instances['crowd'])
        and np.array_equal(results['gt_seg_map'],
                           derive_semantic(ids, segments, CATEGORIES))
        and same_partition(plain, panoptic['map']))


def outcome(kind, path, content, must_refuse=False):
    """What becomes of one file, whichever way it goes."""
    with open(path, 'wb') as file:
        file.write(content)
    before, ids = peak(), kind.read(content)
    try:
        results = loaded(kind, path)
    except InputError as error:
        assert path in str(error), str(error)
        results = None
    except Exception as error:
        return f'raw {type(error).__name__}: {error}'
    told = converted(kind, path, ids)
    if told is not None:
        return told
    if not kind.class_map:
        try:
            found = check(kind, path)
        except Exception as error:
            return f'raw check {type(error).__name__}: {error}'
        if bool(found) != (results is None):
            return f'disagreement {[f.kind for f in found]}'
    if peak() - before > MEMORY:
        return f'memory {peak() - before:.0f} MB'
    if results is None:
        return 'refused'
    if must_refuse:
        return 'unnoticed'
    if ids is None:
        # Pillow is stricter about what changes no pixel
        ids = kind.values
    if not kind.fits(ids) or not is_right(kind, results, ids):
        return 'wrong map'
    return 'right'


def check(kind, path):
    """Errors that the data set check finds, but for areas."""
    found = check_image(
        ImageJob(
            where='image_id=1',
            image=None,
            png=path,
            size=SIZE,
            segments=[dict(id=s['id']) for s in kind.segments],
            other_ids=kind.void,
            ignored=kind.ignored)).faults
    return [f for f in found if f.severity == ERROR and f.kind != 'area']


def converted(kind, path, ids):
    """What is wrong with how converters read the PNG; None: nothing."""
    ways = []
    if kind.void is not None:
        ways.append(lambda: read_label_map(path))
    if kind.dtype == np.uint16:
        ways.append(lambda: read_label_map(path, SIZE))
    for way in ways:
        try:
            values = way()
        except InputError as error:
            if path not in str(error):
                return f'raw {error}'
            continue
        except Exception as error:
            return f'raw converter {type(error).__name__}: {error}'
        if ids is not None and not np.array_equal(values, ids):
            return 'wrong values'
        if values.dtype == np.uint16 and way is ways[-1]:
            try:
                describe_segments(values, path)
            except InputError as error:
                assert path in str(error)
    return None


def mutated(draw, kind):
    """(name, content, whether it must be refused)."""
    way = draw.choice(('bytes', 'bytes', 'pixels', 'kind', 'chunks'))
    if way == 'bytes':
        name, content = mutated_bytes(draw, kind.good, 40)
        return name, content, is_cut(name, kind.good, content)
    change = dict(
        pixels=changed_pixels, kind=changed_kind, chunks=changed_chunks)[way]
    return *change(draw, kind), False


def run(folder, kinds, count, seed, title, processes=1):
    draw = random.Random(seed)

    def work(job):
        name, state = job
        kind = KINDS[name]
        fault, content, must_refuse = mutated(random.Random(state), kind)
        path = f'{folder}/{os.getpid()}.{name}'
        return [fault, outcome(kind, path, content, must_refuse)]

    jobs = [(draw.choice(list(kinds)), draw.random()) for _ in range(count)]
    judge_all(jobs, work, title, processes)


@pytest.mark.parametrize('name', KINDS)
def test_good_files_are_right(tmp_path, name):
    kind = KINDS[name]
    assert outcome(kind, f'{tmp_path}/a.png', kind.good) == 'right'


def test_damaged_maps(tmp_path):
    run(tmp_path, KINDS, 300, 1, 'Label maps')


@pytest.mark.slow
@pytest.mark.parametrize('name', KINDS)
def test_many_damaged_maps(tmp_path, name):
    run(tmp_path, [name], 3200, 2, f'Label maps {name}', processes=2)
