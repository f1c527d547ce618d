"""The paper's tables, read from ``configs/paper/tables.yml``.

The form of that file is written at its top. A row is called TABLE/LABEL, or
TABLE/DATA-LABEL in a table of several data sets. Numbers are in percent;
flops in 1e12 multiply-adds, memory in 1e9 activations.
"""
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import (Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple,
                    Optional, Tuple, TypeVar, Union)

import msgspec
import yaml

from mmengine_exact.errors import InputError

_T = TypeVar('_T')
_Number = Union[int, float]


class Row(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One line of a table; paths are relative to ``configs/``."""

    #: TABLE/LABEL, TABLE/DATA-LABEL
    name: str
    table: str
    data: str
    label: str
    title: str
    #: printed numbers by column
    paper: Dict[str, Optional[_Number]]
    #: whether all its columns are computed, so that nothing is trained
    computed: bool
    config: Optional[str] = None
    networks: Tuple[str, ...] = ()
    test_config: Optional[str] = None
    tta: bool = False
    lambda_grid: bool = False
    miniature: Optional[str] = None

    @property
    def trained(self) -> bool:
        """Whether its numbers come from a training."""
        return self.config is not None and not self.computed

    def config_of(self, miniature: bool) -> Optional[str]:
        """Its config, or that of its miniature."""
        if not miniature:
            return self.config
        return self.miniature and f'paper/miniature/{self.miniature}.py'


class Claim(NamedTuple):
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


class Table(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A table of the paper."""

    id: str
    title: str
    section: str
    main: str
    columns: Tuple[str, ...]
    rows: Tuple[Row, ...]
    claims: Tuple[Claim, ...]
    axis: Optional[str] = None
    baseline: Optional[str] = None
    compute: Tuple[str, ...] = ()
    #: whether ours is measured on the same images as the paper's
    difference: bool = True

    @property
    def data(self) -> List[str]:
        """Data sets in their order."""
        return list(dict.fromkeys(row.data for row in self.rows))

    def of_data(self, data: str) -> List[Row]:
        """Rows of a data set, in the table's order."""
        return [row for row in self.rows if row.data == data]


@dataclass(frozen=True)
class PaperTables:
    """All tables by id, all rows by name, in the order of the file; and the
    folder of configs that they point into."""

    tables: Dict[str, Table]
    rows: Dict[str, Row]
    configs: Path

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables.values())

    def table(self, name: str) -> Table:
        """The table of a name such as 'table2a', or an InputError."""
        return _find('table', name, self.tables)

    def row(self, name: str) -> Row:
        """The row of a name such as 'table3a/coco-r50', or an InputError."""
        return _find('row', name, self.rows)

    def select(self, names: Iterable[str]) -> List[Row]:
        """Rows by their names, by their table's, or 'all', each once.

        Raises:
            InputError: A name is neither; names the nearest.
        """
        groups: Dict[str, Iterable[Row]] = dict(all=self.rows.values())
        groups.update((name, [row]) for name, row in self.rows.items())
        groups.update((table.id, table.rows) for table in self)
        found = (_find('row or table', name, groups) for name in names)
        return list({row.name: row for rows in found for row in rows}.values())

    def path(self, config: str) -> Path:
        """The file of a config that is named relative to ``configs/``."""
        return self.configs / config


def _find(what: str, name: str, known: Mapping[str, _T]) -> _T:
    if name in known:
        return known[name]
    # a table instead of a row: its rows
    near = [other for other in known if other.startswith(f'{name}/')]
    # cutoff 0: also far ones show what names look like
    near = near or get_close_matches(name.lower(), known, n=3, cutoff=0.)
    raise InputError(f'{name or "(empty)"}: no such {what}. Nearest: '
                     f'{", ".join(near)}. All are in `tools/paper.py list`.')


def read_tables(path: Path) -> PaperTables:
    """Read a file of tables."""
    tables: Dict[str, Table] = {}
    by_name: Dict[str, Row] = {}
    for name, content in yaml.safe_load(path.read_bytes()).items():
        rows = list(_rows(name, content))
        claims = [_claim(rows, **claim) for claim in content.pop('claims', ())]
        content.update(id=name, rows=rows, claims=claims)
        tables[name] = msgspec.convert(content, Table)
        by_name.update((row.name, row) for row in rows)
    return PaperTables(tables, by_name, path.parents[1])


def _rows(name: str, content: Dict[str, Any]) -> Iterator[Row]:
    columns = content['columns']
    computed = set(columns) <= set(content.get('compute', ()))
    for data, lines in content['rows'].items():
        prefix = f'{name}/{data}-' if len(content['rows']) > 1 else f'{name}/'
        for label, line in lines.items():
            fields = dict(
                line,
                name=f'{prefix}{label}',
                table=name,
                data=data,
                label=label,
                title=line.get('name', label),
                paper=dict(zip(columns, line['paper'], strict=True)),
                computed=computed)
            yield msgspec.convert(fields, Row)


def _claim(rows: List[Row], text: str, metric: str, **sides: Any) -> Claim:
    (kind, (left, right, *factor)), = sides.items()
    if left == 'others':
        left = dict.fromkeys(row.label for row in rows
                             if row.config and row.label != right)
    left = (left, ) if isinstance(left, str) else tuple(left)
    return Claim(text, metric, kind, left, right, *factor)
