"""Results in folders of runs, table by table.

The miniature has one run for the rows of both data sets, so tables that
differ in the data set alone (2a and 2b, 2c and 2d) become one.
"""
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import (Dict, FrozenSet, List, Mapping, Optional, Sequence, Set,
                    Tuple)

from mmengine_exact.errors import InputError

from .results import (NOT_RUN, Spreads, State, Verdict, best_of, judge_rows,
                      spreads, states_of)
from .runs import Run, Weights, complexity_file, grid_of, run_of
from .tables import PaperTables, Row, Table


@dataclass(frozen=True)
class Grid:
    """The best (lambda_i, lambda_s) of section 4.4 by the median PQ, and its
    metrics; ``done`` of ``total`` weights have a result."""

    weights: Weights
    found: Spreads
    done: int
    total: int


@dataclass(frozen=True)
class Result:
    """A row of a report; in miniature, its name is that of the run."""

    name: str
    label: str
    title: str
    #: printed numbers by data set and metric
    paper: Mapping[str, Mapping[str, Optional[float]]]
    #: below ``configs/``; for test-dev the one that exports
    config: Optional[str] = None
    #: states by seed
    states: Mapping[int, State] = field(default_factory=dict)
    #: values of the seeds that are done
    found: Spreads = field(default_factory=dict)
    #: where section 4.4's weights were run
    grid: Optional[Grid] = None

    @property
    def seeds(self) -> List[int]:
        """Those that are done."""
        return [s for s, state in self.states.items() if state.metrics]


@dataclass(frozen=True)
class Section:
    """A table of a report; in miniature, one or more tables."""

    tables: Tuple[Table, ...]
    columns: Tuple[str, ...]
    results: List[Result]
    verdicts: List[Verdict]

    @property
    def id(self) -> str:
        """'table2a', of several 'table2a-table2b'."""
        return '-'.join(table.id for table in self.tables)

    @property
    def data(self) -> List[str]:
        """Data sets of all its tables, each once."""
        return list(dict.fromkeys(d for t in self.tables for d in t.data))


@dataclass(frozen=True)
class Report:
    """All tables; states by run and seed where there is no result yet; and
    work directories without any run."""

    sections: List[Section]
    unfinished: Mapping[str, str]
    empty: List[Path]
    miniature: bool


def collect(tables: PaperTables,
            work_dirs: Sequence[Path],
            miniature: bool = False) -> Report:
    """Read all runs of some work directories, as ``tools/paper.py run`` fills
    them; of a run with the same seed in several, the first that is done.

    Raises:
        InputError: None of the folders exists.
    """
    if not any(path.is_dir() for path in work_dirs):
        raise InputError(f'{", ".join(map(str, work_dirs))}: no such folder. '
                         'Name what --work-dir of `tools/paper.py run` was.')
    reader = _Reader(tables, work_dirs)
    if miniature:
        sections = reader.miniature_sections()
    else:
        sections = [reader.section(table) for table in tables]
    empty = [path for path in work_dirs if path not in reader.filled]
    return Report(sections, reader.unfinished, empty, miniature)


class _Reader:
    """Reads runs, and notes what is half done and which folders hold any."""

    def __init__(self, tables: PaperTables, work_dirs: Sequence[Path]) -> None:
        self.tables, self.work_dirs = tables, work_dirs
        self.unfinished: Dict[str, str] = {}
        self.filled: Set[Path] = set()

    def states(self, run: Run) -> Dict[int, State]:
        for network in run.networks:
            self.states(network)
        states = states_of(run, self.work_dirs)
        for seed, state in states.items():
            self.filled.update(state.folder.parents)
            if state.metrics is None and state.text != NOT_RUN:
                self.unfinished[f'{run.name} seed {seed}'] = (
                    f'{state.text} ({state.folder})')
        return states

    def section(self, table: Table) -> Section:
        results = [self.result(table, row) for row in table.rows]
        verdicts = []
        for data in table.data:
            ours = {r.label: r.found for r in results if data in r.paper}
            verdicts += judge_rows(table.claims, table.of_data(data), ours,
                                   data)
        return Section((table, ), table.columns, results, verdicts)

    def result(self, table: Table, row: Row) -> Result:
        result = Result(row.name, row.label, row.title, {row.data: row.paper})
        if row.config is None:
            return result
        run = run_of(self.tables, row)
        states = self.states(run) if row.trained else {}
        return replace(
            result,
            config=row.test_config or row.config,
            states=states,
            found=spreads(states, table.columns) | self.compute(table, row),
            grid=self.grid(table, row))

    def compute(self, table: Table, row: Row) -> Spreads:
        """Flops, memory and resolution, where they are counted."""
        for work_dir in self.work_dirs if table.compute else ():
            path = complexity_file(work_dir, self.tables.path(row.config))
            if path.is_file():
                self.filled.add(work_dir)
                content = json.loads(path.read_bytes())
                # 'trunk' is backbone and FPN
                cost = content['trunk' if row.computed else 'total']
                values = dict(
                    flops=cost['multiply_adds'] / 1e12,
                    memory=cost['activations'] / 1e9,
                    resolution=1 / content['output_stride'])
                return {name: [values[name]] for name in table.compute}
        return {}

    def grid(self, table: Table, row: Row) -> Optional[Grid]:
        """The best of the grid; None where no run of it alone is there."""
        runs = grid_of(self.tables, row)
        states = {weights: self.states(run) for weights, run in runs.items()}
        best, done = best_of(states)
        if best is None or not any(states[w]
                                   for w, r in runs.items() if r.weights):
            return None
        # on test-dev, where the row is
        test_config = run_of(self.tables, row).test_config
        run = replace(runs[best], test_config=test_config)
        found = spreads(self.states(run), table.columns)
        return Grid(best, found, done, len(runs))

    def miniature_sections(self) -> List[Section]:
        """Tables that stand on the same miniature runs are one."""
        groups: Dict[FrozenSet, List[Table]] = {}
        for table in self.tables:
            runs = frozenset((row.label, row.miniature) for row in table.rows)
            if all(miniature for _, miniature in runs):
                groups.setdefault(runs, []).append(table)
        return [self.miniature_section(group) for group in groups.values()]

    def miniature_section(self, tables: Sequence[Table]) -> Section:
        columns = tuple(
            dict.fromkeys(name for table in tables for name in table.columns))
        all_rows = [row for table in tables for row in table.rows]
        results = []
        for label in dict.fromkeys(row.label for row in all_rows):
            rows = [row for row in all_rows if row.label == label]
            run = run_of(self.tables, rows[0], miniature=True)
            states = self.states(run)
            paper = {row.data: row.paper for row in rows}
            results.append(
                Result(run.name, label, rows[0].title,
                       paper, rows[0].config_of(True), states,
                       spreads(states, columns)))
        measured = {name for result in results for name in result.found}
        # shapes have no iIoU
        columns = tuple(name for name in columns
                        if name in measured or not measured)
        claims = dict.fromkeys(c for table in tables for c in table.claims)
        ours = {result.label: result.found for result in results}
        verdicts = judge_rows(claims, [], ours, 'miniature')
        return Section(tuple(tables), columns, results, verdicts)
