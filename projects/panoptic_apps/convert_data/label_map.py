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

Of PNGs with a palette the indices count; but where the list has colours and
neither ``id`` nor ``values``, the colours do.
"""
import csv
import json
import re
from itertools import dropwhile
from typing import (Annotated, Any, Dict, List, NamedTuple, Optional, Sequence,
                    Set, Tuple)

import msgspec
import numpy as np

from mmengine_exact.errors import InputError
from mmengine_exact.files import parse_json, read_bytes
from panoptic_fpn.coco_format import is_blended, read_label_space
from panoptic_fpn.labels import default_color, id_to_rgb, rgb_to_id
from panoptic_fpn.ops.decode import (SIGNATURE, decode_image, decode_map,
                                     try_decode)
from panoptic_fpn.ops.run_length import index_map


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
#: Entries of ``segments_info`` by category id and number of the instance.
Segments = Dict[Tuple[int, Optional[int]], dict]
_BLANK = ' ,;\t'
#: Words for yes and no beside those that msgspec knows.
_BOOLEANS = {
    **dict.fromkeys(('yes', 'y', 't', 'thing', '1.0'), '1'),
    **dict.fromkeys(('no', 'n', 'f', 'stuff', '0.0'), '0')
}
#: Ids of segments whose values are 0, which means void, or too large.
_FREE_IDS = 1 << 16


class ClassTable(NamedTuple):
    """``categories`` of the COCO JSON to write, and the ids of things; the
    category id of each value of a label map and of each name, None: void.
    From ``first`` on values are ``class * offset + number`` (offset None: all
    are classes); with ``colors`` they are R + 256 G + 256^2 B."""

    categories: List[dict]
    things: Set[int]
    category_of: Dict[int, Optional[int]]
    category_named: Dict[str, Optional[int]]
    offset: Optional[int] = None
    first: int = 0
    colors: bool = False

    def meaning(self, value: int,
                path: str) -> Tuple[Optional[int], Optional[int]]:
        """Category id (None: void) of a value in the label map ``path``, and
        the number of the instance that it stands for, if any."""
        owner, number = value, None
        # values that mean nothing may be larger than those of classes
        if self.offset and value >= self.first and (
                value < self.offset or value not in self.category_of):
            owner, number = divmod(value, self.offset)
        category = self.category_of.get(owner)
        if category in self.things:
            return category, number
        if owner not in self.category_of and self.colors:
            fault = ('no class has it. Add a row with this color to the class '
                     'list (with ignore=1 where it means nothing).')
        elif owner not in self.category_of:
            begin = 'Add it'
            if self.offset and value > 255:
                begin = 'Correct --offset (KITTI, Mapillary: 256), or add it'
            fault = (f'no class has {"it" if owner == value else owner}. '
                     f'{begin} to the class list (as id or among values; '
                     'with ignore=1 where it means nothing), or to '
                     '--void-values.')
        elif category is not None and number:
            fault = (f'instance {number} of class {category}, which is stuff. '
                     'Correct --offset, or set isthing=1 in the class list if '
                     'it is a thing.')
        else:  # KITTI writes stuff as class * 256 + 0
            return category, None
        raise InputError(f'{path}: {_shown(value, self.colors)}: {fault}')


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
            RGB, or has a palette, see the module.
    """
    if things is not None:
        given = _with_things(given, path, things)
    by_color = not any({'id', 'values'} & row.keys() for row in given)
    if not any('id' in row for row in given):
        given = [dict(row, id=i) for i, row in enumerate(given)]
    rows = _as(List[_Class], given, path)
    by_color = by_color and all(len(row.color or ()) == 3 for row in rows)
    colors = bool(label) and _is_colored(label, by_color)
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
    thing_ids = {row.id for row in kept if row.isthing}
    category_of, named = dict.fromkeys(void_values), {}
    for value, row in owners.items():
        named[row.name] = category_of[value] = None if row.ignore else row.id
    return ClassTable(categories, thing_ids, category_of, named, offset,
                      0 if numbered else offset or 0, colors)


def _values_of(row: _Class, colors: bool, path: str, label: str) -> List[int]:
    if not colors:
        return row.values or [row.id]
    if len(row.color or ()) != 3:
        raise InputError(
            f'{label}: 3 channels, which hold colours, but {path} gives class '
            f'{row.name!r} no [R, G, B]. Add the column color, or export '
            'label maps of one channel that hold the classes.')
    return [int(rgb_to_id(np.array(row.color)))]


def _with_things(rows: Rows, path: str, things: Sequence[str]) -> Rows:
    """Rows whose ``isthing`` says whether ``things`` names them."""
    names = [row.get('name') for row in rows]
    for name in things:
        if name not in names:
            raise InputError(
                f'{path}: no class is called {name!r}, but '
                f'{", ".join(map(repr, names))}. Correct --things.')
    return [dict(row, isthing=row.get('name') in things) for row in rows]


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
    content = read_bytes(path, 'class list', None, 'Correct its path.')
    try:
        text = content.decode(json.detect_encoding(content)).strip()
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
    if named and all(line.count(':') >= 3 for line in named):
        columns = ('name', 'color', 'parts', 'actions')
        return [dict(zip(columns, line.rsplit(':', 3))) for line in named]
    lines = [*dropwhile(lambda line: line.startswith('#'), lines)]
    separator = max(',;\t', key=''.join(lines[:1]).count)
    # cells beyond the header, often empty, have no name
    return [
        *csv.DictReader(
            lines, restkey='', delimiter=separator, skipinitialspace=True)
    ]


