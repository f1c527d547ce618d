"""All stages beside mmdet: times, memory, launches and waits, table, picture.

Example:
    make benchmark
    python -m benchmarks.run --only merge panoptic_metric --rounds 3
    python -m benchmarks.run --merge-runs a.json b.json c.json --write-docs

Each stage runs in a process of its own; what it prints is in ``STAGE.log``.
The figures of all rounds go to ``benchmark.json``, the table's picture to
``benchmark.png``. Launches and waits are counted on a pretended GPU.

Exit code: 0 measured, also where a ratio is below the ask (a time is no test);
1 a stage failed, the others are reported; 2 wrong arguments.
"""
import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Dict, List, Sequence

from benchmarks import figures, harness, machine, page, table

PACKAGE = 'benchmarks'

#: Threads of each stage: 1 where the time is for a core, None: all cores.
STAGES = dict(
    input_pipeline=1,
    merge=None,
    panoptic_metric=1,
    instance_ap=1,
    inference=None,
    training=None,
    gpu_counts=None)
#: The stage whose rows are counts, not times.
COUNTS = 'gpu_counts'
OUT = 'work_dirs/benchmark'


class MergeError(Exception):
    """Runs that have no medians in common; says which and why."""


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    harness.add_arguments(parser)
    parser.add_argument(
        '--only',
        nargs='+',
        choices=list(STAGES),
        metavar='STAGE',
        help=f'of {", ".join(STAGES)} (default: all)')
    parser.add_argument(
        '--out', type=Path, default=Path(OUT), help=f'folder (default: {OUT})')
    parser.add_argument(
        '--merge-runs',
        nargs='+',
        type=Path,
        metavar='JSON',
        help='measure nothing: medians of these reports')
    parser.add_argument(
        '--write-docs',
        action='store_true',
        help='also write docs/benchmark and docs/performance.md')
    args = parser.parse_args(argv)
    if args.only and args.write_docs:
        parser.error('--write-docs needs all stages: leave out --only')
    return args


def run_stage(name: str, rounds: int, seed: int, out: Path) -> dict:
    """One stage in its own process.

    Returns:
        dict: threads, seconds, error (None: none) and rows.
    """
    threads = STAGES[name] or machine.num_cores()
    result, log = out / f'{name}.json', out / f'{name}.log'
    result.unlink(missing_ok=True)
    command = [
        sys.executable, '-m', f'{PACKAGE}.{name}', '--rounds',
        str(rounds), '--seed',
        str(seed), '--json',
        str(result)
    ]
    begin = time.perf_counter()
    with open(log, 'w') as file:
        code = subprocess.run(
            command,
            cwd=harness.ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, OMP_NUM_THREADS=str(threads))).returncode
    error, rows = None, []
    if code == 0 and result.is_file():
        rows = json.loads(result.read_text())
    else:
        said = log.read_text(errors='replace').strip().splitlines()
        last = said[-1] if said else 'it said nothing'
        error = f'exit code {code}: {last} (all of it: {log})'
    return dict(
        threads=threads,
        seconds=round(time.perf_counter() - begin, 1),
        error=error,
        rows=rows)


def measure(stages: Sequence[str], rounds: int, seed: int, out: Path) -> dict:
    """Report of these stages; prints a line for each."""
    out.mkdir(parents=True, exist_ok=True)
    out = out.resolve()
    rows: List[dict] = []
    counts: List[dict] = []
    done: Dict[str, dict] = {}
    for i, name in enumerate(stages, 1):
        print(f'[{i}/{len(stages)}] {name} ...', end=' ', flush=True)
        found = run_stage(name, rounds, seed, out)
        (counts if name == COUNTS else rows).extend(found.pop('rows'))
        done[name] = found
        print(
            found['error'] or f'{found["seconds"]:.0f} s, '
            f'{found["threads"]} thread(s)',
            flush=True)
    return dict(
        machine=machine.describe_machine(),
        **machine.when(),
        rounds=rounds,
        seed=seed,
        runs=1,
        stages=done,
        rows=rows,
        counts=counts)


def merge_runs(reports: Dict[str, dict]) -> dict:
    """Medians over runs of the same benchmark on the same machine.

    In the result a 'round' of a row is the median of one run. Launches and
    waits are those of the first one: they are the same in all.

    Args:
        reports (dict[str, dict]): By name of the file, at least one.

    Raises:
        MergeError: Another machine, other rows, or runs that are medians
            of runs themselves.
    """
    (first_name, first), *others = reports.items()
    cases = [row.key for row in table.rows_of(first)]
    for name, report in reports.items():
        if report['runs'] != 1:
            raise MergeError(f'{name} is made of {report["runs"]} runs; give '
                             'the single ones.')
        if report['machine'] != first['machine']:
            raise MergeError(f'{name} is of another machine than {first_name}:'
                             f' {machine.one_line(report["machine"])}.')
        found = [row.key for row in table.rows_of(report)]
        if sorted(found) != sorted(cases):
            odd = sorted(set(found) ^ set(cases))[0]
            raise MergeError(f'{name} and {first_name} differ in the row '
                             f'{": ".join(odd[:2])}, against {odd[2]}; '
                             'measure the same stages.')
    by_case = [{
        row.key: row
        for row in table.rows_of(report)
    } for report in reports.values()]
    rows = [_median_row([rows[case] for rows in by_case]) for case in cases]
    return dict(
        first,
        date=max(report['date'] for report in reports.values()),
        runs=len(reports),
        rows=[row.to_dict() for row in rows])


def _median_row(rows: Sequence[harness.Row]) -> harness.Row:
    """Rows of the same case in several runs."""
    merged = harness.Row.from_dict(rows[-1].to_dict())
    merged.ours = [row.seconds for row in rows]
    merged.theirs = [row.their_seconds for row in rows]
    for name in ('ours_bytes', 'theirs_bytes'):
        values = [getattr(row, name) for row in rows]
        if None not in values:
            setattr(merged, name, int(median(values)))
    return merged


def load(path: Path) -> dict:
    """A report.

    Raises:
        MergeError: The file is missing or is no report.
    """
    try:
        report = json.loads(path.read_text())
        report['machine'], report['runs'], table.rows_of(report)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MergeError(f'{path} is no report of benchmarks/run.py '
                         f'({type(error).__name__}: {error}).') from None
    return report


def main(argv=None) -> int:
    args = parse_args(argv)
    if args.merge_runs:
        try:
            report = merge_runs({str(p): load(p) for p in args.merge_runs})
        except MergeError as error:
            print(f'error: {error}', file=sys.stderr)
            return 2
    else:
        report = measure(
            args.only or list(STAGES), args.rounds, args.seed, args.out)
    failed = {
        name: stage['error']
        for name, stage in report['stages'].items() if stage['error']
    }
    rows, counts = table.rows_of(report), report.get('counts')
    if counts:
        print(f'\non a pretended GPU:\n{table.counts_text(counts)}')
    if rows:
        print(f'\n{harness.text_table(rows)}')
    if rows or counts:
        print(f'\n{machine.one_line(report["machine"])}')
        picture = table.draw(rows) if rows else None
        figures.save(args.out / 'benchmark', report, picture)
        print(args.out / 'benchmark.json')
    for name, error in failed.items():
        print(f'error: {name}: {error}', file=sys.stderr)
    if args.write_docs and rows and not failed:
        figures.save(figures.FOLDER / 'benchmark', report, picture)
        try:
            page.write()
        except page.PageError as error:
            print(f'error: {error}', file=sys.stderr)
            return 1
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
