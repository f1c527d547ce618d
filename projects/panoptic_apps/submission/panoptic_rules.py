"""Rules of a panoptic submission in COCO's format, COCO or Cityscapes.

``NAME.json``   dict(annotations=[dict(image_id, file_name, segments_info=
                [dict(id, category_id)])]), one entry for each image
``NAME/*.png``  RGB of 8 bits, id = R + 256 * G + 256**2 * B, void = 0

Both directly in the archive
(https://cocodataset.org/#format-results, part 4, and #upload).
"""
from collections import Counter
from pathlib import PurePosixPath
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from mmengine_exact.workers import run_jobs
from panoptic_fpn.labels import MAX_SEGMENT_ID, rgb_to_id

from .contents import Members, Progress, name_violations, names_ending, silent
from .expected import Expected
from .json_rules import is_whole, read_json
from .png_rules import RGB, read_png
from .violations import Violation


class PngJob(NamedTuple):
    """What a process is told: a PNG, its entry and the size (h, w)."""

    member: Any
    name: str
    segments: List
    size: Tuple[int, int]


def panoptic_violations(members: Members,
                        expected: Expected,
                        stem: Optional[str] = None,
                        num_workers: int = 1,
                        progress: Progress = silent) -> List[Violation]:
    """All violations of an archive.

    Args:
        members (Members): Its files.
        expected (Expected): Images and classes.
        stem (str, optional): Name that the JSON must have; by default any.
        num_workers (int): Processes that read PNGs.
        progress (Callable): Called with a text and a number of images, gives
            a function that is called with 1 after each.

    Returns:
        list[Violation]: Empty where all is well.
    """
    found = [v for name in members for v in name_violations(name)]
    name, more = find_json(members, stem)
    found += more
    if name is None:
        return found
    content, more = read_json(members[name].read(), name)
    entries, structure = read_entries(content, name) if not more else ([], [])
    found += more + structure
    if more or entries is None:
        return found
    found += image_violations(entries, expected, name)
    found += file_violations(entries, members, name)
    for entry in entries:
        found += segment_violations(entry, expected)
    jobs = png_jobs(entries, members, expected, name[:-len('.json')])
    update = progress('check PNGs', len(jobs))
    for result in run_jobs(png_violations, jobs, num_workers, in_order=True):
        found += result
        update(1)
    return found


def find_json(members: Members,
              stem: Optional[str]) -> Tuple[Optional[str], List[Violation]]:
    """The JSON of an archive, directly in it."""
    names = names_ending(members, '.json')
    if len(names) != 1:
        return None, [
            Violation('layout', 'archive',
                      f'{len(names)} JSON files, not one: {names[:3]}')
        ]
    name, found = names[0], []
    if '/' in name:
        found.append(Violation('layout', name, 'lies in a folder'))
    if stem is not None and PurePosixPath(name).stem != stem:
        found.append(
            Violation('file name', name, f'must be named {stem}.json'))
    return name, found


def read_entries(content: Any,
                 name: str) -> Tuple[Optional[List[Dict]], List[Violation]]:
    """Entries that have all keys, of the types they must have."""
    entries = content.get('annotations') if isinstance(content, dict) else None
    if not isinstance(entries, list):
        return None, [Violation('json', name, 'no list "annotations"')]
    kept, found = [], []
    for number, entry in enumerate(entries):
        usable = isinstance(entry, dict) and all((
            type(entry.get('image_id')) in (int, str),
            isinstance(entry.get('file_name'), str),
            isinstance(entry.get('segments_info'), list)))  # yapf: disable
        if usable:
            kept.append(entry)
        else:
            found.append(
                Violation(
                    'json', name, f'entry {number} needs image_id, '
                    f'file_name and segments_info: {str(entry)[:80]}'))
    return kept, found


