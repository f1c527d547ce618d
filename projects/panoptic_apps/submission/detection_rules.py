"""Rules of boxes and masks in COCO's result format.

A JSON, alone in the archive: a list of dict(image_id, category_id, score) and
``bbox`` (x, y, width, height in pixels) or ``segmentation`` (compressed RLE);
https://cocodataset.org/#format-results, part 1.
"""
import math
from typing import Any, Dict, Iterator, List, Optional, Tuple, TypeGuard

from panoptic_fpn.coco_format import WARNING, Fault, short
from panoptic_fpn.coco_format.faults import is_whole
from panoptic_fpn.coco_format.segmentations import (find_segmentation_fault,
                                                    rle_counts)

from .contents import Expected, Members, Progress, name_faults, silent
from .panoptic_rules import find_json, read_json

#: COCO's evaluation takes so many of an image, those with the best scores.
MAX_DETECTIONS = 100
#: Pixels that a box may lie outside of its image: it was rounded.
_SLACK = 1.


def detection_rules(members: Members,
                    expected: Expected,
                    kind: str,
                    stem: Optional[str] = None,
                    progress: Progress = silent) -> Iterator[Fault]:
    """All faults of an archive.

    Args:
        members (Members): Its files.
        expected (Expected): Images and classes.
        kind (str): 'bbox' or 'segm': what is judged.
        stem (str, optional): Name that the JSON must have; by default any.
        progress (Callable): See ``panoptic_rules``.
    """
    yield from name_faults(members)
    name = yield from find_json(members, stem)
    for other in members:
        if not other.endswith('.json'):
            yield Fault('layout', other, 'nothing but the JSON belongs here')
    if name is None:
        return
    content = yield from read_json(members[name].read_bytes(), name)
    if not isinstance(content, list):
        if content is not None:
            yield Fault('wrong_value', name, 'is no list of detections')
        return
    update = progress('check detections', len(content))
    scores: Dict[Any, List[float]] = {}
    for i, entry in enumerate(content):
        faults = list(_entry_faults(entry, expected, kind, f'detection {i}'))
        yield from faults
        if not faults:
            scores.setdefault(entry['image_id'], []).append(entry['score'])
        update(1)
    yield from _rank_faults(scores)


def _entry_faults(entry: Any, expected: Expected, kind: str,
                  where: str) -> Iterator[Fault]:
    if not isinstance(entry, dict):
        yield Fault('wrong_value', where, f'{short(entry)} is no object')
        return
    image_id, category = entry.get('image_id'), entry.get('category_id')
    if type(image_id) not in (int, str) or image_id not in expected.sizes:
        yield Fault('unknown_image', where,
                    f'image_id={short(image_id)} is not of this test set')
        return
    size, space = expected.sizes[image_id], expected.space
    things = space.category_ids[:space.num_things]
    if not is_whole(category) or category not in things:
        yield Fault('unknown_category', where,
                    f'category_id={short(category)} is no thing class')
    score = entry.get('score')
    if not _is_number(score) or not 0 <= score <= 1:
        yield Fault('score', where, f'{short(score)} is not within 0 .. 1')
    if kind == 'bbox' or 'bbox' in entry:
        yield from _box_faults(entry.get('bbox'), size, where)
    if kind == 'segm' or 'segmentation' in entry:
        yield from _mask_faults(entry.get('segmentation'), size, where)


def _is_number(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and math.isfinite(value)


def _box_faults(box: Any, size: Tuple[int, int],
                where: str) -> Iterator[Fault]:
    if not isinstance(box, list) or len(box) != 4 or not all(
            map(_is_number, box)):
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
    """Order and number of each image's detections: oddities alone."""
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
