"""Kernel launches and host waits on a pretended GPU, ours beside mmdet's.

Example:
    python -m benchmarks.gpu_counts

Nothing runs on a GPU: tensors of the CPU play the GPU's, and what a GPU would
be given is counted (``tests/pretended_gpu``), at full size, in the second run
of each part. Counts of one commit are the same in every round.
"""
import argparse
import json
import sys
from typing import Dict, List, Sequence

from benchmarks.harness import add_arguments, output_file, set_threads
from benchmarks.table import counts_text
from tests.pretended_gpu import counting

#: What the rows of the table are made of: work, part, name.
ROWS = (('training step', 'all', 'training step'), ('prediction', 'all',
                                                    'inference of an image'),
        ('heads', 'semantic loss', 'semantic loss with its gradient'),
        ('heads', 'semantic map', 'semantic map'), ('heads', 'merge', 'merge'),
        ('prediction', 'metrics', 'metrics of an image'))


def measure(cases: Sequence[str] = tuple(counting.CASES),
            quick: bool = False) -> List[dict]:
    """Rows with stage, case, and for 'ours' and 'mmdet' the counts by the
    columns of :data:`counting.COLUMNS`; None where mmdet has no such part."""
    found = counting.as_table({
        key: counting.count(key, quick)
        for key in counting.KEYS if key.case in cases
    })
    return rows_of(found, cases)


def rows_of(found: counting.Table, cases: Sequence[str]) -> List[dict]:
    """Rows of a table of parts."""
    return [
        dict(
            stage=name,
            case=case,
            **{
                side: _counts(found[str(counting.Key(case, work, side))], part)
                for side in counting.SIDES
            }) for case in cases for work, part, name in ROWS
    ]


def _counts(content: Dict[str, List[float]], part: str) -> Dict[str, float]:
    row = content.get(part) or counting.total(content, part == 'metrics')
    return dict(zip(counting.COLUMNS, row)) if row else None


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add_arguments(parser)
    parser.add_argument(
        '--json', type=output_file, metavar='OUT', help='writes the rows')
    parser.add_argument(
        '--case',
        nargs='+',
        choices=list(counting.CASES),
        default=list(counting.CASES),
        help='default: all')
    parser.add_argument(
        '--quick', action='store_true', help='at a quarter of the sides')
    args = parser.parse_args(argv)
    set_threads()
    rows = measure(args.case, args.quick)
    print(counts_text(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
