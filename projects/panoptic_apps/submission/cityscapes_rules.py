"""Rules of Cityscapes' pixel and instance tasks.

``ID*.png``   (pixels) grey of 8 bits, ids of the label table; one an image
``ID*.txt``   (instances) one an image, a line for each instance: relative
              path of its mask, id of the label table, confidence
``masks``     grey of 8 bits, not 0 where the instance is

ID is ``<city>_<sequence>_<frame>``; the official scripts search all folders.
Facts from cityscapesscripts' evaluation (``getPrediction``, ``readPredInfo``),
which is also what the server runs.
"""
import posixpath
import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
from cityscapesscripts.helpers.labels import id2label

from panoptic_fpn.coco_format import WARNING, Fault, png_pixels
from panoptic_fpn.coco_format.faults import Found

from .contents import (Expected, Members, Progress, find_in_files, name_faults,
                       names_ending, silent)

_ID = re.compile(r'([^_/]+_\d+_\d+)')


class PixelJob(NamedTuple):
    """A semantic map and its size (h, w)."""

    member: Path
    name: str
    size: Tuple[int, int]


class InstanceJob(NamedTuple):
    """The lines of an image, its masks by path, their size (h, w)."""

    name: str
    lines: List[str]
    masks: Dict[str, Path]
    size: Tuple[int, int]
    things: List[int]


def _one_for_each_image(names: List[str], expected: Expected,
                        suffix: str) -> Found[Dict[str, str]]:
    """The file of each image, as the scripts search for it; returns image id
    -> name, of images with just one."""
    groups: Dict[Optional[str], List[str]] = {}
    for name in names:
        match = _ID.match(posixpath.basename(name))
        groups.setdefault(match and match[1], []).append(name)
    chosen = {}
    for image_id in expected.sizes:
        candidates = groups.pop(image_id, [])
        if len(candidates) == 1:
            chosen[image_id] = candidates[0]
        elif candidates:
            yield Fault('result_twice', f'image {image_id}',
                        f'several files: {candidates[:3]}')
        else:
            yield Fault('no_result', f'image {image_id}',
                        f'no file {image_id}*{suffix}')
    for strays in groups.values():
        for name in strays:
            yield Fault('unknown_image', name, 'of no image of this test set')
    return chosen


def pixel_rules(members: Members,
                expected: Expected,
                stem: Optional[str] = None,
                num_workers: int = 1,
                progress: Progress = silent) -> Iterator[Fault]:
    """All faults of an archive of semantic maps, see ``panoptic_rules``."""
    yield from name_faults(members)
    names = names_ending(members, '.png')
    for name in sorted(set(members) - set(names)):
        yield Fault('layout', name, 'is no .png')
    chosen = yield from _one_for_each_image(names, expected, '.png')
    jobs = [
        PixelJob(members[name], name, expected.sizes[image_id])
        for image_id, name in chosen.items()
    ]
    yield from find_in_files('check maps', _map_faults, jobs, num_workers,
                             progress)


def _values(pixels: np.ndarray) -> List[int]:
    return np.flatnonzero(np.bincount(pixels.ravel())).tolist()


def _map_faults(job: PixelJob) -> Iterator[Fault]:
    """Whether a map holds ids of the label table."""
    pixels = yield from png_pixels(job.member.read_bytes(), job.name, job.size,
                                   1)
    if pixels is None:
        return
    values = _values(pixels)
    unknown = [v for v in values if v not in id2label]
    if unknown:
        yield Fault('label_id', job.name,
                    f'{unknown[:5]} are not in the label table')
    ignored = [v for v in values if v in id2label and id2label[v].ignoreInEval]
    if ignored:
        yield Fault('ignored_id', job.name,
                    f'{ignored[:5]} are not evaluated; are these train ids?',
                    WARNING)


def instance_rules(members: Members,
                   expected: Expected,
                   stem: Optional[str] = None,
                   num_workers: int = 1,
                   progress: Progress = silent) -> Iterator[Fault]:
    """All faults of an archive of instances, see ``panoptic_rules``."""
    yield from name_faults(members)
    texts = names_ending(members, '.txt')
    chosen = yield from _one_for_each_image(texts, expected, '.txt')
    space = expected.space
    things = list(space.category_ids[:space.num_things])
    jobs: List[InstanceJob] = []
    used: Dict[str, str] = {}
    for image_id, name in chosen.items():
        try:
            lines = members[name].read_bytes().decode('ascii').splitlines()
        except UnicodeDecodeError:
            yield Fault('line', name, 'is no plain text')
            continue
        paths = {_resolve(name, line.split(' ')[0]) for line in lines}
        for path in sorted(paths):
            if used.setdefault(path, name) != name:
                yield Fault('mask_twice', path,
                            f'of {used[path]} and of {name}')
        masks = {path: members[path] for path in paths if path in members}
        jobs.append(
            InstanceJob(name, lines, masks, expected.sizes[image_id], things))
    for name in sorted(set(members) - set(texts) - set(used)):
        yield Fault('layout', name, 'no line of a text file names it')
    yield from find_in_files('check instances', _text_faults, jobs,
                             num_workers, progress)


def _resolve(name: str, path: str) -> str:
    """Name in the archive of a mask that a text file names."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), path))


def _text_faults(job: InstanceJob) -> Iterator[Fault]:
    """Faults of the lines of an image and of its masks."""
    seen = set()
    for i, line in enumerate(job.lines, 1):
        where = f'{job.name}, line {i}'
        parts = line.split(' ')
        if len(parts) != 3:
            yield Fault(
                'line', where, f'{line[:80]!r} is not a path, an id and a '
                'confidence with one blank between them')
            continue
        yield from _value_faults(parts, job.things, where)
        path = _resolve(job.name, parts[0])
        if posixpath.isabs(parts[0]) or path.startswith('..'):
            yield Fault('line', where, f'{parts[0]} is not within the archive')
        elif path in seen:
            yield Fault('mask_twice', where, f'{path} again')
        elif path not in job.masks:
            yield Fault('mask_missing', where, f'{path} is not there')
        else:
            yield from _mask_faults(job.masks[path], path, job.size)
        seen.add(path)


def _value_faults(parts: List[str], things: List[int],
                  where: str) -> Iterator[Fault]:
    """Id and confidence of a line."""
    if not parts[1].isdigit() or int(parts[1]) not in things:
        yield Fault(
            'label_id', where, f'{parts[1]!r} is not the id of a class with '
            f'instances ({things})')
    try:
        score = float(parts[2])
    except ValueError:
        score = float('nan')
    if not 0 <= score <= 1:
        yield Fault('score', where,
                    f'{parts[2].strip()!r} is not within 0 .. 1')


def _mask_faults(member: Path, name: str, size: Tuple[int,
                                                      int]) -> Iterator[Fault]:
    """A mask has pixels, and they have one value."""
    pixels = yield from png_pixels(member.read_bytes(), name, size, 1)
    if pixels is None:
        return
    values = [v for v in _values(pixels) if v > 0]
    if not values:
        yield Fault('empty_mask', name, 'has no pixel')
    elif len(values) > 1:
        yield Fault('mask_values', name,
                    f'{values[:5]}: all but 0 count as the instance', WARNING)
