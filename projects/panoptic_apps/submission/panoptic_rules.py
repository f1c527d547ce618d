"""Rules of a panoptic submission in COCO's format, COCO or Cityscapes.

``NAME.json``   dict(annotations=[dict(image_id, file_name, segments_info=
                [dict(id, category_id)])]), one entry for each image
``NAME/*.png``  RGB of 8 bits, id = R + 256 * G + 256**2 * B, void = 0

Both directly in the archive
(https://cocodataset.org/#format-results, part 4, and #upload).
"""
import json
from collections import Counter
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

from panoptic_fpn.coco_format import (Fault, Pair, measure_segments,
                                      panoptic_faults, png_faults, png_pixels)
from panoptic_fpn.coco_format.faults import Found

from .contents import (Expected, Members, Progress, find_in_files, name_faults,
                       names_ending, silent)


class PngJob(NamedTuple):
    """A PNG, its name, its segments in the JSON and its size (h, w)."""

    member: Path
    name: str
    segments: List[dict]
    size: Tuple[int, int]


def panoptic_rules(members: Members,
                   expected: Expected,
                   stem: Optional[str] = None,
                   num_workers: int = 1,
                   progress: Progress = silent) -> Iterator[Fault]:
    """All faults of an archive.

    Args:
        members (Members): Its files.
        expected (Expected): Images and classes.
        stem (str, optional): Name that the JSON must have; by default any.
        num_workers (int): Processes that read PNGs.
        progress (Callable): Called with a text and a number of images, gives
            a function that is called with 1 after each.
    """
    yield from name_faults(members)
    name = yield from find_json(members, stem)
    content = None
    if name is not None:
        content = yield from read_json(members[name].read_bytes(), name)
    if name is None or content is None:
        return
    if not isinstance(content, dict) or 'annotations' not in content:
        yield Fault('key_missing', name, 'no list "annotations"')
        return
    structure = yield from panoptic_faults(
        dict(
            images=[
                dict(id=id_, file_name='any', height=height, width=width)
                for id_, (height, width) in expected.sizes.items()
            ],
            categories=[
                dict(id=c.id, name=c.name, isthing=int(c.isthing))
                for c in expected.space.categories
            ],
            annotations=content['annotations']), name)
    yield from _result_faults(structure.pairs, name)
    folder = name[:-len('.json')]
    yield from _file_faults(content['annotations'], members, name, folder)
    jobs = []
    for image, note, segments in structure.pairs:
        png = f'{folder}/{(note or {}).get("file_name")}'
        if png in members:
            jobs.append(
                PngJob(members[png], png, segments,
                       (image['height'], image['width'])))
    yield from find_in_files('check PNGs', _png_faults, jobs, num_workers,
                             progress)


def find_json(members: Members, stem: Optional[str]) -> Found[Optional[str]]:
    """Name of the JSON of an archive, which lies directly in it."""
    names = names_ending(members, '.json')
    if len(names) != 1:
        yield Fault('layout', 'archive',
                    f'{len(names)} JSON files, not one: {names[:3]}')
        return None
    if '/' in names[0]:
        yield Fault('layout', names[0], 'lies in a folder')
    if stem is not None and Path(names[0]).stem != stem:
        yield Fault('file_name', names[0], f'must be named {stem}.json')
    return names[0]


def read_json(content: bytes, name: str) -> Found[Any]:
    """Content of a JSON; NaN and Infinity, which Python reads, are none."""
    try:
        return json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # also what is not UTF-8
        yield Fault('json_unreadable', name, f'is no JSON ({error})')
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f'{constant} is no number of JSON')


def _result_faults(pairs: List[Pair], name: str) -> Iterator[Fault]:
    """Rules of results alone: each image has one, and none has a crowd."""
    for image, note, segments in pairs:
        where = f'{name}: image_id={image["id"]!r}'
        if note is None:
            yield Fault('no_result', where, 'no entry in the JSON')
        for segment in segments:
            if segment.get('iscrowd') == 1:
                yield Fault(
                    'crowd', where, f'segment {segment["id"]} has iscrowd=1; '
                    'results have no crowd')


def _file_faults(notes: Any, members: Members, name: str,
                 folder: str) -> Iterator[Fault]:
    """The folder beside the JSON holds each PNG, once, and nothing else."""
    notes = notes if isinstance(notes, list) else []
    counts = Counter(
        str(note.get('file_name')) for note in notes if isinstance(note, dict))
    for file_name, count in counts.items():
        if count > 1:
            yield Fault('file_named_twice', file_name, f'of {count} images')
        if not file_name.endswith('.png') or '/' in file_name:
            yield Fault('file_name', file_name, 'not the plain name of a .png')
        if f'{folder}/{file_name}' not in members:
            yield Fault('png_missing', file_name,
                        f'not in the folder {folder}')
    for member in members:
        parent, _, file_name = member.rpartition('/')
        if member != name and (parent != folder or file_name not in counts):
            yield Fault('layout', member, f'not listed in {name}')


def _png_faults(job: PngJob) -> Iterator[Fault]:
    """Whether a PNG and its entry are about the same segments."""
    pixels = yield from png_pixels(job.member.read_bytes(), job.name, job.size)
    if pixels is None:
        return
    measured = measure_segments(pixels, (0, ))
    # results need no area and no box
    segments = [
        dict(dict(zip(('area', 'bbox'), measured.get(s['id'], ()))), **s)
        for s in job.segments
    ]
    for fault in png_faults(measured, segments, job.name, 'it'):
        if fault.kind != 'all_void':
            yield fault