def image_violations(entries: List[Dict], expected: Expected,
                     name: str) -> Iterator[Violation]:
    """Each image is there once, and no other."""
    counts = Counter(entry['image_id'] for entry in entries)
    for image_id, count in counts.items():
        yield from expected.check_id(image_id, name)
        if count > 1:
            yield Violation('image twice', f'image {image_id!r}',
                            f'{count} entries')
    for image_id in expected.sizes:
        if image_id not in counts:
            yield Violation('missing image', f'image {image_id!r}',
                            'no entry in the JSON')


def file_violations(entries: List[Dict], members: Members,
                    name: str) -> Iterator[Violation]:
    """The folder beside the JSON holds each PNG, once, and nothing else."""
    folder = name[:-len('.json')]
    counts = Counter(entry['file_name'] for entry in entries)
    for file_name, count in counts.items():
        if count > 1:
            yield Violation('png twice', file_name, f'of {count} images')
        if not file_name.endswith('.png') or '/' in file_name:
            yield Violation('file name', file_name,
                            'not the plain name of a .png')
        if f'{folder}/{file_name}' not in members:
            yield Violation('missing png', file_name,
                            f'not in the folder {folder}')
    listed = {f'{folder}/{file_name}' for file_name in counts}
    for member in members:
        if member != name and member not in listed:
            yield Violation('layout', member, f'not listed in {name}')


def segment_violations(entry: Dict, expected: Expected) -> List[Violation]:
    """Ids, categories and flags of one image's segments."""
    where, found, seen = f'image {entry["image_id"]!r}', [], set()
    for segment in entry['segments_info']:
        if not isinstance(segment, dict):
            found.append(Violation('json', where, f'segment {segment!r}'))
            continue
        id_, category = segment.get('id'), segment.get('category_id')
        if not is_whole(id_) or not 0 < id_ <= MAX_SEGMENT_ID:
            found.append(
                Violation('segment id', where,
                          f'{id_!r} is not within 1 .. {MAX_SEGMENT_ID}'))
        elif id_ in seen:
            found.append(Violation('segment id', where, f'{id_} twice'))
        else:
            seen.add(id_)
        if not is_whole(
                category) or category not in expected.space.category_ids:
            found.append(
                Violation(
                    'category', where, f'segment {id_!r} has the '
                    f'unknown category_id {category!r}'))
        if segment.get('iscrowd', 0) != 0:
            found.append(
                Violation(
                    'crowd', where, f'segment {id_!r} has iscrowd='
                    f'{segment["iscrowd"]!r}; results have no crowd'))
    return found


def png_jobs(entries: List[Dict], members: Members, expected: Expected,
             folder: str) -> List[PngJob]:
    """The PNGs that are there, of images that are known."""
    jobs = []
    for entry in entries:
        name = f'{folder}/{entry["file_name"]}'
        size = expected.sizes.get(entry['image_id'])
        if name in members and size is not None:
            jobs.append(
                PngJob(members[name], name, entry['segments_info'], size))
    return jobs


def png_violations(job: PngJob) -> List[Violation]:
    """Whether a PNG and its entry are about the same segments."""
    pixels, found = read_png(job.member.read(), job.name, job.size, RGB)
    if pixels is None:
        return found
    ids, areas = np.unique(rgb_to_id(pixels), return_counts=True)
    painted = {int(i): int(n) for i, n in zip(ids, areas) if i}
    # others are told by segment_violations
    listed = {
        s['id']: s
        for s in job.segments if isinstance(s, dict) and is_whole(s.get('id'))
    }
    for id_ in sorted(set(painted) - set(listed)):
        found.append(
            Violation('ids', job.name, f'segment {id_} is in the PNG alone'))
    for id_ in sorted(set(listed) - set(painted)):
        found.append(
            Violation('ids', job.name, f'segment {id_} is in the JSON alone'))
    for id_ in sorted(set(listed) & set(painted)):
        area = listed[id_].get('area', painted[id_])
        if area != painted[id_]:
            found.append(
                Violation(
                    'area', job.name, f'segment {id_} has area={area!r} '
                    f'and {painted[id_]} pixels'))
    return found
