"""Rules of Cityscapes' pixel and instance tasks.

``ID*.png``   (pixels) grey of 8 bits, ids of the label table; one per image
``ID*.txt``   (instances) one per image, a line for each instance: relative
              path of its mask, id of the label table, confidence
``masks``     grey of 8 bits, not 0 where the instance is

ID is ``<city>_<sequence>_<frame>``; the official scripts search all folders.
Facts from cityscapesscripts' evaluation (``getPrediction``, ``readPredInfo``),
which is also what the server runs.
"""
import posixpath
import re
from typing import Dict, Iterator, List, Optional, Sequence

import numpy as np
from cityscapesscripts.helpers.labels import id2label

from panoptic_fpn.coco_format import WARNING, Fault
from panoptic_fpn.coco_format.faults import Found

from .contents import Archive, PngJob

_ID = re.compile(r'([^_/]+_\d+_\d+)')


def _one_for_each_image(archive: Archive,
                        suffix: str) -> Found[Dict[str, str]]:
    """The file of each image, as the scripts search for it; returns image id
    -> name, of images with just one."""
    groups: Dict[Optional[str], List[str]] = {}
    for name in archive.ending(suffix):
        match = _ID.match(posixpath.basename(name))
        groups.setdefault(match and match[1], []).append(name)
    chosen = {}
    for image_id in archive.expected.sizes:
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


def pixel_rules(archive: Archive) -> Iterator[Fault]:
    """All faults of an archive of semantic maps."""
    for name in sorted(set(archive.members) - set(archive.ending('.png'))):
        yield Fault('layout', name, 'is not a .png')
    chosen = yield from _one_for_each_image(archive, '.png')
    jobs = [
        PngJob(archive.members[name], name, archive.expected.sizes[image_id])
        for image_id, name in chosen.items()
    ]
    yield from archive.find_in_pngs('check maps', _map_faults, jobs)


def _map_faults(pixels: np.ndarray, job: PngJob) -> Iterator[Fault]:
    """Whether a map holds ids of the label table."""
    values = np.unique(pixels).tolist()
    unknown = [v for v in values if v not in id2label]
    if unknown:
        yield Fault('label_id', job.name,
                    f'{unknown[:5]} are not in the label table')
    ignored = [v for v in values if v in id2label and id2label[v].ignoreInEval]
    if ignored:
        yield Fault('ignored_id', job.name,
                    f'{ignored[:5]} are not evaluated; are these train ids?',
                    WARNING)


def instance_rules(archive: Archive) -> Iterator[Fault]:
    """All faults of an archive of instances."""
    members, (sizes, space) = archive.members, archive.expected
    things = space.category_ids[:space.num_things]
    chosen = yield from _one_for_each_image(archive, '.txt')
    jobs = []
    used: Dict[str, str] = {}
    for image_id, name in chosen.items():
        try:
            lines = members[name].read_text('ascii').splitlines()
        except UnicodeDecodeError:
            yield Fault('line', name, 'is not plain text')
            continue
        for i, line in enumerate(lines, 1):
            where, parts = f'{name}, line {i}', line.split(' ')
            path = posixpath.normpath(
                posixpath.join(posixpath.dirname(name), parts[0]))
            first = used.setdefault(path, where)
            if len(parts) != 3:
                yield Fault(
                    'line', where, f'{line[:80]!r} is not a path, an id and a '
                    'confidence with one blank between them')
                continue
            yield from _value_faults(parts, things, where)
            if posixpath.isabs(parts[0]) or path.startswith('..'):
                yield Fault('line', where,
                            f'{parts[0]} is not within the archive')
            elif first != where:
                yield Fault('mask_twice', where, f'{path}, as {first}')
            elif path not in members:
                yield Fault('mask_missing', where, f'{path} is not there')
            else:
                jobs.append(PngJob(members[path], path, sizes[image_id]))
    for name in sorted(set(members) - set(archive.ending('.txt')) - set(used)):
        yield Fault('layout', name, 'no line of a text file names it')
    yield from archive.find_in_pngs('check masks', _mask_faults, jobs)


def _value_faults(parts: List[str], things: Sequence[int],
                  where: str) -> Iterator[Fault]:
    """Faults of id and confidence of a line."""
    if not parts[1].isdigit() or int(parts[1]) not in things:
        yield Fault(
            'label_id', where, f'{parts[1]!r} is not the id of a class with '
            f'instances ({list(things)})')
    try:
        score = float(parts[2])
    except ValueError:
        score = float('nan')
    if not 0 <= score <= 1:
        yield Fault('score', where,
                    f'{parts[2].strip()!r} is not within 0 .. 1')


def _mask_faults(pixels: np.ndarray, job: PngJob) -> Iterator[Fault]:
    """Whether a mask has pixels, all of one value."""
    values = np.setdiff1d(pixels, 0).tolist()
    if not values:
        yield Fault('empty_mask', job.name, 'has no pixel')
    elif len(values) > 1:
        yield Fault('mask_values', job.name,
                    f'{values[:5]}: all but 0 count as the instance', WARNING)
