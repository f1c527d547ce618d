"""From rows to steps, each training and evaluation once."""
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .results import spreads, states_of
from .rows import PaperError, PaperTables, Row
from .run import Run, Weights, equal_but_weights, loss_weights
from .steps import LaunchOptions, Step, compute_step, steps_of

#: Section 4.4: lambda_i and lambda_s are chosen from these.
GRID = (0.5, 0.75, 1.0)
#: Trainings of a row: the paper has five on Cityscapes (section 4.1).
SEEDS = dict(cityscapes=5, miniature=3)


def run_of(tables: PaperTables, row: Row, miniature: bool = False) -> Run:
    """The run that a row stands on; rows of equal runs share it.

    Args:
        tables (PaperTables): The tables.
        row (Row): A row that is trained.
        miniature (bool): Its miniature instead.

    Returns:
        Run: Equal for rows that share it.

    Raises:
        PaperError: A config is missing.
    """
    config = tables.path(row.miniature_config if miniature else row.config)
    networks = tuple(
        run_of(tables, tables.row(name), miniature) for name in row.networks)
    export = None
    if row.test_config and not miniature:
        export = tables.path(row.test_config)
    return Run(config, config.stem, None, networks, export, row.tta
               and not miniature)


def grid_of(tables: PaperTables, row: Row) -> Dict[Weights, Run]:
    """Runs of section 4.4's weights for a row; those that are another row's
    config are its run.

    Args:
        tables (PaperTables): The tables.
        row (Row): Any row.

    Returns:
        dict[tuple[float, float], Run]: By (lambda_i, lambda_s); empty for a
        row that is not of section 4.4.

    Raises:
        PaperError: A config is missing.
    """
    if not row.lambda_grid:
        return {}
    # which is best is decided on the validation set
    own = replace(run_of(tables, row), test_config=None)
    twins = {loss_weights(own.config): own}
    others = [
        tables.configs / other.config for other in tables.rows.values()
        if other.trained and not other.networks
    ]
    for path in dict.fromkeys(others):
        if path.is_file() and equal_but_weights(path, own.config):
            twins.setdefault(loss_weights(path), Run(path, path.stem))
    return {
        pair:
        twins.get(pair)
        or Run(own.config, f'{own.name}_lambda-i-{pair[0]}_lambda-s-{pair[1]}',
               pair)
        for pair in product(GRID, GRID)
    }


def best_of(runs: Mapping[Weights, Run],
            work_dirs: Sequence[Path]) -> Tuple[Optional[Weights], int]:
    """The weights with the best median PQ on the validation set.

    Args:
        runs (Mapping[tuple[float, float], Run]): From :func:`grid_of`.
        work_dirs (Sequence[Path]): Folders of runs.

    Returns:
        tuple[tuple[float, float] | None, int]: (lambda_i, lambda_s), None
        without any result; and the number of weights that have one.
    """
    found = {
        weights: spreads(states_of(run, work_dirs), ['PQ'])
        for weights, run in runs.items()
    }
    known = {w: values['PQ'].median for w, values in found.items() if values}
    return (max(known, key=known.get) if known else None), len(known)


def default_seeds(row: Row, miniature: bool) -> int:
    """Trainings of a row where no other number is asked for.

    Args:
        row (Row): Any row.
        miniature (bool): Of its miniature.

    Returns:
        int: See :data:`SEEDS`; 1 for other data sets.
    """
    return SEEDS.get('miniature' if miniature else row.data, 1)


def plan_steps(tables: PaperTables,
               rows: Iterable[Row],
               launch: LaunchOptions,
               seeds: Optional[int] = None,
               miniature: bool = False,
               grid: bool = False) -> List[Step]:
    """What has to be done for some rows, in an order that works.

    First the computed columns, then one seed of every row after the other:
    a plan that is cut off leaves as many complete tables as it can.

    Args:
        tables (PaperTables): The tables.
        rows (Iterable[Row]): Rows; those of other systems, and without a
            miniature where one is wanted, are passed over.
        launch (LaunchOptions): Folder, tools and GPUs.
        seeds (int, optional): Trainings of each; by default the paper's.
        miniature (bool): The rows' miniature instead.
        grid (bool): Section 4.4's weights instead, where a row is of it.

    Returns:
        list[Step]: Also those that are finished.

    Raises:
        PaperError: A config is missing or cannot be used.
    """
    computed: Dict[Path, Step] = {}
    wanted: Dict[int, Dict[Run, None]] = {}
    for row in rows:
        if row.config is None or (miniature and not row.miniature):
            continue
        if not miniature and tables.table(row.table).compute:
            step = compute_step(tables.path(row.config), launch)
            computed.setdefault(step.output, step)
        if not row.trained:
            continue
        runs = _grid_runs(tables, row, launch) if grid else []
        runs = runs or [run_of(tables, row, miniature)]
        for seed in range(seeds or default_seeds(row, miniature)):
            wanted.setdefault(seed, {}).update(dict.fromkeys(runs))
    steps = dict(computed)
    for seed in sorted(wanted):
        for run in wanted[seed]:
            for step in steps_of(run, seed, launch):
                steps.setdefault(step.output, step)
    return list(steps.values())


def _grid_runs(tables: PaperTables, row: Row,
               launch: LaunchOptions) -> List[Run]:
    """All nine of a row of section 4.4; the best is exported (Table 4a), when
    all are evaluated."""
    runs = grid_of(tables, row)
    best, done = best_of(runs, [launch.work_dir])
    if row.test_config and done == len(runs):
        config = tables.path(row.test_config)
        runs[best] = replace(runs[best], test_config=config)
    return list(runs.values())


def require_miniature(rows: Iterable[Row]) -> None:
    """Rows that are asked for in miniature have one.

    Args:
        rows (Iterable[Row]): Of the command line.

    Raises:
        PaperError: Some have none; names them.
    """
    without = [row.name for row in rows if row.config and not row.miniature]
    if without:
        raise PaperError(f'{", ".join(without)}: in miniature there are '
                         'Tables 1c to 3d alone. Leave --miniature out.')


def pending(steps: Iterable[Step]) -> List[Step]:
    """Steps whose output is not there; trainings and counts only where a
    step that is left needs them: a checkpoint may have been deleted since.

    Args:
        steps (Iterable[Step]): In an order that works.

    Returns:
        list[Step]: In that order; also those that are refused.
    """
    steps = list(steps)
    left = [step for step in steps if not step.finished]
    while True:
        needed = {path for step in left for path in step.needs}
        wanted = [
            step for step in left if step.refused or step.kind not in (
                'train', 'count') or step.output in needed
        ]
        made = {step.output for step in wanted}
        # a network that is trained again is merged again
        again = [
            step for step in steps if step.merges and step not in left
            and made.intersection(step.needs)
        ]
        if not again:
            return wanted
        left = [step for step in steps if step in left or step in again]
