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
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
from cityscapesscripts.helpers.labels import id2label

from mmengine_exact.workers import run_jobs

from .contents import Members, Progress, name_violations, names_ending, silent
from .expected import Expected
from .png_rules import GRAY, read_png
from .violations import Violation, warning

_ID = re.compile(r'([^_/]+_\d+_\d+)')


class PixelJob(NamedTuple):
    """A semantic map and its size (h, w)."""

    member: Any
    name: str
    size: Tuple[int, int]


class InstanceJob(NamedTuple):
    """The lines of an image, its masks by path, their size (h, w)."""

    name: str
    lines: List[str]
    masks: Dict[str, Any]
    size: Tuple[int, int]
    things: List[int]


def by_image(names: List[str]) -> Dict[Optional[str], List[str]]:
    """Names by the image that they are found for; None for no image's."""
    groups: Dict[Optional[str], List[str]] = {}
    for name in names:
        match = _ID.match(posixpath.basename(name))
        groups.setdefault(match and match[1], []).append(name)
    return groups


def one_for_each_image(names: List[str], expected: Expected,
                       suffix: str) -> Tuple[Dict[str, str], List[Violation]]:
    """The file of each image, as the scripts search for it.

    Returns:
        tuple[dict[str, str], list[Violation]]: Image id -> name, of images
        with just one; and what is wrong with the others.
    """
    chosen, found = {}, []
    groups = by_image(names)
    for image_id in expected.sizes:
        candidates = groups.pop(image_id, [])
        if len(candidates) == 1:
            chosen[image_id] = candidates[0]
        elif candidates:
            found.append(
                Violation('image twice', f'image {image_id}',
                          f'several files: {candidates[:3]}'))
        else:
            found.append(
                Violation('missing image', f'image {image_id}',
                          f'no file {image_id}*{suffix}'))
    for strays in groups.values():
        found += [
            Violation('unknown image', name, 'of no image of this test set')
            for name in strays
        ]
    return chosen, found


def pixel_violations(members: Members,
                     expected: Expected,
                     num_workers: int = 1,
                     progress: Progress = silent) -> List[Violation]:
    """All violations of an archive of semantic maps.

    Args:
        members (Members): Its files.
        expected (Expected): Images and classes.
        num_workers (int): Processes that read PNGs.
        progress (Callable): See ``panoptic_violations``.
    """
    found = [v for name in members for v in name_violations(name)]
    names = names_ending(members, '.png')
    found += [
        Violation('layout', name, 'is no .png')
        for name in sorted(set(members) - set(names))
    ]
    chosen, more = one_for_each_image(names, expected, '.png')
    found += more
    jobs = [
        PixelJob(members[name], name, expected.sizes[image_id])
        for image_id, name in chosen.items()
    ]
    update = progress('check maps', len(jobs))
    for result in run_jobs(map_violations, jobs, num_workers, in_order=True):
        found += result
        update(1)
    return found


def map_violations(job: PixelJob) -> List[Violation]:
    """Whether a map holds ids of the label table."""
    pixels, found = read_png(job.member.read(), job.name, job.size, GRAY)
    if pixels is None:
        return found
    values = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256))
    unknown = [int(v) for v in values if int(v) not in id2label]
    if unknown:
        found.append(
            Violation('label id', job.name,
                      f'{unknown[:5]} are not in the label table'))
    ignored = [
        int(v) for v in values
        if int(v) in id2label and id2label[int(v)].ignoreInEval
    ]
    if ignored:
        found.append(
            warning(
                'ignored id', job.name, f'{ignored[:5]} are not '
                'evaluated; are these train ids?'))
    return found


def instance_violations(members: Members,
                        expected: Expected,
                        num_workers: int = 1,
                        progress: Progress = silent) -> List[Violation]:
    """All violations of an archive of instances.

    Args:
        members (Members): Its files.
        expected (Expected): Images and classes.
        num_workers (int): Processes that read PNGs.
        progress (Callable): See ``panoptic_violations``.
    """
    found = [v for name in members for v in name_violations(name)]
    texts = names_ending(members, '.txt')
    chosen, more = one_for_each_image(texts, expected, '.txt')
    found += more
    space = expected.space
    jobs: List[InstanceJob] = []
    used: Dict[str, str] = {}
    for image_id, name in chosen.items():
        try:
            text = members[name].read().decode('ascii')
        except UnicodeDecodeError:
            found.append(Violation('line', name, 'is no plain text'))
            continue
        masks = {}
        for path in mask_paths(name, text):
            if path in members:
                masks[path] = members[path]
            if used.setdefault(path, name) != name:
                found.append(
                    Violation('mask twice', path,
                              f'of {used[path]} and of {name}'))
        jobs.append(
            InstanceJob(name, text.splitlines(), masks,
                        expected.sizes[image_id],
                        list(space.category_ids[:space.num_things])))
    found += [
        Violation('layout', name, 'no line of a text file names it')
        for name in sorted(set(members) - set(texts) - set(used))
    ]
    update = progress('check instances', len(jobs))
    for result in run_jobs(text_violations, jobs, num_workers, in_order=True):
        found += result
        update(1)
    return found


def mask_paths(name: str, text: str) -> Iterator[str]:
    """Masks that a text file names, as they are named in the archive."""
    for line in text.splitlines():
        yield _resolve(name, line.split(' ')[0])


def _resolve(name: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), path))


def text_violations(job: InstanceJob) -> List[Violation]:
    """What is wrong with the lines of an image and with its masks."""
    found, seen = [], set()
    for number, line in enumerate(job.lines, 1):
        where = f'{job.name}, line {number}'
        parts = line.split(' ')
        if len(parts) != 3:
            found.append(
                Violation(
                    'line', where, f'{line[:80]!r} is not a path, an id '
                    'and a confidence with one blank between them'))
            continue
        found += value_violations(parts, job.things, where)
        path = _resolve(job.name, parts[0])
        if posixpath.isabs(parts[0]) or path.startswith('..'):
            found.append(
                Violation('line', where,
                          f'{parts[0]} is not within the archive'))
        elif path in seen:
            found.append(Violation('mask twice', where, f'{path} again'))
        elif path not in job.masks:
            found.append(
                Violation('missing mask', where, f'{path} is not there'))
        else:
            found += instance_mask_violations(job.masks[path], path, job.size)
        seen.add(path)
    return found


def value_violations(parts: List[str], things: List[int],
                     where: str) -> Iterator[Violation]:
    """Id and confidence of a line."""
    if not parts[1].isdigit() or int(parts[1]) not in things:
        yield Violation(
            'label id', where, f'{parts[1]!r} is not the id of a '
            f'class with instances ({things})')
    try:
        score = float(parts[2])
    except ValueError:
        score = float('nan')
    if not 0 <= score <= 1:
        yield Violation('score', where,
                        f'{parts[2].strip()!r} is not within 0 .. 1')


def instance_mask_violations(member: Any, name: str,
                             size: Tuple[int, int]) -> List[Violation]:
    """A mask has pixels, and they have one value."""
    pixels, found = read_png(member.read(), name, size, GRAY)
    if pixels is None:
        return found
    values = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256))
    if not values.any():
        found.append(Violation('empty mask', name, 'has no pixel'))
    elif len(values[values > 0]) > 1:
        found.append(
            warning(
                'mask values', name, f'{values[:5].tolist()}: all but 0 '
                'count as the instance'))
    return found
