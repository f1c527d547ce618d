"""Text of ``tools/paper.py list`` and ``show``, and the map of all rows."""
import shlex
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional

from .plan import default_seeds, grid_of, plan_steps, run_of
from .report import markdown_table
from .results import State, states_of
from .rows import PaperTables, Row, Table
from .run import complexity_file
from .steps import LaunchOptions


def numbers(values: Mapping[str, Optional[float]]) -> str:
    """Numbers of a row in one line.

    Args:
        values (Mapping[str, float | None]): By metric.

    Returns:
        str: 'PQ 39.0  AP 33.3', without what is not printed.
    """
    return '  '.join(f'{name} {value}' for name, value in values.items()
                     if value is not None)


def state_text(table: Table, row: Row, states: Mapping[int, State],
               computed: Optional[bool]) -> str:
    """The states of a row's seeds in one line.

    Args:
        table (Table): Of the row.
        row (Row): A row with a config.
        states (Mapping[int, State]): By seed.
        computed (bool, optional): Whether its compute is known; None where
            the table has none.

    Returns:
        str: 'done with PQ 39.0 (seed 0)', 'not run', ...
    """
    parts = []
    if row.trained:
        by_text: Dict[str, List[str]] = {}
        for seed, state in states.items():
            text = state.text
            if state.metrics is not None:
                value = state.metrics.get(table.main)
                score = 'n/a' if value is None else f'{value:.1f}'
                text = f'done with {table.main} {score}'
            by_text.setdefault(text, []).append(str(seed))
        parts += [
            f'{text} (seed {", ".join(seeds)})'
            for text, seeds in by_text.items()
        ] or ['not run']
    if computed is not None:
        parts.append('computed' if computed else 'not computed')
    return ', '.join(parts)


def row_states(tables: PaperTables, row: Row, work_dir: Path,
               miniature: bool) -> Dict[int, State]:
    """States of a row's seeds.

    Args:
        tables (PaperTables): The tables.
        row (Row): A row with a config.
        work_dir (Path): Folder of runs.
        miniature (bool): Of its miniature.

    Returns:
        dict[int, State]: By seed; {} for a row that is not trained.

    Raises:
        PaperError: A config is missing.
    """
    if not row.trained:
        return {}
    return states_of(run_of(tables, row, miniature), [work_dir])


def is_computed(tables: PaperTables, table: Table, row: Row, work_dir: Path,
                miniature: bool) -> Optional[bool]:
    """Whether a row's compute is known.

    Args:
        tables (PaperTables): The tables.
        table (Table): Of the row.
        row (Row): A row with a config.
        work_dir (Path): Folder of runs.
        miniature (bool): Of its miniature, which has none.

    Returns:
        bool | None: None where the table has no compute.

    Raises:
        PaperError: The config is missing.
    """
    if miniature or not table.compute:
        return None
    return complexity_file(work_dir, tables.path(row.config)).is_file()


def list_rows(tables: PaperTables, chosen: Iterable[Table], work_dir: Path,
              miniature: bool) -> str:
    """Every row that is trained or computed: numbers, config, state.

    Args:
        tables (PaperTables): The tables.
        chosen (Iterable[Table]): Those to list.
        work_dir (Path): Folder of runs.
        miniature (bool): The rows' miniature instead.

    Returns:
        str: Three lines for each row.

    Raises:
        PaperError: A config is missing.
    """
    lines = []
    for table in chosen:
        rows = [
            row for row in table.rows
            if (row.miniature if miniature else row.config)
        ]
        if not rows:
            continue
        lines.append(f'{table.id}: {table.title}')
        for row in rows:
            config = row.miniature_config if miniature else row.config
            computed = is_computed(tables, table, row, work_dir, miniature)
            states = row_states(tables, row, work_dir, miniature)
            paper = numbers(row.paper) or 'no numbers printed'
            lines += [
                f'  {row.name}  [{paper}]',
                f'      configs/{config}',
                f'      {state_text(table, row, states, computed)}',
            ]
    return '\n'.join(lines)


