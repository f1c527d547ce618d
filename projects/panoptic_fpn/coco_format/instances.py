"""Rules of a COCO instances JSON.

``images``, ``categories`` with id and name, ``annotations`` with id, image_id,
category_id, iscrowd, ``segmentation`` (polygons or RLE), and, for AP, area (of
the mask) and bbox (x, y, width, height), all in pixels.
"""
from typing import Any, Dict, Iterator

from .faults import (Fault, Found, is_id, is_number, is_whole, key_fault,
                     list_of, short)
from .panoptic import entries_by_id
from .segmentations import find_segmentation_fault


def instances_faults(content: dict,
                     path: str,
                     scored: bool = False,
                     masks: bool = False) -> Found[dict]:
    """Errors of a COCO instances JSON; returns its content.

    Args:
        content (dict): The JSON.
        path (str): Its file.
        scored (bool): Whether AP is computed with it, which needs areas and
            boxes.
        masks (bool): Whether to look at segmentations, too; they need the
            sizes of images.
    """
    if any('segments_info' in note
           for note in list_of(content, 'annotations', dict)):
        yield Fault('panoptic_json', path,
                    'its annotations have segments_info: it is panoptic')
        return content
    known = {}
    for key in ('images', 'categories'):
        known[key] = yield from entries_by_id(content, key, path)
    for image_id, image in known['images'].items():
        sides = image.get('height'), image.get('width')
        if not all(
                n is None and not masks or is_whole(n) and n > 0
                for n in sides):
            yield Fault('wrong_value', f'{path}: image id={image_id!r}',
                        f'(height, width)={short(sides)} is not a size')
    for id_, category in known['categories'].items():
        if not isinstance(category.get('name'), str):
            yield key_fault(category, 'name', f'{path}: category id={id_!r}',
                            'is not a string')
    # ids of annotations need not be unique
    notes = content.get('annotations')
    if not isinstance(notes, list):
        yield key_fault(content, 'annotations', path, 'is not a list')
        return content
    for i, note in enumerate(notes):
        if not isinstance(note, dict) or not is_id(note.get('id')):
            yield Fault('wrong_value', f'{path}: annotations[{i}]',
                        f'{short(note)} has no id')
            continue
        where = f'{path}: annotation id={note["id"]!r}'
        yield from _annotation_faults(note, known, scored, where)
        if masks:
            yield from _mask_faults(note, known['images'], where)
    return content


def _annotation_faults(note: dict, known: Dict[str, dict], scored: bool,
                       where: str) -> Iterator[Fault]:
    for kind, key, listed in (('unknown_image', 'image_id', 'images'),
                              ('unknown_category', 'category_id',
                               'categories')):
        if not is_id(note.get(key)) or note[key] not in known[listed]:
            yield Fault(kind, where,
                        f'{key}={short(note.get(key))} is not in "{listed}"')
    if note.get('iscrowd', None if scored else 0) not in (0, 1):
        yield Fault('iscrowd', where, f'iscrowd={short(note.get("iscrowd"))}')
    if not scored:
        return
    area, box = note.get('area'), note.get('bbox')
    if not is_number(area) or area < 0:
        yield key_fault(note, 'area', where, 'is not a number of pixels')
    if not isinstance(box, list) or len(box) != 4 or not all(
            map(is_number, box)) or min(box[2:]) < 0:
        yield key_fault(note, 'bbox', where, 'is not [x, y, width, height]')


def _mask_faults(note: dict, images: Dict[Any, dict],
                 where: str) -> Iterator[Fault]:
    image_id = note.get('image_id')
    image = images.get(image_id, {}) if is_id(image_id) else {}
    fault = find_segmentation_fault(
        note.get('segmentation'), (image.get('height'), image.get('width')))
    if note.get('segmentation') == []:
        fault = 'segmentation=[], which pycocotools does not read'
    if fault is not None:
        yield Fault('wrong_value', where, fault)
