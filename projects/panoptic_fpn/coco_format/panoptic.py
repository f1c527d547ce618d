"""Rules of a COCO panoptic JSON by itself, without the files that it names.

``images`` with id, file_name, height and width; ``categories`` with id, name,
isthing (1 or 0) and, optionally, color; ``annotations``, one for each image,
with image_id, file_name of its PNG and ``segments_info``, each with id,
category_id and iscrowd. Ids of images are whole numbers or strings.

Two more lists of an annotation are ours: ``void_ids`` and ``ignored_ids``,
values of a label map with one channel that are not segments.
"""
from collections import Counter
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from mmengine_exact.files import find_name_fault

from ..labels import INSTANCE_OFFSET, MAX_SEGMENT_ID, LabelSpace
from .faults import WARNING, Fault, Found, is_id, is_whole, raise_first, short

#: Segments and ignored ids of one image: their values in the map are 16 bit.
MAX_SEGMENTS = 2**16 - 2
#: Objects of an image that configs keep (``test_cfg.rcnn.max_per_img``).
MAX_OBJECTS = 100


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
    from another file."""
    if _is_of_instances(content.get('annotations')):
        yield Fault(
            'instances_json', path, 'its annotations are single '
            'objects, with category_id and without segments_info')
        return Structure({}, [])
    categories = yield from category_faults(content, categories_path or path)
    images = yield from image_faults(content, path)
    notes = yield from entries_by_id(content, 'annotations', 'image_id',
                                     'annotation_twice', path)
    yield from _stray_faults(images, notes, path)
    pairs = []
    for image_id, image in images.items():
        note, segments = notes.get(image_id), []
        if note is not None:
            where = f'{path}: image_id={image_id!r}'
            yield from _name_faults(note, where, 'the annotation')
            segments = yield from _segment_faults(note, categories, where)
        pairs.append(Pair(image, note, segments))
    return Structure(categories, pairs)


def _is_of_instances(notes: Any) -> bool:
    """Whether all of a list of annotations are single objects."""
    return isinstance(notes, list) and bool(notes) and all(
        isinstance(note, dict) and 'category_id' in note
        and 'segments_info' not in note for note in notes)


def entries_by_id(content: dict, key: str, id_key: str, twice: str,
                  path: str) -> Found[Dict[Any, dict]]:
    """Entries of the list ``key`` by their id; the first where one occurs
    twice, which is a fault of the kind ``twice``."""
    found: Dict[Any, dict] = {}
    entries = content.get(key)
    if key not in content:
        yield Fault('key_missing', path, f'no "{key}" at the top level')
    elif not isinstance(entries, list):
        yield Fault('wrong_value', path, f'"{key}" is {short(entries)}, no '
                    'list')
    for i, entry in enumerate(entries if isinstance(entries, list) else []):
        where = f'{path}: {key}[{i}]'
        if not isinstance(entry, dict):
            yield Fault('wrong_value', where,
                        f'{short(entry)} is not an object')
        elif id_key not in entry:
            yield Fault('key_missing', where,
                        f'{short(entry)} has no "{id_key}"')
        elif not is_id(entry[id_key]):
            kind = 'category_id' if key == 'categories' else 'wrong_value'
            yield Fault(
                kind, where, f'{id_key}={short(entry[id_key])} is neither a '
                'whole number nor a string')
        elif entry[id_key] in found:
            yield Fault(twice, where,
                        f'two {key} have {id_key}={short(entry[id_key])}')
        else:
            found[entry[id_key]] = entry
    return found


def category_faults(content: dict, path: str) -> Found[Dict[int, dict]]:
    """Errors of ``categories``; returns those with an id, by id."""
    found = yield from entries_by_id(content, 'categories', 'id',
                                     'category_id_twice', path)
    count = len(found)
    if content.get('categories') == []:
        yield Fault('no_category', path, '0 categories')
    if count >= INSTANCE_OFFSET:
        yield Fault('too_many_categories', path,
                    f'{count}, at most {INSTANCE_OFFSET - 1}')
    names: Dict[str, Any] = {}
    for id_, entry in found.items():
        yield from _category_faults(entry, f'{path}: category id={id_!r}')
        name = str(entry.get('name')) if is_id(entry.get('name')) else ''
        if name and name in names:
            yield Fault(
                'category_name_twice', path,
                f'two have the name {name!r}: id {names[name]!r} and '
                f'{id_!r}')
        names[name] = id_
    return {id_: entry for id_, entry in found.items() if is_whole(id_)}


def _category_faults(entry: dict, where: str) -> Iterator[Fault]:
    id_, name = entry['id'], entry.get('name')
    if not is_whole(id_) or abs(id_) >= 2**63:
        yield Fault('category_id', where, f'{short(name)} has id={id_!r}')
    if not is_id(name):
        yield Fault('wrong_value', where,
                    f'name={short(name)} is not a string')
    if 'isthing' not in entry:
        yield Fault('isthing', where, f'{short(name)} has no isthing')
    elif entry['isthing'] not in (0, 1):
        yield Fault('isthing', where,
                    f'{short(name)} has isthing={short(entry["isthing"])}')
    color = entry.get('color') or [0, 0, 0]
    if not isinstance(color, (list, tuple)) or len(color) != 3 or not all(
            is_whole(part) and 0 <= part < 256 for part in color):
        yield Fault(
            'wrong_value', where, f'{short(name)} has color={short(color)}, '
            'not [R, G, B], each 0 to 255')


def read_label_space(categories: Any, path: str) -> LabelSpace:
    """Label space of the ``categories`` of a file that have no fault."""
    raise_first(category_faults(dict(categories=categories), path))
    return LabelSpace.from_coco(categories, path)


def image_faults(content: dict, path: str) -> Found[Dict[Any, dict]]:
    """Errors of ``images``; returns those with an id, by id."""
    images = yield from entries_by_id(content, 'images', 'id',
                                      'image_id_twice', path)
    if content.get('images') == []:
        yield Fault('wrong_value', path, '"images" is empty')
    first = {type(image_id): image_id for image_id in reversed(images)}
    if len(first) > 1:
        yield Fault('mixed_image_ids', path,
                    f'such as {short(first[int])} and {short(first[str])}')
    for image_id, image in images.items():
        where = f'{path}: image_id={image_id!r}'
        yield from _name_faults(image, where, 'the image')
        for key in ('height', 'width'):
            if key not in image:
                yield Fault('key_missing', where, f'the image has no "{key}"')
            elif not is_whole(image[key]) or image[key] < 1:
                yield Fault(
                    'wrong_value', where,
                    f'{key}={short(image[key])} is not a number of pixels')
    return images


def _name_faults(entry: dict, where: str, what: str) -> Iterator[Fault]:
    if 'file_name' not in entry:
        yield Fault('key_missing', where, f'{what} has no "file_name"')
        return
    fault = find_name_fault(entry['file_name'])
    if fault is not None:
        yield Fault('bad_file_name', where,
                    f'file_name={short(entry["file_name"])}: {fault}')


def _stray_faults(images: dict, notes: dict, path: str) -> Iterator[Fault]:
    strays = [key for key in notes if key not in images]
    as_text = {str(key) for key in images} if strays else set()
    for key in strays:
        note = ''
        if str(key) in as_text:
            other = 'string' if is_whole(key) else 'number'
            note = f' (in "images" it is a {other})'
        yield Fault(
            'unknown_image', path, f'image_id={key!r} of an '
            f'annotation is not in "images"{note}')


def _segment_faults(note: dict, categories: Dict[int, dict],
                    where: str) -> Found[List[dict]]:
    segments = note.get('segments_info')
    if not isinstance(segments, list):
        kind = 'wrong_value' if 'segments_info' in note else 'key_missing'
        yield Fault(
            kind, where, f'"segments_info" is {short(segments)}, not '
            'the list of segments')
        return []
    usable: Dict[int, dict] = {}
    for segment in segments:
        if not isinstance(segment, dict):
            yield Fault('wrong_value', where,
                        f'segment {short(segment)} is not an object')
            continue
        id_, category = segment.get('id'), segment.get('category_id')
        if not is_whole(category) or category not in categories:
            if 'category_id' not in segment:
                yield Fault('key_missing', where,
                            f'segment {short(id_)} has no "category_id"')
            elif categories:
                yield Fault(
                    'unknown_category', where, f'segment {short(id_)} has '
                    f'category_id={short(category)}')
        if segment.get('iscrowd', 0) not in (0, 1):
            yield Fault(
                'iscrowd', where, f'segment {short(id_)} has iscrowd='
                f'{short(segment["iscrowd"])}')
        if not is_whole(id_):
            kind = 'wrong_value' if 'id' in segment else 'key_missing'
            yield Fault(kind, where,
                        f'segment {short(segment)} has no whole number as id')
        elif not 0 < id_ <= MAX_SEGMENT_ID:
            yield Fault('segment_id_range', where,
                        f'segment id {id_} is not in 1..{MAX_SEGMENT_ID}')
        elif id_ in usable:
            yield Fault('segment_id_twice', where,
                        f'two segments have id {id_}')
        else:
            usable[id_] = segment
    yield from _other_id_faults(note, usable, where)
    return list(usable.values())


def _other_id_faults(note: dict, usable: Dict[int, dict],
                     where: str) -> Iterator[Fault]:
    """Faults of ids in the PNG that are not segments."""
    count, known = len(note['segments_info']), set(usable)
    for key in ('ignored_ids', 'void_ids'):
        if key not in note:
            continue
        ids = note[key]
        if not isinstance(ids, list) or not all(
                is_whole(i) and 0 <= i <= MAX_SEGMENT_ID for i in ids):
            yield Fault(
                'wrong_value', where, f'{key}={short(ids)} is not a list of '
                f'numbers from 0 to {MAX_SEGMENT_ID}')
            continue
        again = known & set(ids)
        if again or key == 'ignored_ids' and len(set(ids)) < len(ids):
            yield Fault(
                'wrong_value', where, f'{key} has an id twice, or one of a '
                f'segment: {short(sorted(again) or ids)}')
        known = known | set(ids)
        count += len(ids) if key == 'ignored_ids' else 0
    if count > MAX_SEGMENTS:
        yield Fault('too_many_segments', where,
                    f'{count}, at most {MAX_SEGMENTS}')


def panoptic_warnings(structure: Structure, path: str) -> Iterator[Fault]:
    """Oddities of a COCO panoptic JSON."""
    categories, pairs = structure
    yield from _category_warnings(structure, path)
    notes = [pair.annotation for pair in pairs if pair.annotation is not None]
    for what, entries in (('images', [pair.image for pair in pairs]),
                          ('annotations', notes)):
        names = Counter(short(entry.get('file_name')) for entry in entries)
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
        if category.get('isthing') != 0:
            continue
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
    used: Counter[Any] = Counter()
    crowd: Counter[Any] = Counter()
    for segment in (s for pair in structure.pairs for s in pair.segments):
        id_ = category_of(segment, categories).get('id')
        used[id_] += 1
        crowd[id_] += segment.get('iscrowd') == 1
    for id_, category in categories.items():
        name = f'{short(category.get("name"))} (id={id_})'
        if id_ < 0:
            yield Fault('negative_category', path, name, WARNING)
        if used and not used[id_]:
            yield Fault('unused_category', path, name, WARNING)
        if 0 < used[id_] == crowd[id_] and category.get('isthing') == 1:
            yield Fault('only_crowd', path, f'{name}, {used[id_]} segments',
                        WARNING)
    kinds = {
        bool(category['isthing'])
        for category in categories.values()
        if category.get('isthing') in (0, 1)
    }
    if len(kinds) == 1:
        missing = 'stuff' if kinds.pop() else 'things'
        yield Fault(f'no_{missing}', path,
                    f'{len(categories)} categories, no {missing}', WARNING)
