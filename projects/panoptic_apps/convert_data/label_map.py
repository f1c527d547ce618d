"""Label maps, and the class list that says what their values mean.

A label map is a PNG with one channel, or a palette. The class list is a JSON
or CSV that a user writes for a converter:

    [{"id": 7, "name": "road", "isthing": 0, "color": [128, 64, 128]}, ...]

    id,name,isthing,ignore,values
    7,road,0,0,7 107

``id``, ``name`` and ``isthing`` are required. ``values`` are the values of the
class in label maps, by default its id; classes with ``ignore`` become void.
"""
import csv
import io
from typing import (Annotated, Any, Dict, List, NamedTuple, Optional, Sequence,
                    Set, Tuple)

import msgspec
import numpy as np

from mmengine_exact.errors import InputError
from mmengine_exact.files import parse_json, read_bytes
from panoptic_fpn.coco_format import read_label_space
from panoptic_fpn.labels import default_color
from panoptic_fpn.ops.decode import decode_indices, try_decode


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
    """``categories`` of the COCO JSON to write, and the ids of things; the
    category id of each value of a label map, None: void; names of ignored
    classes."""

    categories: List[dict]
    things: Set[int]
    category_of: Dict[int, Optional[int]]
    ignored_names: Set[str]

    def category(self,
                 value: int,
                 path: str,
                 instance: Optional[int] = None) -> Optional[int]:
        """Category id of a class's value in the label map ``path``, None:
        void; ``instance`` is the map's own value where it stands for one
        instance."""
        category, fault = self.category_of.get(value), None
        single = instance is not None
        if value not in self.category_of:
            fault = (f'no class has {value if single else "it"}. Add it to the'
                     ' class list (as id or among values, with ignore=1 where '
                     'it means nothing) or to --void-values.')
        elif single and category is not None and category not in self.things:
            fault = (f'an instance of class {category}, which is stuff. Set '
                     'isthing=1 in the class list, or correct --offset.')
        if fault:
            found = instance if single else value
            raise InputError(f'{path}: value {found}: {fault}')
        return category


def read_class_table(path: str,
                     void_values: Sequence[int] = (),
                     offset: Optional[int] = None) -> ClassTable:
    """Read a class list: a ``.csv`` with a header line, or a JSON, a list or
    an object with ``categories``. The list comes before ``void_values``;
    values of classes are below ``offset``."""
    rows = _read_rows(path)
    owners: Dict[int, _Class] = {}
    for row in rows:
        for value in row.values or [row.id]:
            fault = None
            if owners.setdefault(value, row) is not row:
                fault = (f'belongs to two classes, {owners[value].name!r} and '
                         f'{row.name!r}')
            elif offset is not None and value >= offset:
                fault = f'is not below the offset {offset}'
            if fault:
                raise InputError(f'{path}: value {value} of label maps {fault}'
                                 '. Correct id, values or --offset.')
    kept = [row for row in rows if not row.ignore]
    categories = [
        dict(
            id=row.id,
            name=row.name,
            isthing=int(row.isthing),
            color=row.color or list(default_color(i)))
        for i, row in enumerate(kept)
    ]
    read_label_space(categories, path)
    category_of = dict.fromkeys(void_values)
    for value, row in owners.items():
        category_of[value] = None if row.ignore else row.id
    return ClassTable(categories, {row.id
                                   for row in kept if row.isthing},
                      category_of, {row.name
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
            f'{path}: not a class list ({error}). Write a JSON list of '
            'objects with id, name and isthing, or a .csv with these '
            'columns.') from None


def _plain(row: Dict[str, Any]) -> Dict[str, Any]:
    """A row without empty cells, lists of numbers split at blanks."""
    row = {
        key: value.strip() if isinstance(value, str) else value
        for key, value in row.items() if value not in (None, '', [])
    }
    for key in ('values', 'color'):
        if isinstance(row.get(key), (str, int)):
            row[key] = str(row[key]).split()
    return row


def read_label_map(path: str,
                   size: Optional[Tuple[int, int]] = None,
                   bits: Optional[int] = None) -> np.ndarray:
    """Values (h, w) uint8 or uint16 of a label map, or its palette indices;
    refuses another size (h, w) or number of bits."""
    content = read_bytes(path, 'label map', None)
    values, fault = try_decode(decode_indices, content)
    if values is None:
        fault = (f'{len(content)} bytes that are not a label map ({fault}). '
                 'Restore the PNG.')
    elif values.ndim != 2:
        fault = (f'{values.shape[2]} channels. A label map has one, of 8 or '
                 '16 bits, that holds the classes; not colours.')
    elif size is not None and values.shape != tuple(size):
        fault = (f'{values.shape} (h, w), but its image is {tuple(size)}. '
                 'Scale both alike (labels without interpolation).')
    elif bits is not None and 8 * values.itemsize != bits:
        fault = (f'{8 * values.itemsize} bit, but {bits} bit grey is '
                 'expected. Restore the official file.')
    if fault:
        raise InputError(f'{path}: {fault}')
    return values