def plain_rows(given: Rows) -> Rows:
    """Rows without empty cells, with lists as lists."""
    rows = []
    for cells in given:
        row = {}
        for key, value in cells.items():
            value = value.strip() if isinstance(value, str) else value
            if value not in (None, '', []):
                row[key.strip().lower()] = value
        if {'r', 'g', 'b'} <= row.keys():
            row['color'] = [row[part] for part in 'rgb']
        if re.fullmatch('#?[0-9A-Fa-f]{6}', str(row.get('color'))):
            row['color'] = [*bytes.fromhex(str(row['color'])[-6:])]
        for key in ('values', 'color'):
            if isinstance(row.get(key), (str, int)):
                row[key] = re.split(f'[{_BLANK}]+',
                                    str(row[key]).strip('()[] '))
        for key in {'isthing', 'ignore'} & row.keys():
            row[key] = _BOOLEANS.get(str(row[key]).lower(), row[key])
        rows.append(row)
    return rows


def read_pixels(path: str,
                size: Optional[Tuple[int, int]] = None,
                palette: bool = False) -> np.ndarray:
    """Pixels of a label map as they are stored, see :func:`decode_map`.

    Args:
        path (str): The file.
        size (tuple[int, int], optional): (h, w) that it must have.
        palette (bool): Whether to look indices up in a palette: RGB.
    """
    content = read_bytes(path, 'label map', None)
    pixels, fault = try_decode(decode_map, content)
    if pixels is None:
        fault = (f'{len(content)} bytes that are not a label map ({fault}). '
                 'Restore the PNG.')
    elif size is not None and pixels.shape[:2] != tuple(size):
        fault = (f'{pixels.shape[:2]} (h, w), but its image is {tuple(size)}. '
                 'Scale both alike (labels without interpolation).')
    if fault:
        raise InputError(f'{path}: {fault}')
    if palette and _has_palette(content):
        return decode_image(content)[..., ::-1]
    return pixels


def read_label_map(path: str,
                   size: Optional[Tuple[int, int]] = None,
                   bits: Optional[int] = None,
                   colors: Optional[bool] = False) -> np.ndarray:
    """Values (h, w) of a label map: uint8, uint16 or int32.

    Args:
        path, size: See :func:`read_pixels`.
        bits (int, optional): What a value must have.
        colors (bool, optional): Whether it is RGB, maybe by a palette; values
            are then R + 256 G + 256^2 B. None: both will do.
    """
    values, fault = read_pixels(path, size, bool(colors)), ''
    is_rgb = values.ndim == 3 and (values.dtype == np.uint8
                                   and colors is not False)
    if values.ndim != 2 and not is_rgb:
        fault = (f'{values.shape[2]} channels. A label map has one, of 8 or '
                 '16 bits, that holds the classes; not colours. --channels '
                 'says which channel holds what.')
    elif colors and not is_rgb:
        fault = ('one channel, but other label maps of this folder hold '
                 'colours. Export all alike.')
    elif bits is not None and 8 * values.itemsize != bits:
        fault = (f'{8 * values.itemsize} bit, but {bits} bit grey is '
                 'expected. Restore the official file.')
    if fault:
        raise InputError(f'{path}: {fault}')
    return rgb_to_id(values) if is_rgb else values


def paint_values(
        table: ClassTable,
        values: np.ndarray,
        path: str,
        numbers: Optional[np.ndarray] = None) -> Tuple[np.ndarray, Segments]:
    """Segments of a label map (h, w), which comes from the file ``path``: of
    each class one for all pixels without an instance, of a thing class a
    crowd, and one for each instance. ``numbers`` (h, w) are the instances of
    things (0: none) where the label map holds classes alone.

    Returns:
        tuple[np.ndarray, dict]: Ids int32 (h, w), 0 = void, which are the
        values themselves where these have 16 bits; the segments.
    """
    labels = values
    if numbers is not None:
        values = values.astype(np.int64) << 32 | numbers.astype(np.uint32)
    codes, _, index = index_map(values)
    ids = np.zeros(len(codes), np.int32)
    segments: Segments = {}
    for i, code in enumerate(codes.tolist()):
        value = code if numbers is None else code >> 32
        try:
            category, number = table.meaning(value, path)
        except InputError:
            if _looks_blended(table, labels):
                raise InputError(
                    f'{path}: values between those of neighbours, such as '
                    f'{_shown(value, table.colors)}: it was resized with '
                    'interpolation or compressed with loss. Export it again, '
                    'and resize it by nearest neighbour.') from None
            raise
        if category is None:
            continue
        is_thing = category in table.things
        if is_thing and numbers is not None:
            number = code & 0xffffffff or None
        segment = dict(
            id=code if 0 < code < _FREE_IDS else _FREE_IDS + i,
            category_id=category,
            iscrowd=int(is_thing and number is None))
        ids[i] = segments.setdefault((category, number), segment)['id']
    return ids[index], segments


def _looks_blended(table: ClassTable, labels: np.ndarray) -> bool:
    listed = [*table.category_of]
    if table.offset:
        numbered = labels[labels >= table.first]
        known = np.isin(numbered // table.offset, listed)
        listed += np.unique(numbered[known]).tolist()
    return is_blended(id_to_rgb(labels) if table.colors else labels, listed)


def _is_colored(path: str, by_palette: bool) -> bool:
    content = read_bytes(path, 'label map', None)
    values, _ = try_decode(decode_map, content)
    return values is not None and (values.ndim == 3
                                   or by_palette and _has_palette(content))


def _has_palette(content: bytes) -> bool:
    return content.startswith(SIGNATURE) and content[25] == 3
