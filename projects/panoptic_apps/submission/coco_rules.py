"""Rules of COCO's result formats (https://cocodataset.org/#format-results).

Panoptic, for COCO and for Cityscapes (part 4), both directly in the archive:

``NAME.json``   dict(annotations=[dict(image_id, file_name, segments_info=
                [dict(id, category_id)])]), one entry for each image
``NAME/*.png``  RGB of 8 bits, id = R + 256 * G + 256**2 * B, void = 0;
                panopticapi finds them in folders below NAME, too

Boxes and masks (part 1): a JSON, alone in the archive, a list of
dict(image_id, category_id, score) and ``bbox`` (x, y, width, height in pixels)
or ``segmentation`` (compressed RLE).
"""
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np

from panoptic_fpn.coco_format import (WARNING, Fault, measure_segments,
                                      panoptic_faults, png_faults, short)
from panoptic_fpn.coco_format.faults import Found, is_id, is_number, is_whole
from panoptic_fpn.coco_format.segmentations import (find_segmentation_fault,
                                                    rle_counts)

from .contents import Archive, Expected, PngJob

#: COCO's evaluation takes so many of an image, those with the best scores.
MAX_DETECTIONS = 100
#: Pixels that a box may lie outside of its image: it was rounded.
_SLACK = 1.


def panoptic_rules(archive: Archive) -> Iterator[Fault]:
    """All faults of an archive of panoptic maps."""
    name, content = yield from _json_of(archive)
    if content is None:
        return
    if not isinstance(content, dict) or 'annotations' not in content:
        yield Fault('key_missing', name, 'no list "annotations"')
        return
    expected = archive.expected
    truth = dict(
        images=[
            dict(id=id_, file_name='any', height=height, width=width)
            for id_, (height, width) in expected.sizes.items()
        ],
        categories=[asdict(c) for c in expected.space.categories])
    structure = yield from panoptic_faults(
        dict(truth, annotations=content['annotations']), name)
    folder = name[:-len('.json')]
    jobs = []
    for image, note, segments in structure.pairs:
        where = f'{name}: image_id={image["id"]!r}'
        if note is None:
            yield Fault('no_result', where, 'no entry in the JSON')
            continue
        for segment in segments:
            if segment.get('iscrowd') == 1:
                yield Fault(
                    'crowd', where, f'segment {segment["id"]} has iscrowd=1; '
                    'results have no crowd')
        png = f'{folder}/{note.get("file_name")}'
        if png in archive.members:
            size = image['height'], image['width']
            jobs.append(PngJob(archive.members[png], png, size, 3, segments))
    yield from _file_faults(content['annotations'], archive, name, folder)
    yield from archive.find_in_pngs('check PNGs', _png_faults, jobs)


def _json_of(archive: Archive) -> Found[Tuple[str, Any]]:
    """Name and content (None: none) of the JSON, which lies directly in the
    archive. NaN and Infinity, which Python reads, are no JSON."""
    names = archive.ending('.json')
    if len(names) != 1:
        yield Fault('layout', 'archive',
                    f'{len(names)} JSON files, not one: {names[:3]}')
        return '', None
    name, = names
    if '/' in name:
        yield Fault('layout', name, 'lies in a folder')
    if archive.stem not in (None, Path(name).stem):
        yield Fault('file_name', name, f'must be named {archive.stem}.json')
    try:
        content = archive.members[name].read_bytes()
        return name, json.loads(content, parse_constant=int)  # int('NaN')
    except (ValueError, RecursionError) as error:  # also what is not UTF-8
        yield Fault('json_unreadable', name, f'is not JSON ({error})')
        return name, None


def _file_faults(notes: Any, archive: Archive, name: str,
                 folder: str) -> Iterator[Fault]:
    """Whether the folder beside the JSON holds each PNG once, and no more."""
    notes = notes if isinstance(notes, list) else []
    counts = Counter(
        str(note.get('file_name')) for note in notes if isinstance(note, dict))
    for file_name, count in counts.items():
        if count > 1:
            yield Fault('file_named_twice', file_name, f'of {count} images')
        if not file_name.endswith('.png'):
            yield Fault('file_name', file_name, 'not the name of a .png')
        if f'{folder}/{file_name}' not in archive.members:
            yield Fault('png_missing', file_name,
                        f'not in the folder {folder}')
    listed = {name, *(f'{folder}/{file_name}' for file_name in counts)}
    for member in archive.members:
        if member not in listed:
            yield Fault('layout', member, f'not listed in {name}')


