"""The rows of the paper's tables, read from ``configs/paper/tables.yml``.

The form of that file is written at its top. A row is called TABLE/LABEL, or
TABLE/DATA-LABEL where a table has several data sets. Numbers are in percent;
flops in 1e12 multiply-adds, memory in 1e9 activations.
"""
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

import yaml

from mmengine_exact.errors import InputError
from mmengine_exact.files import read_bytes

_TABLE_KEYS = {
    'title', 'section', 'main', 'columns', 'axis', 'baseline', 'compute',
    'difference', 'rows', 'claims'
}
_ROW_KEYS = {
    'name', 'paper', 'config', 'networks', 'test_config', 'tta', 'lambda_grid',
    'miniature'
}
#: Kinds of a claim, and how many things each compares.
CLAIMS = dict(better=2, comparable=2, ratio=3)
#: What the value of each key is, in a table, a row or a claim.
_KINDS = {
    **dict.fromkeys(('title', 'main', 'axis', 'config', 'test_config',
                     'miniature', 'text', 'metric'), 'a text'),
    **dict.fromkeys(('section', 'baseline', 'name'), 'a text or a number'),
    **dict.fromkeys(('difference', 'tta', 'lambda_grid'), 'true or false'),
    **dict.fromkeys(('columns', 'compute', 'networks'), 'a list of texts'),
    **dict.fromkeys((*CLAIMS, 'claims'), 'a list'),
    'paper': 'a list of numbers and nulls',
    'rows': 'a mapping of data sets to mappings of rows',
}


class PaperError(InputError):
    """A row, a file of tables or a folder of runs that cannot be used."""


@dataclass(frozen=True)
class Row:
    """One line of a table; paths are relative to ``configs/``."""

    name: str
    table: str
    data: str
    label: str
    title: str
    paper: Mapping[str, Optional[float]]
    config: Optional[str] = None
    networks: Tuple[str, ...] = ()
    test_config: Optional[str] = None
    tta: bool = False
    lambda_grid: bool = False
    miniature: Optional[str] = None
    #: whether all its columns are computed, so that nothing is trained
    computed: bool = False

    @property
    def trained(self) -> bool:
        """bool: Whether it stands on a training of ours."""
        return self.config is not None and not self.computed

    @property
    def miniature_config(self) -> Optional[str]:
        """str | None: Config of the miniature, below ``configs/``."""
        return self.miniature and f'paper/miniature/{self.miniature}.py'


@dataclass(frozen=True)
class Claim:
    """What the paper says of two rows: ``kind`` of ``left`` and ``right``.

    ``left`` are labels of which the best counts; ``factor`` is for ratios.
    """

    text: str
    metric: str
    kind: str
    left: Tuple[str, ...]
    right: str
    factor: Optional[float] = None


