"""Label maps, and the class list that says what their values mean.

A label map has one channel, whose values or palette indices stand for
classes, or it is RGB and colours do. The class list is a JSON or CSV that a
user writes for a converter, or CVAT's ``labelmap.txt``:

    [{"id": 7, "name": "road", "isthing": 0, "color": [128, 64, 128]}, ...]

    id,name,isthing,ignore,values
    7,road,0,0,7 107

    road:128,64,128::

``name`` is required, and ``isthing`` where no names of things are given.
``id`` is by default the number of the row, from 0. ``values`` are the values
of the class in label maps, by default its id; classes with ``ignore`` become
void. Cells of a CSV are separated by commas, semicolons or tabs; a colour is
``128 64 128``, ``#804080`` or the columns r, g and b.
"""
import csv
import re
from typing import (Annotated, Any, Dict, List, NamedTuple, Optional, Sequence,
                    Set, Tuple)

import msgspec
import numpy as np

from mmengine_exact.errors import InputError
from mmengine_exact.files import parse_json, read_bytes
from panoptic_fpn.coco_format import read_label_space
from panoptic_fpn.labels import default_color, id_to_rgb, rgb_to_id
from panoptic_fpn.ops.decode import decode_map, try_decode


class _Class(msgspec.Struct):
    """A row of the list."""

    id: int
    name: str
    isthing: bool
    ignore: bool = False
    values: Optional[List[int]] = None
    color: Optional[List[int]] = None


Rows = List[Dict[str, Any]]
_Rows = Annotated[Rows, msgspec.Meta(min_length=1)]
_BLANK = ' ,;\t'
#: Words for yes and no beside those that msgspec knows.
_BOOLEANS = dict(yes='1', y='1', no='0', n='0')


class ClassTable(NamedTuple):
    """``categories`` of the COCO JSON to write, and the ids of things; the
    category id of each value of a label map, None: void; names of ignored
    classes. From ``first`` on values are ``class * offset + number`` (offset
    None: all are classes); with ``colors`` they are R + 256 G + 256^2 B."""

    categories: List[dict]
    things: Set[int]
    category_of: Dict[int, Optional[int]]
    ignored_names: Set[str]
    offset: Optional[int] = None
    first: int = 0
    colors: bool = False

    def meaning(self, value: int,
                path: str) -> Tuple[Optional[int], Optional[int]]:
        """Category id (None: void) of a value in the label map ``path``, and
        the number of the instance that it stands for, if any."""
        owner, number, fault = value, None, None
        # values that mean nothing may be larger than those of classes
        if self.offset and value >= self.first and (
                value < self.offset or value not in self.category_of):
            owner, number = divmod(value, self.offset)
        category = self.category_of.get(owner)
        is_stuff = category is not None and category not in self.things
        if owner not in self.category_of:
            begin = 'Add it'
            if self.offset and value > 255:
                begin = 'Correct --offset (KITTI, Mapillary: 256), or add it'
            fault = (f'no class has {"it" if owner == value else owner}. '
                     f'{begin} to the class list (as id, among values or as '
                     'color; with ignore=1 where it means nothing), or to '
                     '--void-values.')
        elif is_stuff and number:  # KITTI writes stuff as class * 256 + 0
            fault = (f'instance {number} of class {category}, which is stuff. '
                     'Correct --offset, or set isthing=1 in the class list if '
                     'it is a thing.')
        if fault:
            raise InputError(f'{path}: {_shown(value, self.colors)}: {fault}')
        return category, None if is_stuff else number


def _shown(value: int, colors: bool) -> str:
    rgb = id_to_rgb(np.array(value)).tolist()
    return f'colour {rgb}' if colors else f'value {value}'


def class_table(given: Rows,
                path: str,
                void_values: Sequence[int] = (),
                offset: Optional[int] = None,
                numbered: bool = False,
                things: Optional[Sequence[str]] = None,
                label: str = '') -> ClassTable:
    """Table of the rows of a class list.

    Args:
        given (list[dict]), path (str): The rows, and where they come from.
        void_values (Sequence[int]): Values that mean nothing, unless the list
            has them; black where colours stand for classes.
        offset (int, optional): Values of classes are below it.
        numbered (bool): Whether no value is a class alone, without a number.
        things (Sequence[str], optional): Names of the things, instead of
            ``isthing``.
        label (str): One of the label maps; colours stand for classes if it is
            RGB.
    """
    rows = _convert_rows(given, path, things)
    colors = bool(label) and _is_colored(label)
    if colors:
        void_values, offset = [0], None
    owners: Dict[int, _Class] = {}
    for row in rows:
        for value in _values_of(row, colors, path, label):
            fault = None
            if owners.setdefault(value, row) is not row:
                fault = (f'belongs to two classes, {owners[value].name!r} and '
                         f'{row.name!r}')
            elif offset and value >= offset:
                fault = f'is not below the offset {offset}'
            elif offset and value == 0 and row.isthing and not numbered:
                fault = (f'is the thing {row.name!r}, whose instances 1, 2, '
                         '... are the values of other classes: count classes '
                         'from 1, or give --numbered if no value is a class '
                         'alone')
            if fault:
                raise InputError(
                    f'{path}: {_shown(value, colors)} of label maps {fault}. '
                    'Correct id, values, color or --offset.')
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
                                    for row in rows if row.ignore}, offset,
                      0 if numbered else offset or 0, colors)


