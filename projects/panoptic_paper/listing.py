"""Text of ``tools/paper.py list`` and ``show``, and the map of all rows."""
import os.path as osp
import shlex
from pathlib import Path
from typing import Dict, Iterable, List, Mapping

from .plan import LaunchOptions, plan_steps
from .report import markdown_table, render
from .results import NOT_RUN, State, states_of
from .runs import complexity_file, default_seeds, grid_of, run_of
from .tables import PaperTables, Row, Table


def list_rows(tables: PaperTables, chosen: Iterable[Table], work_dir: Path,
              miniature: bool) -> str:
    """Three lines for every row that is trained or computed: numbers, config,
    state."""
    lines = []
    for table in chosen:
        rows = [row for row in table.rows if row.config_of(miniature)]
        lines += [f'{table.id}: {table.title}'] * bool(rows)
        for row in rows:
            lines += [
                f'  {row.name}  [{_numbers(row) or "no numbers printed"}]',
                f'      configs/{row.config_of(miniature)}',
                f'      {_state(tables, row, work_dir, miniature)}',
            ]
    return '\n'.join(lines)


def show_row(tables: PaperTables, row: Row, launch: LaunchOptions,
             miniature: bool) -> str:
    """A row: numbers, config, what shares its run, commands, state."""
    table = tables.table(row.table)
    lines = [
        f'{row.name}: {row.title} ({table.title}, section {table.section})',
        f'paper: {_numbers(row) or "no numbers printed"}'
    ]
    chosen = row.config_of(miniature)
    if chosen is None:
        lines.append('no miniature of it' if row.
                     config else "another system's: nothing to run")
        return '\n'.join(lines)
    export = None if miniature else row.test_config
    for config in filter(None, [chosen, export]):
        text = tables.path(config).read_text()
        lines += ['', f'configs/{config}:']
        lines += [f'    {line}' for line in text.splitlines()]
    lines.append('')
    if row.trained:
        lines += _shared(tables, row, miniature)
    steps = plan_steps(tables, [row], launch, 1, miniature)
    lines += ['commands (seed 0):']
    lines += [f'    {shlex.join(step.command)}' for step in steps]
    if row.trained:
        count = default_seeds(row, miniature)
        lines.append(f'seeds: {count}' + ' as in the paper' * (count == 5))
    lines.append(f'state: {_state(tables, row, launch.work_dir, miniature)}')
    if export:
        lines.append('Its numbers come from COCO\'s server: zip '
                     'SEED_FOLDER/test-dev.panoptic.json and its PNGs, and '
                     'write what it says to SEED_FOLDER/test-dev/metrics.json'
                     ' as {"coco_panoptic/PQ": 40.9, "coco_panoptic/PQ_th": '
                     '48.3, "coco_panoptic/PQ_st": 29.7}')
    return '\n'.join(lines)


def map_page(tables: PaperTables) -> str:
    """The page ``configs/paper/README.md``: tables, rows, configs."""
    sections = []
    for table in tables:
        rows = []
        for row in filter(lambda row: row.config, table.rows):
            config = _link(row.config)
            if row.networks:
                config += '<br>from ' + ', '.join(f'`{name}`'
                                                  for name in row.networks)
            if row.test_config:
                config += f'<br>exported by {_link(row.test_config)}'
            mini = _link(row.config_of(True)) if row.miniature else ''
            rows.append((f'`{row.name}`', _numbers(row), config, mini))
        text = markdown_table(('row', 'paper', 'config', 'miniature'), rows)
        sections.append((table, text))
    return render('rows.md', sections=sections)


def state_text(table: Table, states: Mapping[int, State]) -> str:
    """The states of a row's seeds in one line: 'not run', 'done with PQ 39.0
    (seed 0), training 35 % (seed 1, 2)'."""
    by_text: Dict[str, List[str]] = {}
    for seed, state in states.items():
        text = state.text
        if state.metrics is not None:
            value = state.metrics.get(table.main)
            score = 'n/a' if value is None else f'{value:.1f}'
            text = f'done with {table.main} {score}'
        by_text.setdefault(text, []).append(str(seed))
    return ', '.join(f'{text} (seed {", ".join(seeds)})'
                     for text, seeds in by_text.items()) or NOT_RUN


def _numbers(row: Row) -> str:
    """'PQ 39.0  AP 33.3', without what is not printed."""
    return '  '.join(f'{name} {value}' for name, value in row.paper.items()
                     if value is not None)


def _state(tables: PaperTables, row: Row, work_dir: Path,
           miniature: bool) -> str:
    table = tables.table(row.table)
    parts = []
    if row.trained:
        states = states_of(run_of(tables, row, miniature), [work_dir])
        parts.append(state_text(table, states))
    if table.compute and not miniature:
        file = complexity_file(work_dir, tables.path(row.config))
        parts.append('computed' if file.is_file() else 'not computed')
    return ', '.join(parts)


def _shared(tables: PaperTables, row: Row, miniature: bool) -> List[str]:
    """Lines about rows that stand on the same run as a trained one."""
    same = [
        other.name for other in tables.rows.values()
        if other.trained and other is not row
        and other.config_of(miniature) == row.config_of(miniature)
    ]
    lines = [f'same run: {", ".join(same)}'] if same else []
    if row.networks:
        lines.append(f'networks: {", ".join(row.networks)}')
    if row.lambda_grid and not miniature:
        runs = grid_of(tables, row).values()
        other = sorted({run.name for run in runs if run.weights is None})
        lines.append(f'--lambda-grid: {len(runs)} runs, of which configs: '
                     f'{", ".join(other)}')
    return lines


def _link(config: str) -> str:
    return f'[{Path(config).stem}]({osp.relpath(config, "paper")})'
