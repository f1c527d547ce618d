"""Rules of a COCO panoptic JSON by itself, without the files that it names.

``images`` with id, file_name, height and width; ``categories`` with id, name,
isthing (1 or 0) and, optionally, color; ``annotations``, one for each image,
with image_id, file_name of its PNG and ``segments_info``, each with id,
category_id and iscrowd. Ids of images are whole numbers or strings.

Two more lists of an annotation are ours: ``void_ids`` and ``ignored_ids``,
values of a label map with one channel that are not segments.
"""
import os.path as osp
from collections import Counter, defaultdict
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set

from mmengine_exact.files import find_name_fault

from ..labels import INSTANCE_OFFSET, MAX_SEGMENT_ID, LabelSpace
from .faults import (WARNING, Fault, Found, is_id, is_whole, key_fault,
                     raise_first, short)

#: Segments and ignored ids of one image: their values in the map are 16 bit.
MAX_SEGMENTS = 2**16 - 2
#: Objects of an image that configs keep (``test_cfg.rcnn.max_per_img``).
MAX_OBJECTS = 100
#: Pixels of a side that OpenCV reads at most.
_SIDE = 1 << 20
#: Suffixes of images that no panoptic map has.
_PHOTOGRAPHS = '.jpg', '.jpeg'
#: Lists of entries with ids: the key of these, and the kind of fault where two
#: are the same.
_LISTS = dict(
    images=('id', 'image_id_twice'),
    categories=('id', 'category_id_twice'),
    annotations=('image_id', 'annotation_twice'),
    segments_info=('id', 'segment_id_twice'))


class Pair(NamedTuple):
    """An image, its annotation (None: it has none), and those segments of
    it whose id can be looked for in the PNG."""

    image: dict
    annotation: Optional[dict]
    segments: List[dict]


class Structure(NamedTuple):
    """What can be used of a JSON: categories by id, and images."""

    categories: Dict[int, dict]
    pairs: List[Pair]


def panoptic_faults(content: dict,
                    path: str,
                    categories_path: Optional[str] = None) -> Found[Structure]:
    """Errors of a COCO panoptic JSON, and of its categories where these come
    from another file. Annotations that name their JPEG get the name of the
    PNG."""
    listed = content.get('annotations')
    if isinstance(listed, list) and listed and all(
            isinstance(note, dict) and 'category_id' in note
            and 'segments_info' not in note for note in listed):
        yield Fault(
            'instances_json', path, 'its annotations are single '
            'objects, with category_id and without segments_info')
        return Structure({}, [])
    categories = yield from category_faults(content, categories_path or path)
    images = yield from image_faults(content, path)
    notes = yield from entries_by_id(content, 'annotations', path)
    yield from _stray_faults(images, notes, path)
    pairs = []
    for image_id, image in images.items():
        note, segments = notes.get(image_id), []
        if note is not None:
            where = f'{path}: image_id={image_id!r}'
            yield from _name_faults(note, f'{where}: its annotation')
            segments = yield from _segment_faults(note, categories, where)
            name = note.get('file_name')
            if isinstance(name, str) and name == image.get(
                    'file_name') and name.lower().endswith(_PHOTOGRAPHS):
                # mmdet's ADE20K files name the image instead of its PNG
                note['file_name'] = osp.splitext(name)[0] + '.png'
        pairs.append(Pair(image, note, segments))
    return Structure(categories, pairs)


def entries_by_id(content: dict,
                  key: str,
                  path: str,
                  whole: bool = False) -> Found[Dict[Any, dict]]:
    """Faults of a list of entries and their ids; returns those with an id, by
    id, the first where several have one.

    Args:
        content (dict): The JSON, or an annotation.
        key (str): Its list: images, categories, annotations, segments_info.
        path (str): The file, and the place in it.
        whole (bool): Whether ids must be whole numbers; else they may be
            strings, too.
    """
    found: Dict[Any, dict] = {}
    entries, (id_key, twice) = content.get(key), _LISTS[key]
    if not isinstance(entries, list):
        yield key_fault(content, key, path, 'is not a list')
        return found
    is_valid = is_whole if whole else is_id
    for i, entry in enumerate(entries):
        id_ = entry.get(id_key) if isinstance(entry, dict) else None
        if is_valid(id_) and id_ not in found:
            found[id_] = entry
            continue
        where = f'{path}: {key}[{i}]'
        if not isinstance(entry, dict):
            yield Fault('wrong_value', where,
                        f'{short(entry)} is not an object')
        elif not is_valid(id_):
            yield key_fault(
                entry, id_key, where,
                f'is not a whole number{"" if whole else " or a string"}',
                'category_id' if key == 'categories' else 'wrong_value')
        else:
            yield Fault(twice, where, f'two {key} have {id_key}={short(id_)}')
    return found


