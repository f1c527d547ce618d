"""The paper's tables, read from ``configs/paper/tables.yml``.

The form of that file is written at its top, and here as types. A row is
called TABLE/LABEL, or TABLE/DATA-LABEL in a table of several data sets.
Numbers are in percent; flops in 1e12 multiply-adds, memory in 1e9
activations.
"""
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import (Any, Dict, Iterable, Iterator, List, Mapping, Optional,
                    Tuple, TypeVar, Union)

import msgspec
import yaml

from mmengine_exact.errors import InputError
from mmengine_exact.files import read_bytes

_T = TypeVar('_T')
_Number = Union[int, float]
_Labels = Union[str, List[str]]


class _RowFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    config: Optional[str] = None
    networks: Tuple[str, ...] = ()
    test_config: Optional[str] = None
    tta: bool = False
    lambda_grid: bool = False
    miniature: Optional[str] = None


class _RowForm(_RowFields, kw_only=True):
    """A row as it is written in the file."""

    paper: List[Optional[_Number]]
    name: Optional[str] = None


class Row(_RowFields, kw_only=True):
    """One line of a table; paths are relative to ``configs/``."""

    #: TABLE/LABEL, TABLE/DATA-LABEL
    name: str
    table: str
    data: str
    label: str
    title: str
    paper: Mapping[str, Optional[_Number]]
    #: whether all its columns are computed, so that nothing is trained
    computed: bool

    @property
    def trained(self) -> bool:
        """Whether its numbers come from a training."""
        return self.config is not None and not self.computed

    @property
    def miniature_config(self) -> Optional[str]:
        """Config of the miniature, below ``configs/``."""
        return self.miniature and f'paper/miniature/{self.miniature}.py'


class _ClaimForm(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    metric: str
    better: Optional[Tuple[_Labels, str]] = None
    comparable: Optional[Tuple[_Labels, str]] = None
    ratio: Optional[Tuple[_Labels, str, _Number]] = None


@dataclass(frozen=True)
class Claim:
    """What the paper says of two rows: ``kind`` of ``left`` and ``right``.

    ``kind`` is 'better', 'comparable' or 'ratio'; ``left`` are labels, the
    best of which counts; ``factor`` belongs to a ratio.
    """

    text: str
    metric: str
    kind: str
    left: Tuple[str, ...]
    right: str
    factor: Optional[_Number] = None


class _TableFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    title: str
    section: str
    main: str
    columns: Tuple[str, ...]
    axis: Optional[str] = None
    baseline: Optional[str] = None
    compute: Tuple[str, ...] = ()
    #: whether ours is measured on the same images as the paper's
    difference: bool = True


class _TableForm(_TableFields, kw_only=True):
    rows: Dict[str, Dict[str, Any]]
    claims: Tuple[_ClaimForm, ...] = ()


class Table(_TableFields, kw_only=True):
    """A table of the paper."""

    id: str
    rows: Tuple[Row, ...]
    claims: Tuple[Claim, ...]

    @property
    def data(self) -> Tuple[str, ...]:
        """Data sets in their order."""
        return tuple(dict.fromkeys(row.data for row in self.rows))

    def of_data(self, data: str) -> List[Row]:
        """Rows of a data set, in the table's order."""
        return [row for row in self.rows if row.data == data]


@dataclass(frozen=True)
class PaperTables:
    """All tables, and the folder of configs that they point into."""

    all: Tuple[Table, ...]
    configs: Path

    def __iter__(self) -> Iterator[Table]:
        return iter(self.all)

    @property
    def rows(self) -> Dict[str, Row]:
        """Rows by name, in the order of the tables."""
        return {row.name: row for table in self for row in table.rows}

    def table(self, name: str) -> Table:
        """The table with an id such as 'table2a'.

        Raises:
            InputError: There is none; names the nearest.
        """
        return _find('table', name, {table.id: table for table in self})

    def row(self, name: str) -> Row:
        """The row with a name such as 'table2a/lambda-s-0.25'.

        Raises:
            InputError: There is none; names the nearest.
        """
        return _find('row', name, self.rows)

    def select(self, names: Iterable[str]) -> List[Row]:
        """Rows by their names, by their table's, or 'all', each once.

        Raises:
            InputError: A name is neither; names the nearest.
        """
        groups: Dict[str, Tuple[Row, ...]] = {
            name: (row, )
            for name, row in self.rows.items()
        }
        groups.update((table.id, table.rows) for table in self)
        groups['all'] = tuple(self.rows.values())
        found = (_find('row or table', name, groups) for name in names)
        return list({row.name: row for rows in found for row in rows}.values())

    def path(self, config: str) -> Path:
        """The file of a config that is named relative to ``configs/``.

        Raises:
            InputError: It is missing.
        """
        path = self.configs / config
        if not path.is_file():
            raise InputError(f'{path}: no such config. Restore it, or correct '
                             'configs/paper/tables.yml.')
        return path


def _find(what: str, name: str, known: Mapping[str, _T]) -> _T:
    if name in known:
        return known[name]
    # a table in the place of a row: its rows
    near = [other for other in known if other.startswith(f'{name}/')]
    # cutoff 0: also far ones show what names look like
    near = near or get_close_matches(name.lower(), known, n=3, cutoff=0.)
    raise InputError(f'{name or "(empty)"}: no such {what}. Nearest: '
                     f'{", ".join(near)}. All are in `tools/paper.py list`.')


def read_tables(path: Path) -> PaperTables:
    """Read a file of tables.

    Raises:
        InputError: The file is not of the form written at its top; names the
            table or row.
    """
    forms = {
        name: convert(f'{path}: {name}', content, _TableForm)
        for name, content in read_yaml(path, Dict[str, Any]).items()
    }
    for name, form in forms.items():
        for data, lines in form.rows.items():
            for label, line in lines.items():
                lines[label] = convert(f'{path}: {name}: {data}: {label}',
                                       line, _RowForm)
    tables = PaperTables(
        tuple(_table(name, form) for name, form in forms.items()),
        Path(path).parents[1])
    for fault in _faults(tables, forms):
        raise InputError(f'{path}: {fault}.')
    return tables


def read_yaml(path: Path, form: Any) -> Any:
    """The content of a YAML file that people write, as msgspec types.

    Raises:
        InputError: It cannot be read, is not YAML or not of that form.
    """
    content = read_bytes(str(path), 'file', None)
    try:
        raw = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError) as error:  # such as a month of 13
        text = ' '.join(str(error).split())
        raise InputError(f'{path}: is not YAML ({text}).') from None
    return convert(str(path), raw, form)


