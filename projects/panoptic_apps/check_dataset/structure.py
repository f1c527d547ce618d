"""The JSON of a COCO panoptic data set by itself, without its files.

Everything that :class:`CocoPanopticFPNDataset` would stop at, all at once,
and what it would take without a word although it is odd.
"""
from collections import Counter
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set

from mmengine_exact.errors import InputError
from mmengine_exact.files import find_name_fault, parse_json, read_bytes
from panoptic_fpn.labels import MAX_SEGMENT_ID, short

from .categories import check_categories, is_whole
from .findings import Findings

#: Segments of one image: their numbers, without 255, are 16 bit.
MAX_SEGMENTS = 2**16 - 2


class Pair(NamedTuple):
    """An image, its annotation (None: it has none), and those segments of
    it whose id can be looked for in the PNG."""

    image: dict
    annotation: Optional[dict]
    segments: List[dict]


class Structure(NamedTuple):
    """What can be used of a JSON."""

    categories: Dict[int, dict]
    pairs: List[Pair]


def read_json(path: str, findings: Findings) -> Optional[dict]:
    """Content of a COCO JSON; None, and a finding, where it has none."""
    try:
        content = parse_json(read_bytes(path, 'JSON', None), path)
    except InputError as error:
        findings.add('json_unreadable', path, str(error))
        return None
    if not isinstance(content, dict):
        findings.add(
            'json_unreadable', path,
            f'a {type(content).__name__} at the top level, no object')
        return None
    return content


def check_structure(content: dict, path: str, findings: Findings) -> Structure:
    """Check a JSON by itself.

    Args:
        content (dict): Of the JSON.
        path (str): Its file.
        findings (Findings): Where to add what is wrong.
    """
    for key in ('images', 'annotations', 'categories'):
        if key not in content:
            findings.add('key_missing', path, f'no "{key}" at the top level')
    categories = {}
    if 'categories' in content:
        categories = check_categories(content['categories'], path, findings)
    return _Entries(content, path, categories, findings).check()