@dataclass(frozen=True)
class Table:
    """A table of the paper."""

    id: str
    title: str
    section: str
    main: str
    columns: Tuple[str, ...]
    rows: Tuple[Row, ...]
    claims: Tuple[Claim, ...] = ()
    axis: Optional[str] = None
    baseline: Optional[str] = None
    compute: Tuple[str, ...] = ()
    #: whether ours is measured on the same images as the paper's
    difference: bool = True

    @property
    def data(self) -> Tuple[str, ...]:
        """tuple[str]: Data sets in their order."""
        return tuple(dict.fromkeys(row.data for row in self.rows))

    def of_data(self, data: str) -> List[Row]:
        """Rows of a data set.

        Args:
            data (str): One of :attr:`data`.

        Returns:
            list[Row]: In the table's order.
        """
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
        """dict[str, Row]: By name, in the order of the tables."""
        return {row.name: row for table in self for row in table.rows}

    def table(self, name: str) -> Table:
        """A table by its id.

        Args:
            name (str): As 'table2a'.

        Returns:
            Table: It.

        Raises:
            PaperError: There is none; names the nearest.
        """
        known = {table.id: table for table in self}
        if name not in known:
            raise PaperError(_unknown('table', name, known))
        return known[name]

    def row(self, name: str) -> Row:
        """A row by its name.

        Args:
            name (str): As 'table2a/lambda-s-0.25'.

        Returns:
            Row: It.

        Raises:
            PaperError: There is none, or it is a table; names the nearest.
        """
        rows = self.rows
        if name not in rows:
            own = [row for row in rows if row.startswith(f'{name}/')]
            if own:
                raise PaperError(f'{name} is a table. Name one of its rows: '
                                 f'{", ".join(own)}.')
            raise PaperError(_unknown('row', name, rows))
        return rows[name]

    def select(self, names: Iterable[str]) -> List[Row]:
        """Rows by their names, by their table's, or 'all', each once.

        Args:
            names (Iterable[str]): Of rows and tables.

        Returns:
            list[Row]: In the order of the names.

        Raises:
            PaperError: A name is neither; names the nearest.
        """
        tables = {table.id: table.rows for table in self}
        rows = self.rows
        chosen: Dict[str, Row] = {}
        for name in names:
            if name == 'all':
                found = tuple(rows.values())
            elif name in tables:
                found = tables[name]
            elif name in rows:
                found = (rows[name], )
            else:
                raise PaperError(
                    _unknown('row or table', name, [*rows, *tables]))
            chosen.update((row.name, row) for row in found)
        return list(chosen.values())

    def path(self, config: str) -> Path:
        """A config file of a row.

        Args:
            config (str): Below ``configs/``.

        Returns:
            Path: The file.

        Raises:
            PaperError: It is missing.
        """
        path = self.configs / config
        if not path.is_file():
            raise PaperError(f'{path}: no such config. Restore it, or correct '
                             'configs/paper/tables.yml.')
        return path


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    # however far: the names show their form, too
    near = get_close_matches(name.lower(), list(known), n=3, cutoff=0.)
    return (f'{name or "(empty)"}: no such {what}. Nearest: '
            f'{", ".join(near)}. All are in `tools/paper.py list`.')


def read_tables(path: Path) -> PaperTables:
    """Read a file of tables.

    Args:
        path (Path): ``configs/paper/tables.yml``.

    Returns:
        PaperTables: All of it.

    Raises:
        PaperError: The file is not of the form written at its top; names
            the table or row.
    """
    try:
        content = yaml.safe_load(read_bytes(str(path), 'tables', None))
    except yaml.YAMLError as error:
        raise PaperError(f'{path}: is no YAML ({error}).') from None
    if not isinstance(content, dict):
        raise PaperError(f'{path}: holds no tables.')
    tables = PaperTables(
        tuple(
            _table(f'{path}: {name}', name, raw)
            for name, raw in content.items()),
        Path(path).parents[1])
    for row in tables.rows.values():
        for network in row.networks:
            if network not in tables.rows:
                raise PaperError(f'{path}: {row.name}: networks: '
                                 f'{_unknown("row", network, tables.rows)}')
    return tables


def _check_keys(where: str, raw: Mapping, known: set, wanted: set) -> None:
    if not isinstance(raw, dict):
        raise PaperError(f'{where}: {raw!r} is no mapping.')
    unknown, missing = set(raw) - known, wanted - set(raw)
    if unknown or missing:
        raise PaperError(
            f'{where}: unknown keys {sorted(map(str, unknown))}, missing keys '
            f'{sorted(missing)}. Known are {sorted(known)}.')
    for key, value in raw.items():
        if not _is(_KINDS[key], value):
            raise PaperError(f'{where}: {key}: {value!r} is not '
                             f'{_KINDS[key]}.')