def show_row(tables: PaperTables, row: Row, work_dir: Path, tools: Path,
             gpus: int, miniature: bool) -> str:
    """A row: numbers, config, what shares its run, commands, state.

    Args:
        tables (PaperTables): The tables.
        row (Row): Any row.
        work_dir (Path): Folder of runs.
        tools (Path): Folder of the tools.
        gpus (int): Of each run; 0 without a launcher.
        miniature (bool): The row's miniature instead.

    Returns:
        str: Lines for the terminal.

    Raises:
        PaperError: A config is missing.
    """
    table = tables.table(row.table)
    lines = [
        f'{row.name}: {row.title} ({table.title}, section {table.section})',
        f'paper: {numbers(row.paper) or "no numbers printed"}'
    ]
    chosen = row.miniature_config if miniature else row.config
    if chosen is None:
        return '\n'.join(lines + [
            'no miniature of it' if row.
            config else "another system's: nothing to run"
        ])
    for config in filter(None,
                         [chosen, None if miniature else row.test_config]):
        path = tables.path(config)
        lines += ['', f'configs/{config}:']
        lines += [f'    {line}' for line in path.read_text().splitlines()]
    lines += [''] + _shared(tables, row, miniature)
    launch = LaunchOptions(work_dir, tools, gpus)
    seeds = 1
    steps = plan_steps(tables, [row], launch, seeds, miniature)
    lines += ['commands (seed 0):']
    lines += [f'    {shlex.join(step.command)}' for step in steps]
    if row.trained:
        count = default_seeds(row, miniature)
        lines.append(f'seeds: {count}' +
                     (' as in the paper' if count == 5 else ''))
    computed = is_computed(tables, table, row, work_dir, miniature)
    states = row_states(tables, row, work_dir, miniature)
    lines.append(f'state: {state_text(table, row, states, computed)}')
    if row.test_config and not miniature:
        lines.append('Its numbers come from COCO\'s server: zip '
                     'SEED_FOLDER/test-dev.panoptic.json and its PNGs, and '
                     'write what it says to SEED_FOLDER/test-dev/metrics.json'
                     ' as {"coco_panoptic/PQ": 40.9, "coco_panoptic/PQ_th": '
                     '48.3, "coco_panoptic/PQ_st": 29.7}')
    return '\n'.join(lines)


def _shared(tables: PaperTables, row: Row, miniature: bool) -> List[str]:
    """Lines about rows that stand on the same run."""
    if not row.trained:
        return []

    def config_of(other: Row) -> Optional[str]:
        return other.miniature_config if miniature else other.config

    same = [
        other.name for other in tables.rows.values() if other.trained
        and other.name != row.name and config_of(other) == config_of(row)
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


GENERATED = ('<!-- Written by `python tools/paper.py list --markdown`; '
             'changes are lost. -->')


def map_page(tables: PaperTables) -> str:
    """The page ``configs/paper/README.md``: tables, rows, configs.

    Args:
        tables (PaperTables): The tables.

    Returns:
        str: Markdown.
    """
    lines = [
        GENERATED, '', '# Rows of the paper and their configs', '',
        '`python tools/paper.py show ROW` prints the commands of a row, '
        '`run ROW` runs them.', 'Numbers are the paper\'s. Rows with equal '
        'configs share one run; the rows of', 'other systems are left out '
        '(`tables.yml` has them).', ''
    ]
    for table in tables:
        rows = []
        for row in table.rows:
            if row.config is None:
                continue
            config = _link(row.config)
            if row.networks:
                config += '<br>from ' + ', '.join(f'`{name}`'
                                                  for name in row.networks)
            if row.test_config:
                config += f'<br>exported by {_link(row.test_config)}'
            mini = _link(row.miniature_config) if row.miniature else ''
            rows.append((f'`{row.name}`', numbers(row.paper), config, mini))
        lines += [
            f'## {table.id}: {table.title}', '',
            markdown_table(('row', 'paper', 'config', 'miniature'), rows), ''
        ]
    return '\n'.join(lines)


def _link(config: str) -> str:
    target = config.removeprefix('paper/')
    if target == config:
        target = f'../{config}'
    return f'[{Path(config).stem}]({target})'