def convert(where: str, content: Any, form: Any) -> Any:
    """Plain content as msgspec types.

    Raises:
        InputError: It is of another form; names the key.
    """
    try:
        return msgspec.convert(content, form)
    except msgspec.ValidationError as error:
        raise InputError(f'{where}: {error}.') from None


def _table(name: str, form: _TableForm) -> Table:
    several = len(form.rows) > 1
    rows = []
    for data, lines in form.rows.items():
        for label, line in lines.items():
            fields = msgspec.structs.asdict(line)
            fields.update(
                name=f'{name}/{data}-{label}'
                if several else f'{name}/{label}',
                title=label if line.name is None else line.name,
                paper=dict(zip(form.columns, line.paper)))
            computed = set(form.columns) <= set(form.compute)
            rows.append(
                Row(table=name,
                    data=data,
                    label=label,
                    computed=computed,
                    **fields))
    fields = msgspec.structs.asdict(form)
    claims = tuple(_claim(claim, rows) for claim in form.claims)
    return Table(**dict(fields, id=name, rows=tuple(rows), claims=claims))


def _claim(form: _ClaimForm, rows: List[Row]) -> Claim:
    kind = next(
        (kind
         for kind in ('better', 'comparable', 'ratio') if getattr(form, kind)),
        '')
    left, right, *factor = getattr(form, kind, ((), ''))
    if left == 'others':
        left = dict.fromkeys(row.label for row in rows
                             if row.config and row.label != right)
    left = (left, ) if isinstance(left, str) else tuple(left)
    return Claim(form.text, form.metric, kind, left, right, *factor)


def _faults(tables: PaperTables, forms: Dict[str,
                                             _TableForm]) -> Iterator[str]:
    """What types cannot say: numbers of columns, and names of rows."""
    rows = tables.rows
    for table in tables:
        labels = {row.label for row in table.rows}
        for data, lines in forms[table.id].rows.items():
            for label, line in lines.items():
                if len(line.paper) != len(table.columns):
                    yield (f'{table.id}: {data}: {label}: paper: {line.paper} '
                           'is not one number for each of '
                           f'{list(table.columns)}')
        if table.baseline not in {None, *labels}:
            yield (f'{table.id}: baseline {table.baseline!r} is none of '
                   f'{sorted(labels)}')
        for claim in table.claims:
            unknown = {*claim.left, claim.right} - labels
            unknown |= {claim.metric} - set(table.columns)
            if not claim.left:
                yield (f'{table.id}: claim {claim.text!r} needs better, '
                       'comparable or ratio with two rows')
            if unknown:
                yield (f'{table.id}: claim {claim.text!r} names '
                       f'{sorted(unknown)}, no row or column of the table')
    for row in rows.values():
        for network in row.networks:
            if network not in rows:
                yield f'{row.name}: networks: {network}: no such row'
