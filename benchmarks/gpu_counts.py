"""Kernel launches and host waits on a pretended GPU, ours beside mmdet's.

Example:
    python -m benchmarks.gpu_counts
    python -m benchmarks.gpu_counts --write-docs

Nothing runs on a GPU: tensors of the CPU play the GPU's, and what a GPU would
be given is counted (``tests/pretended_gpu``), at full size, in the second run
of each part. Counts of one commit are the same in every round.
"""
import argparse
import json
import sys
import time
from typing import Dict, List, Optional

import torch

from benchmarks import figures, harness, page, table
from tests.pretended_gpu import counting

STAGE = 'gpu_counts'
#: What the rows of the table are made of: work, part, name.
ROWS = (('training step', 'all', 'training step'), ('prediction', 'all',
                                                    'inference of an image'),
        ('heads', 'semantic loss', 'semantic loss with its gradient'),
        ('heads', 'semantic map', 'semantic map'), ('heads', 'merge', 'merge'),
        ('prediction', 'metrics', 'metrics of an image'))


def measure(quick: bool = False) -> List[dict]:
    """Rows with stage, case, and for 'ours' and 'mmdet' the counts by the
    columns of :data:`counting.COLUMNS`; None where mmdet has no such part."""
    parts = counting.as_table(
        {key: counting.count(key, quick)
         for key in counting.KEYS})
    return [
        dict(
            stage=name,
            case=case,
            **{
                side: _counts(parts[str(counting.Key(case, work, side))], part)
                for side in counting.SIDES
            }) for case in counting.CASES for work, part, name in ROWS
    ]


def _counts(content: Dict[str, List[float]],
            part: str) -> Optional[Dict[str, float]]:
    row = content.get(part) or counting.total(content, part == 'metrics')
    return dict(zip(counting.COLUMNS, row)) if row else None


def write_docs(rows: List[dict], seconds: float) -> None:
    """Put the counts into the benchmark of the docs, whose times stay, and
    write the pages that have them."""
    report = figures.figures('benchmark')
    report['counts'] = rows
    report['stages'][STAGE] = dict(
        threads=torch.get_num_threads(), seconds=round(seconds, 1), error=None)
    figures.save(figures.FOLDER / 'benchmark', report)
    page.write()


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    harness.add_arguments(parser)
    parser.add_argument(
        '--json',
        type=harness.output_file,
        metavar='OUT',
        help='writes the rows')
    parser.add_argument(
        '--quick', action='store_true', help='at a quarter of the sides')
    parser.add_argument(
        '--write-docs',
        action='store_true',
        help='also write docs/benchmark and docs/performance.md: counts are '
        'those of a commit, whatever the machine')
    args = parser.parse_args(argv)
    if args.quick and args.write_docs:
        parser.error('--write-docs has full size: leave out --quick')
    harness.set_threads()
    begin = time.perf_counter()
    rows = measure(args.quick)
    print(table.counts_text(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + '\n')
    if args.write_docs:
        write_docs(rows, time.perf_counter() - begin)
    return 0


if __name__ == '__main__':
    sys.exit(main())
