"""The class list that a user writes for a converter: JSON or CSV.

    [{"id": 7, "name": "road", "isthing": 0, "color": [128, 64, 128]}, ...]

    id,name,isthing,ignore,values
    7,road,0,0,7 107

``id``, ``name`` and ``isthing`` are required. ``values`` are the class's in
label maps, by default its id; classes with ``ignore`` become void.
"""
import csv
import io
from typing import Any, Dict, List, NamedTuple, Set

from mmengine_exact.errors import InputError
from mmengine_exact.files import parse_json, read_bytes
from panoptic_fpn.coco_format import read_label_space


class ClassTable(NamedTuple):
    """``categories`` of the COCO JSON to write; the category id of each
    value of a label map; values and names of ignored classes."""

    categories: List[dict]
    category_of: Dict[int, int]
    void: Set[int]
    ignored_names: Set[str]

    @property
    def things(self) -> Set[int]:
        """Category ids of things."""
        return {c['id'] for c in self.categories if c['isthing']}


def read_class_table(path: str) -> ClassTable:
    """Read a class list.

    Args:
        path (str): A ``.csv`` with a header line, or a JSON: a list, or an
            object with ``categories``.

    Raises:
        InputError: It cannot be read, a class lacks a key or has a value
            that cannot be used, or two share an id, name or value.
    """
    categories, category_of, void, ignored = [], {}, set(), set()
    for row in _rows(path):
        entry = _category(row, path)
        ignore = bool(_whole(row.get('ignore') or 0, 'ignore', row, path))
        for value in _values(row, entry['id'], path):
            if value in category_of or value in void:
                raise InputError(
                    f'{path}: value {value} of label maps belongs to two '
                    f'classes, one is {entry["name"]!r}. Correct id or '
                    'values.')
            if ignore:
                void.add(value)
            else:
                category_of[value] = entry['id']
        if ignore:
            ignored.add(entry['name'])
        else:
            categories.append(entry)
    space = read_label_space(categories, path)
    colors = {c.id: list(c.color) for c in space.categories}
    for entry in categories:
        entry['color'] = colors[entry['id']]
    return ClassTable(categories, category_of, void, ignored)


def _rows(path: str) -> List[dict]:
    content = read_bytes(path, 'class list', None)
    try:
        if path.lower().endswith('.csv'):
            text = content.decode('utf-8-sig')
            rows: Any = list(csv.DictReader(io.StringIO(text)))
        else:
            rows = parse_json(content, path)
            if isinstance(rows, dict):
                rows = rows.get('categories')
    except (ValueError, csv.Error) as error:
        raise InputError(f'{path}: not a class list ({error}). Give a '
                         'JSON list or a .csv file.') from None
    if not isinstance(rows, list) or not rows or not all(
            isinstance(row, dict) for row in rows):
        raise InputError(
            f'{path}: no list of classes. Write a JSON list of objects with '
            'id, name and isthing, or a .csv with these columns.')
    return rows


def _category(row: dict, path: str) -> Dict[str, Any]:
    for key in ('id', 'name', 'isthing'):
        if row.get(key) in (None, ''):
            raise InputError(f'{path}: class {dict(row)} has no {key!r}. '
                             'Classes need id, name and isthing.')
    isthing = row['isthing']
    if not isinstance(isthing, bool):
        isthing = _whole(isthing, 'isthing', row, path)
    entry = dict(
        id=_whole(row['id'], 'id', row, path),
        name=str(row['name']).strip(),
        isthing=int(isthing))
    color = row.get('color')
    if color:
        entry['color'] = _numbers(color, 'color', row, path)
    return entry


def _values(row: dict, id_: int, path: str) -> List[int]:
    given = row.get('values')
    if given in (None, '', []):
        return [id_]
    return _numbers(given, 'values', row, path)


def _numbers(given: Any, key: str, row: dict, path: str) -> List[int]:
    items = given.split() if isinstance(given, str) else given
    items = items if isinstance(items, (list, tuple)) else [items]
    return [_whole(item, key, row, path) for item in items]


def _whole(value: Any, key: str, row: dict, path: str) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = None
    if number is None or isinstance(value, float) and number != value:
        raise InputError(f'{path}: class {row.get("name")!r} has {key}='
                         f'{value!r}. Write whole numbers.')
    return number