def category_faults(content: dict, path: str) -> Found[Dict[int, dict]]:
    """Errors of ``categories``; returns those with an id, by id."""
    found = yield from entries_by_id(content, 'categories', path, whole=True)
    if content.get('categories') == []:
        yield Fault('no_category', path, '0 categories')
    if len(found) >= INSTANCE_OFFSET:
        yield Fault('too_many_categories', path,
                    f'{len(found)}, at most {INSTANCE_OFFSET - 1}')
    ids: Dict[str, int] = {}
    for id_, entry in found.items():
        where, name = f'{path}: category id={id_}', entry.get('name')
        if abs(id_) >= 2**63:
            yield Fault('category_id', where, f'{short(name)} has id={id_}')
        if not is_id(name):
            yield key_fault(entry, 'name', where, 'is not a string')
        elif ids.setdefault(str(name), id_) != id_:
            yield Fault(
                'category_name_twice', path, f'two have the name {name!r}: '
                f'id {ids[str(name)]} and {id_}')
        if entry.get('isthing') not in (0, 1):
            yield Fault(
                'isthing', where,
                f'{short(name)} has isthing={short(entry.get("isthing"))}')
        if not is_color(entry.get('color') or [0, 0, 0]):
            yield key_fault(entry, 'color', where,
                            'is not [R, G, B], each 0 to 255')
    return found


def is_color(value: Any) -> bool:
    """Whether a value of a JSON is [R, G, B], each 0 to 255."""
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(
        is_whole(part) and 0 <= part < 256 for part in value)


def read_label_space(categories: Any, path: str) -> LabelSpace:
    """Label space of the ``categories`` of a file that have no fault."""
    raise_first(category_faults(dict(categories=categories), path))
    return LabelSpace.from_coco(categories, path)


def image_faults(content: dict, path: str) -> Found[Dict[Any, dict]]:
    """Errors of ``images``; returns those with an id, by id."""
    images = yield from entries_by_id(content, 'images', path)
    if content.get('images') == []:
        yield Fault('wrong_value', path, '"images" is empty')
    first = {type(image_id): image_id for image_id in reversed(images)}
    if len(first) > 1:
        yield Fault(
            'mixed_image_ids', path,
            'ids of images are numbers and strings, such as '
            f'{short(first[int])} and {short(first[str])}')
    for image_id, image in images.items():
        where = f'{path}: image_id={image_id!r}'
        yield from _name_faults(image, where)
        for key in ('height', 'width'):
            if not is_whole(image.get(key)) or not 0 < image[key] <= _SIDE:
                yield key_fault(image, key, where, 'is not a number of pixels')
    return images


def _name_faults(entry: dict, where: str) -> Iterator[Fault]:
    fault = find_name_fault(entry.get('file_name'))
    if fault is not None:
        yield key_fault(entry, 'file_name', where, f'cannot be used: {fault}',
                        'bad_file_name')


def _stray_faults(images: dict, notes: dict, path: str) -> Iterator[Fault]:
    as_text = {*map(str, images)}
    for key in [key for key in notes if key not in images]:
        other = ''
        if str(key) in as_text:
            kind = 'string' if is_whole(key) else 'number'
            other = f' (in "images" it is a {kind})'
        yield Fault(
            'unknown_image', path, f'image_id={key!r} of an annotation is '
            f'not in "images"{other}')


def _segment_faults(note: dict, categories: Dict[int, dict],
                    where: str) -> Found[List[dict]]:
    found = yield from entries_by_id(note, 'segments_info', where, whole=True)
    usable = []
    for id_, segment in found.items():
        if categories and not category_of(segment, categories):
            yield key_fault(segment, 'category_id', f'{where}: segment {id_}',
                            'is not in "categories"', 'unknown_category')
        if segment.get('iscrowd', 0) not in (0, 1):
            yield Fault('iscrowd', f'{where}: segment {id_}',
                        f'iscrowd={short(segment["iscrowd"])}')
        if 0 < id_ <= MAX_SEGMENT_ID:
            usable.append(segment)
        else:
            yield Fault('segment_id_range', f'{where}: segment {id_}',
                        f'its id is not in 1..{MAX_SEGMENT_ID}')
    yield from _other_id_faults(note, set(found), where)
    return usable