def _is(kind: str, value: object) -> bool:
    """Whether a value is of one of :data:`_KINDS`."""
    if kind.startswith('a list'):
        item = dict(texts='a text', nulls='null').get(kind.split()[-1])
        return isinstance(value, list) and (item is None or all(
            _is(item, one) for one in value))
    if kind.startswith('a mapping'):
        return isinstance(value, dict) and bool(value) and all(
            isinstance(data, str) and isinstance(lines, dict)
            for data, lines in value.items())
    kinds: Dict[str, Tuple[type, ...]] = {
        'a text': (str, ),
        'a text or a number': (str, int, float),
        'true or false': (bool, ),
        'null': (type(None), int, float),
    }
    return type(value) in kinds[kind]


def _table(where: str, name: str, raw: Mapping) -> Table:
    _check_keys(where, raw, _TABLE_KEYS,
                {'title', 'section', 'main', 'columns', 'rows'})
    columns, compute = tuple(raw['columns']), tuple(raw.get('compute', ()))
    several = len(raw['rows']) > 1
    rows = []
    for data, lines in raw['rows'].items():
        for label, line in lines.items():
            slug = f'{data}-{label}' if several else str(label)
            rows.append(
                _row(f'{where}: {slug}', f'{name}/{slug}', name, data,
                     str(label), line, columns,
                     set(columns) <= set(compute)))
    labels = {row.label for row in rows}
    claims = tuple(
        _claim(f'{where}: claims', claim, columns, labels, rows)
        for claim in raw.get('claims', ()))
    baseline = raw.get('baseline')
    if baseline is not None and baseline not in labels:
        raise PaperError(f'{where}: baseline {baseline!r} is none of '
                         f'{sorted(labels)}.')
    return Table(name, raw['title'], str(raw['section']), raw['main'], columns,
                 tuple(rows), claims, raw.get('axis'), baseline, compute,
                 raw.get('difference', True))


def _row(where: str, name: str, table: str, data: str, label: str,
         raw: Mapping, columns: Tuple[str, ...], computed: bool) -> Row:
    _check_keys(where, raw, _ROW_KEYS, {'paper'})
    numbers = raw['paper']
    if not isinstance(numbers, list) or len(numbers) != len(columns):
        raise PaperError(f'{where}: paper: {numbers!r} is not one number for '
                         f'each of {list(columns)}.')
    values = {
        key: raw[key]
        for key in ('config', 'test_config', 'tta', 'lambda_grid', 'miniature')
        if key in raw
    }
    return Row(
        name=name,
        table=table,
        data=data,
        label=label,
        title=str(raw.get('name', label)),
        paper=dict(zip(columns, numbers)),
        networks=tuple(raw.get('networks', ())),
        computed=computed,
        **values)


def _claim(where: str, raw: Mapping, columns: Tuple[str, ...], labels: set,
           rows: List[Row]) -> Claim:
    _check_keys(where, raw, {'text', 'metric', *CLAIMS}, {'text', 'metric'})
    kinds = [kind for kind in CLAIMS if kind in raw]
    if len(kinds) != 1 or len(raw[kinds[0]]) != CLAIMS[kinds[0]]:
        raise PaperError(f'{where}: {raw!r} needs one of {list(CLAIMS)} with '
                         'two rows, for a ratio and its number.')
    left, right, *factor = raw[kinds[0]]
    names = left if isinstance(left, list) else [left]
    if not _is('a list of texts', [*names, right]) or not _is(
            'a list of numbers and nulls', factor):
        raise PaperError(f'{where}: {raw!r} names rows that are no texts, or '
                         'a ratio that is no number.')
    if left == 'others':
        left = dict.fromkeys(r.label for r in rows
                             if r.config and r.label != right)
    else:
        left = names
    unknown = ({*left, right} - labels) | ({raw['metric']} - set(columns))
    if unknown:
        raise PaperError(f'{where}: {raw["text"]!r} names {sorted(unknown)}, '
                         'no row or column of the table.')
    return Claim(raw['text'], raw['metric'], kinds[0], tuple(left), right,
                 factor[0] if factor else None)
