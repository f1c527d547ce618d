"""The class list that a user writes for a converter: JSON or CSV.

    [{"id": 7, "name": "road", "isthing": 0, "color": [128, 64, 128]}, ...]

    id,name,isthing,ignore,values
    7,road,0,0,7 107

``id``, ``name`` and ``isthing`` are required. ``values`` are the class's in
label maps, by default its id; classes with ``ignore`` become void.
"""
import csv
import io
from typing import Annotated, Any, Dict, List, NamedTuple, Optional, Set

import msgspec

from mmengine_exact.errors import InputError
from mmengine_exact.files import parse_json, read_bytes
from panoptic_fpn.coco_format import read_label_space


class _Class(msgspec.Struct):
    """A row of the list."""

    id: int
    name: str
    isthing: bool
    ignore: bool = False
    values: Optional[List[int]] = None
    color: Optional[List[int]] = None


_Rows = Annotated[List[Dict[str, Any]], msgspec.Meta(min_length=1)]


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
    rows = _read_rows(path)
    owners: Dict[int, _Class] = {}
    for row in rows:
        for value in row.values or [row.id]:
            if owners.setdefault(value, row) is not row:
                raise InputError(
                    f'{path}: value {value} of label maps belongs to two '
                    f'classes, {owners[value].name!r} and {row.name!r}. '
                    'Correct id or values.')
    categories: List[Dict[str, Any]] = [
        dict(
            id=row.id,
            name=row.name,
            isthing=int(row.isthing),
            **(dict(color=row.color) if row.color else {})) for row in rows
        if not row.ignore
    ]
    space = read_label_space(categories, path)
    colors = {c.id: list(c.color) for c in space.categories}
    for entry in categories:
        entry['color'] = colors[entry['id']]
    return ClassTable(categories, {
        v: row.id
        for v, row in owners.items() if not row.ignore
    }, {v
        for v, row in owners.items() if row.ignore},
                      {row.name
                       for row in rows if row.ignore})


def _read_rows(path: str) -> List[_Class]:
    content = read_bytes(path, 'class list', None)
    try:
        if path.lower().endswith('.csv'):
            text = content.decode('utf-8-sig')
            given: Any = list(csv.DictReader(io.StringIO(text)))
        else:
            given = parse_json(content, path)
            if isinstance(given, dict):
                given = given.get('categories')
        given = msgspec.convert(given, _Rows)
        return msgspec.convert(
            list(map(_plain, given)), List[_Class], strict=False)
    except (UnicodeError, csv.Error, msgspec.ValidationError) as error:
        raise InputError(
            f'{path}: no class list ({error}). Write a JSON list of objects '
            'with id, name and isthing, or a .csv with these '
            'columns.') from None


def _plain(row: Dict[str, Any]) -> Dict[str, Any]:
    """A row without empty cells, lists of numbers split at blanks."""
    row = {key: v for key, v in row.items() if v not in (None, '', [])}
    for key in ('values', 'color'):
        value = row.get(key)
        if isinstance(value, str):
            row[key] = value.split()
        elif isinstance(value, int):
            row[key] = [value]
    if isinstance(row.get('name'), str):
        row['name'] = row['name'].strip()
    return row