def _values_of(row: _Class, colors: bool, path: str, label: str) -> List[int]:
    if colors and len(row.color or ()) != 3:
        raise InputError(
            f'{label}: 3 channels, which hold colours, but {path} gives class '
            f'{row.name!r} no [R, G, B]. Add the column color, or export '
            'label maps of one channel that hold the classes.')
    return [int(rgb_to_id(np.array(row.color)))
            ] if colors else row.values or [row.id]


def _convert_rows(given: Rows, path: str,
                  things: Optional[Sequence[str]]) -> List[_Class]:
    if things is not None:
        names = [row.get('name') for row in given]
        for name in things:
            if name not in names:
                raise InputError(f'{path}: no class is called {name!r}, but '
                                 f'{", ".join(map(repr, names))}. Correct '
                                 '--things.')
        given = [dict(row, isthing=row.get('name') in things) for row in given]
    return _as(List[_Class], given, path)


def _as(kind: Any, value: Any, path: str) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(
            f'{path}: not a class list ({error}). Write a JSON list of '
            'objects with id, name and isthing, or a .csv with these columns; '
            '--things NAME ... does for isthing.') from None


def read_rows(path: str) -> Rows:
    """Rows of a class list, see the module."""
    content = read_bytes(path, 'class list', None)
    is_utf16 = content[:2] in (b'\xff\xfe', b'\xfe\xff')
    try:
        text = content.decode('utf-16' if is_utf16 else 'utf-8-sig').strip()
        is_json = text.startswith(('[', '{'))
        given: Any = parse_json(content, path) if is_json else _read_text(text)
    except (UnicodeError, csv.Error) as error:
        raise InputError(f'{path}: not a class list ({error}). Save it as '
                         'text in UTF-8.') from None
    if isinstance(given, dict):
        given = given.get('categories')
    return plain_rows(_as(_Rows, given, path))


def _read_text(text: str) -> Rows:
    """Rows of a table with a header line, or of a ``labelmap.txt``."""
    lines = [line for line in text.splitlines() if line.strip(_BLANK)]
    named = [line for line in lines if not line.startswith('#')]
    if named and all(line.count(':') == 3 for line in named):
        return [
            dict(zip(('name', 'color'), line.split(':'))) for line in named
        ]
    separator = max(',;\t', key=lines[0].count) if lines else ','
    return [*csv.DictReader(lines, delimiter=separator, skipinitialspace=True)]


def plain_rows(given: Rows) -> Rows:
    """Rows without empty cells, with lists as lists, with ids."""
    rows = []
    for cells in given:
        row = {
            str(key).strip().lower():
            value.strip() if isinstance(value, str) else value
            for key, value in cells.items() if key is not None
        }
        row = {key: v for key, v in row.items() if v not in (None, '', [])}
        if {'r', 'g', 'b'} <= row.keys():
            row['color'] = [row[part] for part in 'rgb']
        if re.fullmatch('#[0-9A-Fa-f]{6}', str(row.get('color'))):
            row['color'] = list(bytes.fromhex(row['color'][1:]))
        for key in ('values', 'color'):
            if isinstance(row.get(key), (str, int)):
                row[key] = re.split(f'[{_BLANK}]+', str(row[key]))
        for key in ('isthing', 'ignore'):
            if isinstance(row.get(key), str):
                row[key] = _BOOLEANS.get(row[key].lower(), row[key])
        rows.append(row)
    if not any('id' in row for row in rows):
        rows = [dict(row, id=i) for i, row in enumerate(rows)]
    return rows


def read_label_map(path: str,
                   size: Optional[Tuple[int, int]] = None,
                   bits: Optional[int] = None,
                   colors: Optional[bool] = False) -> np.ndarray:
    """Values (h, w) of a label map: uint8, uint16 or int32.

    Args:
        path (str): The file.
        size (tuple[int, int], optional): (h, w) that it must have.
        bits (int, optional): What a value must have.
        colors (bool, optional): Whether it is RGB; values are then
            R + 256 G + 256^2 B. None: both will do.
    """
    content = read_bytes(path, 'label map', None)
    values, fault = try_decode(decode_map, content)
    is_rgb = values is not None and values.ndim == 3 and (
        values.dtype == np.uint8 and colors is not False)
    if values is None:
        fault = (f'{len(content)} bytes that are not a label map ({fault}). '
                 'Restore the PNG.')
    elif values.ndim != 2 and not is_rgb:
        fault = (f'{values.shape[2]} channels. A label map has one, of 8 or '
                 '16 bits, that holds the classes; not colours.')
    elif colors and not is_rgb:
        fault = ('one channel, but other label maps of this folder hold '
                 'colours. Export all alike.')
    elif size is not None and values.shape[:2] != tuple(size):
        fault = (f'{values.shape[:2]} (h, w), but its image is {tuple(size)}. '
                 'Scale both alike (labels without interpolation).')
    elif bits is not None and 8 * values.itemsize != bits:
        fault = (f'{8 * values.itemsize} bit, but {bits} bit grey is '
                 'expected. Restore the official file.')
    if fault:
        raise InputError(f'{path}: {fault}')
    return rgb_to_id(values) if is_rgb else values


def _is_colored(path: str) -> bool:
    values, _ = try_decode(decode_map, read_bytes(path, 'label map', None))
    return values is not None and values.ndim == 3