def _other_id_faults(note: dict, known: Set[int],
                     where: str) -> Iterator[Fault]:
    """Faults of ids in the PNG that are not segments; ``known``, which gets
    them, too, are those of segments."""
    for key in ('ignored_ids', 'void_ids'):
        ids = note.get(key, [])
        if not isinstance(ids, list) or not all(
                is_whole(i) and 0 <= i <= MAX_SEGMENT_ID for i in ids):
            yield key_fault(
                note, key, where,
                f'is not a list of numbers from 0 to {MAX_SEGMENT_ID}')
            continue
        count = len(known) + len(ids)
        known.update(ids)
        if len(known) < count:
            yield key_fault(note, key, where,
                            'has an id twice, or one of a segment')
        if key == 'ignored_ids' and count > MAX_SEGMENTS:
            yield Fault('too_many_segments', where,
                        f'{count}, at most {MAX_SEGMENTS}')


def panoptic_warnings(structure: Structure, path: str) -> Iterator[Fault]:
    """Oddities of a COCO panoptic JSON."""
    categories, pairs = structure
    yield from _category_warnings(structure, path)
    notes = [pair.annotation for pair in pairs if pair.annotation is not None]
    for what, entries in (('images', [pair.image for pair in pairs]),
                          ('annotations', notes)):
        names = Counter(
            short(e['file_name']) for e in entries if 'file_name' in e)
        for name, count in names.items():
            if count > 1:
                yield Fault('file_named_twice', path,
                            f'{name} is named by {count} {what}', WARNING)
    for pair in pairs:
        yield from _image_warnings(pair, categories,
                                   f'{path}: image_id={pair.image["id"]!r}')


def _image_warnings(pair: Pair, categories: Dict[int, dict],
                    where: str) -> Iterator[Fault]:
    if pair.annotation is None:
        yield Fault('no_annotation', where, short(pair.image.get('file_name')),
                    WARNING)
    stuff: Counter[int] = Counter()
    for segment in pair.segments:
        name = f'segment {segment["id"]}'
        if 'iscrowd' not in segment:
            yield Fault('no_iscrowd', where, name, WARNING)
        category = category_of(segment, categories)
        if category.get('isthing') == 0:
            stuff[category['id']] += 1
            if segment.get('iscrowd') == 1:
                yield Fault('stuff_crowd', where,
                            f'{name}, {short(category.get("name"))}', WARNING)
    for id_, count in stuff.items():
        if count > 1:
            yield Fault(
                'stuff_twice', where, f'{count} segments of '
                f'{short(categories[id_].get("name"))}', WARNING)
    objects = count_objects(pair, categories)
    if objects > MAX_OBJECTS:
        yield Fault('many_objects', where,
                    f'{objects} objects, more than {MAX_OBJECTS}', WARNING)


def category_of(segment: dict, categories: Dict[int, dict]) -> dict:
    """Category of a segment, empty where it is unknown."""
    id_ = segment.get('category_id')
    return categories.get(id_, {}) if is_whole(id_) else {}


def count_objects(pair: Pair, categories: Dict[int, dict]) -> int:
    """Things of an image that are not crowd."""
    return sum(
        category_of(segment, categories).get('isthing') == 1
        and segment.get('iscrowd') != 1 for segment in pair.segments)


def _category_warnings(structure: Structure, path: str) -> Iterator[Fault]:
    categories = structure.categories
    # whether each segment of a category is crowd
    crowd: Dict[Any, List[bool]] = defaultdict(list)
    for segment in (s for pair in structure.pairs for s in pair.segments):
        id_ = category_of(segment, categories).get('id')
        crowd[id_].append(segment.get('iscrowd') == 1)
    for id_, category in categories.items():
        name = f'{short(category.get("name"))} (id={id_})'
        if id_ < 0:
            yield Fault('negative_category', path, name, WARNING)
        segments = crowd.get(id_, [])
        if crowd and not segments:
            yield Fault('unused_category', path, name, WARNING)
        if segments and all(segments) and category.get('isthing') == 1:
            yield Fault('only_crowd', path,
                        f'{name}, {len(segments)} segments', WARNING)
    kinds = [category.get('isthing') for category in categories.values()]
    if (1 in kinds) != (0 in kinds):
        missing = 'stuff' if 1 in kinds else 'things'
        although = _several(structure) if missing == 'things' else ''
        yield Fault(f'no_{missing}', path,
                    f'{len(categories)} categories, no {missing}{although}',
                    WARNING)


def _several(structure: Structure) -> str:
    """Most segments of one class in an image, which then looks like a thing;
    empty where there is one at most."""
    counts = Counter(
        (pair.image['id'], category['id']) for pair in structure.pairs
        for segment in pair.segments
        if (category := category_of(segment, structure.categories)))
    for (image_id, id_), count in counts.most_common(1):
        if count > 1:
            name = short(structure.categories[id_].get('name'))
            return f', although image {image_id!r} has {count} of {name}'
    return ''
