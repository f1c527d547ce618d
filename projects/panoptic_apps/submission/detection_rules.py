"""Rules of boxes and masks in COCO's result format.

A JSON, alone in the archive: a list of dict(image_id, category_id, score) and
``bbox`` (x, y, width, height in pixels) or ``segmentation`` (compressed RLE);
https://cocodataset.org/#format-results, part 1.
"""
from typing import Any, Dict, List, Optional

import numpy as np

from .contents import Members, Progress, name_violations, silent
from .expected import Expected
from .json_rules import is_number, read_json
from .panoptic_rules import find_json
from .violations import Violation, warning

#: COCO's evaluation takes so many of an image, those with the best scores.
MAX_DETECTIONS = 100
#: Pixels that a box may lie outside of its image: it was rounded.
_SLACK = 1.


def detection_violations(members: Members,
                         expected: Expected,
                         kind: str,
                         stem: Optional[str] = None,
                         progress: Progress = silent) -> List[Violation]:
    """All violations of an archive.

    Args:
        members (Members): Its files.
        expected (Expected): Images and classes.
        kind (str): 'bbox' or 'segm': what is judged.
        stem (str, optional): Name that the JSON must have; by default any.
        progress (Callable): See ``panoptic_violations``.
    """
    found = [v for name in members for v in name_violations(name)]
    name, more = find_json(members, stem)
    found += more
    found += [
        Violation('layout', other, 'nothing but the JSON belongs here')
        for other in members if not other.endswith('.json')
    ]
    if name is None:
        return found
    content, more = read_json(members[name].read(), name)
    found += more
    if more:
        return found
    if not isinstance(content, list):
        return found + [Violation('json', name, 'is no list of detections')]
    things = expected.space.category_ids[:expected.space.num_things]
    update = progress('check detections', len(content))
    scores: Dict[Any, List[float]] = {}
    for number, entry in enumerate(content):
        where = f'detection {number}'
        wrong = one_violations(entry, expected, set(things), kind, where)
        found += wrong
        if not wrong:
            scores.setdefault(entry['image_id'], []).append(entry['score'])
        update(1)
    return found + rank_violations(scores)


def one_violations(entry: Any, expected: Expected, things: set, kind: str,
                   where: str) -> List[Violation]:
    """What is wrong with one detection."""
    if not isinstance(entry, dict):
        return [Violation('json', where, f'{str(entry)[:80]} is no dict')]
    found = expected.check_id(entry.get('image_id'), where)
    if found:
        return found
    size = expected.sizes[entry['image_id']]
    category = entry.get('category_id')
    if type(category) is not int or category not in things:
        found.append(
            Violation('category', where,
                      f'category_id {category!r} is no thing class'))
    score = entry.get('score')
    if not is_number(score) or not 0 <= score <= 1:
        found.append(
            Violation('score', where, f'{score!r} is not within 0 .. 1'))
    if kind == 'bbox' or 'bbox' in entry:
        found += box_violations(entry.get('bbox'), size, where)
    if kind == 'segm' or 'segmentation' in entry:
        found += mask_violations(entry.get('segmentation'), size, where)
    return found


def box_violations(box: Any, size: tuple, where: str) -> List[Violation]:
    """What is wrong with (x, y, width, height)."""
    if not isinstance(box, list) or len(box) != 4 or not all(
            map(is_number, box)):
        return [Violation('box', where, f'bbox={box!r} is not four numbers')]
    x, y, width, height = box
    if width < 0 or height < 0 or min(
            x, y) < -_SLACK or x + width > size[1] + _SLACK or (y + height
                                                                > size[0] +
                                                                _SLACK):
        return [
            Violation(
                'box', where, f'bbox={box} (x, y, width, height) is not '
                f'within {size[1]} x {size[0]} pixels')
        ]
    return []


def mask_violations(rle: Any, size: tuple, where: str) -> List[Violation]:
    """What is wrong with a compressed RLE."""
    if not isinstance(rle, dict) or not isinstance(rle.get('counts'), str):
        return [Violation('mask', where, 'no compressed RLE')]
    if rle.get('size') != list(size):
        return [
            Violation(
                'mask', where, f'size={rle.get("size")!r}, the image '
                f'has {list(size)} (height, width)')
        ]
    counts = rle_counts(rle['counts'])
    if counts is None or counts.min(initial=0) < 0 or (counts.sum()
                                                       != size[0] * size[1]):
        return [Violation('mask', where, 'its RLE has not the image\'s size')]
    if not counts[1::2].any():
        return [warning('empty mask', where, 'has no pixel')]
    return []


def rle_counts(text: str) -> Optional[np.ndarray]:
    """Lengths of the runs of a compressed RLE, background first.

    Numbers are written with 5 bits in a character (48 + bits, 32 more where
    another follows), low bits first, with a sign; from the fourth on as the
    difference to the one before the last. Decoding by pycocotools would trust
    the text.

    Returns:
        np.ndarray, optional: int64; None for what is no such text.
    """
    try:
        codes = np.frombuffer(text.encode('ascii'), np.uint8).astype(np.int64)
    except UnicodeEncodeError:
        return None
    codes -= 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or (codes[-1]
                                                                 & 32):
        return None
    last = np.flatnonzero(codes & 32 == 0)
    first = np.append(0, last[:-1] + 1)
    lengths = last - first + 1
    if lengths.max() > 8:  # more than any image has
        return None
    place = np.arange(len(codes)) - np.repeat(first, lengths)
    values = np.add.reduceat((codes & 31) << 5 * place, first)
    values -= np.where(codes[last] & 16, 1 << 5 * lengths, 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def rank_violations(scores: Dict[Any, List[float]]) -> List[Violation]:
    """Order and number of each image's detections: oddities alone."""
    found = []
    for image_id, values in scores.items():
        where = f'image {image_id!r}'
        if len(values) > MAX_DETECTIONS:
            found.append(
                warning(
                    'too many', where, f'{len(values)} detections, the '
                    f'best {MAX_DETECTIONS} are judged'))
        if any(a < b for a, b in zip(values, values[1:])):
            found.append(
                warning(
                    'order', where, 'not from the best score down; ties '
                    'may be broken in another order'))
    return found