def _png_faults(pixels: np.ndarray, job: PngJob) -> Iterator[Fault]:
    """Whether a PNG and its entry are about the same segments."""
    measured = measure_segments(pixels, (0, ))
    # results need no area and no box
    segments = [
        dict(dict(zip(('area', 'bbox'), measured.get(s['id'], ()))), **s)
        for s in job.segments
    ]
    for fault in png_faults(measured, segments, job.name, 'it'):
        if fault.kind != 'all_void':
            yield fault


def detection_rules(archive: Archive, key: str) -> Iterator[Fault]:
    """All faults of an archive of boxes (``key`` is 'bbox') or of masks
    ('segmentation')."""
    name, content = yield from _json_of(archive)
    for other in archive.members:
        if not other.endswith('.json'):
            yield Fault('layout', other, 'nothing but the JSON belongs here')
    if not isinstance(content, list):
        if content is not None:
            yield Fault('wrong_value', name, 'is not a list of detections')
        return
    update = archive.progress('check detections', len(content))
    scores: Dict[Any, List[float]] = {}
    for i, entry in enumerate(content):
        faults = list(
            _entry_faults(entry, archive.expected, key, f'detection {i}'))
        yield from faults
        if not faults:
            scores.setdefault(entry['image_id'], []).append(entry['score'])
        update(1)
    yield from _rank_faults(scores)


def _entry_faults(entry: Any, expected: Expected, key: str,
                  where: str) -> Iterator[Fault]:
    if not isinstance(entry, dict):
        yield Fault('wrong_value', where, f'{short(entry)} is not an object')
        return
    image_id, category = entry.get('image_id'), entry.get('category_id')
    if not is_id(image_id) or image_id not in expected.sizes:
        yield Fault('unknown_image', where,
                    f'image_id={short(image_id)} is not of this test set')
        return
    size, space = expected.sizes[image_id], expected.space
    things = space.category_ids[:space.num_things]
    if not is_whole(category) or category not in things:
        yield Fault('unknown_category', where,
                    f'category_id={short(category)} is not a thing class')
    score = entry.get('score')
    if not is_number(score) or not 0 <= score <= 1:
        yield Fault('score', where, f'{short(score)} is not within 0 .. 1')
    for name, rules in (('bbox', _box_faults), ('segmentation', _mask_faults)):
        if name == key or name in entry:
            yield from rules(entry.get(name), size, where)


def _box_faults(box: Any, size: Tuple[int, int],
                where: str) -> Iterator[Fault]:
    if not isinstance(box, list) or len(box) != 4 or not all(
            map(is_number, box)):
        yield Fault('bbox', where, f'bbox={short(box)} is not four numbers')
        return
    x, y, width, height = box
    right, bottom = x + width - size[1], y + height - size[0]
    if min(width, height) < 0 or max(-x, -y, right, bottom) > _SLACK:
        yield Fault(
            'bbox', where, f'bbox={box} (x, y, width, height) is not within '
            f'{size[1]} x {size[0]} pixels')


def _mask_faults(rle: Any, size: Tuple[int, int],
                 where: str) -> Iterator[Fault]:
    if not isinstance(rle, dict) or not isinstance(rle.get('counts'), str):
        yield Fault('mask', where, 'no compressed RLE')
        return
    fault = find_segmentation_fault(rle, size)
    if fault is not None:
        yield Fault('mask', where, fault)
    elif not any((rle_counts(rle['counts']) or ())[1::2]):
        yield Fault('empty_mask', where, 'has no pixel', WARNING)


def _rank_faults(scores: Dict[Any, List[float]]) -> Iterator[Fault]:
    """Warnings about order and number of each image's detections."""
    for image_id, values in scores.items():
        where = f'image {image_id!r}'
        if len(values) > MAX_DETECTIONS:
            yield Fault(
                'too_many', where, f'{len(values)} detections, the best '
                f'{MAX_DETECTIONS} are judged', WARNING)
        if any(a < b for a, b in zip(values, values[1:])):
            yield Fault(
                'order', where, 'not from the best score down; ties may be '
                'broken in another order', WARNING)