class _Entries:
    """Images, annotations and segments of one JSON."""

    def __init__(self, content: dict, path: str, categories: Dict[int, dict],
                 findings: Findings) -> None:
        self.content = content
        self.path = path
        self.categories = categories
        self.findings = findings
        self.used: Counter[int] = Counter()

    def check(self) -> Structure:
        images = self._unique('images', 'id', 'image_id_twice')
        notes = self._unique('annotations', 'image_id', 'annotation_twice')
        if not images and isinstance(self.content.get('images'), list):
            self._add('wrong_value', self.path, '"images" lists no image that '
                      'can be used')
        self._find_strays(images, notes)
        self._find_shared(images.values(), 'file_name', 'images')
        self._find_shared(notes.values(), 'file_name', 'annotations')
        pairs = []
        for image_id, image in images.items():
            where = f'{self.path}: image_id={image_id!r}'
            self._check_image(image, where)
            note = notes.get(image_id)
            if note is None and 'annotations' in self.content:
                self._add('no_annotation', where,
                          str(image.get('file_name', '')))
            segments = [] if note is None else self._segments(note, where)
            pairs.append(Pair(image, note, segments))
        self._find_unused()
        return Structure(self.categories, pairs)

    def _add(self, kind: str, where: str, value: str) -> None:
        self.findings.add(kind, where, value)

    def _unique(self, key: str, id_key: str, twice: str) -> Dict[Any, dict]:
        """Entries of a list by their id; the first where it occurs twice."""
        entries = self.content.get(key, [])
        if not isinstance(entries, list):
            self._add('wrong_value', self.path,
                      f'"{key}" is {str(entries)[:80]}, no list')
            return {}
        found: Dict[Any, dict] = {}
        for place, entry in enumerate(entries):
            where = f'{self.path}: {key}[{place}]'
            if not isinstance(entry, dict):
                self._add('wrong_value', where, str(entry)[:80])
            elif id_key not in entry:
                self._add('key_missing', where,
                          f'{str(entry)[:80]} has no "{id_key}"')
            elif not (is_whole(entry[id_key])
                      or isinstance(entry[id_key], str)):
                self._add(
                    'wrong_value', where, f'{id_key}={entry[id_key]!r}: '
                    'neither a whole number nor a string')
            elif entry[id_key] in found:
                self._add(twice, where, f'{id_key}={entry[id_key]!r}')
            else:
                found[entry[id_key]] = entry
        return found

    def _find_strays(self, images: dict, notes: dict) -> None:
        as_text = {str(key) for key in images}
        for key, note in notes.items():
            if key not in images:
                hint = ''
                if str(key) in as_text:
                    other = 'string' if is_whole(key) else 'number'
                    hint = f' (in "images" it is a {other})'
                self._add('unknown_image', self.path,
                          f'image_id={key!r}{hint}')

    def _find_shared(self, entries: Iterable[dict], key: str,
                     what: str) -> None:
        names = Counter(e[key] for e in entries if isinstance(e.get(key), str))
        for name, count in names.items():
            if count > 1:
                self._add('file_named_twice', self.path,
                          f'{name}: {count} {what}')

    def _check_image(self, image: dict, where: str) -> None:
        self._check_name(image, where, 'the image')
        for key in ('height', 'width'):
            if key not in image:
                self._add('key_missing', where, f'the image has no "{key}"')
            elif not is_whole(image[key]) or image[key] < 1:
                self._add('wrong_value', where, f'{key}={image[key]!r}, no '
                          'number of pixels')

    def _check_name(self, entry: dict, where: str, what: str) -> None:
        if 'file_name' not in entry:
            self._add('key_missing', where, f'{what} has no "file_name"')
            return
        fault = find_name_fault(entry['file_name'])
        if fault is not None:
            self._add('wrong_value', where,
                      f'file_name={short(entry["file_name"])}, {fault}')

    def _segments(self, note: dict, where: str) -> List[dict]:
        self._check_name(note, where, 'the annotation')
        if 'segments_info' not in note:
            self._add('key_missing', where,
                      'the annotation has no "segments_info"')
            return []
        if not isinstance(note['segments_info'], list):
            self._add(
                'wrong_value', where, 'segments_info='
                f'{str(note["segments_info"])[:80]}, no list')
            return []
        usable: Dict[int, dict] = {}
        for segment in note['segments_info']:
            if self._check_segment(segment, where):
                if segment['id'] in usable:
                    self._add('segment_id_twice', where, f'id={segment["id"]}')
                usable.setdefault(segment['id'], segment)
        if len(note['segments_info']) > MAX_SEGMENTS:
            self._add('too_many_segments', where,
                      f'{len(note["segments_info"])}, at most {MAX_SEGMENTS}')
        self._check_stuff(list(usable.values()), where)
        self._check_other_ids(note, set(usable), where)
        return list(usable.values())

    def _check_other_ids(self, note: dict, known: Set[int],
                         where: str) -> None:
        """Ids in the PNG that are no segments."""
        for key in ('ignored_ids', 'void_ids'):
            ids = note.get(key, [])
            if not isinstance(ids, list) or not all(
                    is_whole(i) and 0 <= i <= MAX_SEGMENT_ID for i in ids):
                self._add(
                    'wrong_value', where, f'{key}={short(ids)}, no list of '
                    f'numbers from 0 to {MAX_SEGMENT_ID}')
                continue
            again = known & set(ids)
            if again or key == 'ignored_ids' and len(set(ids)) < len(ids):
                self._add(
                    'wrong_value', where, f'{key} has an id twice, or one of '
                    f'a segment: {short(sorted(again) or ids)}')
            known = known | set(ids)

    def _check_segment(self, segment: Any, where: str) -> bool:
        """Whether its id can be looked for in the PNG."""
        if not isinstance(segment, dict):
            self._add('wrong_value', where, f'segment {str(segment)[:80]}')
            return False
        name = f'segment {segment.get("id", "?")!r}'
        self._check_category(segment, where, name)
        self._check_crowd(segment, where, name)
        if 'id' not in segment:
            self._add('key_missing', where, f'{str(segment)[:80]} has no "id"')
            return False
        if not is_whole(segment['id']):
            self._add('wrong_value', where, f'{name}: an id is a whole number')
            return False
        if not 0 < segment['id'] <= MAX_SEGMENT_ID:
            self._add('segment_id_range', where,
                      f'{name} is not in 1..{MAX_SEGMENT_ID}')
            return False
        return True

    def _check_category(self, segment: dict, where: str, name: str) -> None:
        if 'category_id' not in segment:
            self._add('key_missing', where, f'{name} has no "category_id"')
            return
        category = segment['category_id']
        if is_whole(category) and category in self.categories:
            self.used[category] += 1
        elif self.categories:
            self._add('unknown_category', where,
                      f'{name} has category_id={category!r}')

    def _check_crowd(self, segment: dict, where: str, name: str) -> None:
        if 'iscrowd' not in segment:
            self._add('no_iscrowd', where, name)
        elif segment['iscrowd'] not in (0, 1):
            self._add('iscrowd', where,
                      f'{name} has iscrowd={segment["iscrowd"]!r}')

    def _check_stuff(self, segments: List[dict], where: str) -> None:
        seen: Counter[str] = Counter()
        for segment in segments:
            id_ = segment.get('category_id')
            category = self.categories.get(id_) if is_whole(id_) else None
            if category is None or category.get('isthing') != 0:
                continue
            seen[str(category.get('name'))] += 1
            if segment.get('iscrowd') == 1:
                self._add(
                    'stuff_crowd', where,
                    f'segment {segment["id"]}, {category.get("name")!r}')
        for name, count in seen.items():
            if count > 1:
                self._add('stuff_twice', where, f'{name!r}: {count} segments')

    def _find_unused(self) -> None:
        if not self.used:
            return  # no annotation at all is told already
        for id_, category in self.categories.items():
            if not self.used[id_]:
                self._add('unused_category', self.path,
                          f'{category.get("name")!r} (id={id_})')
