"""Pages that hold measured figures: the README's table, docs/performance.md.

Example:
    python -m benchmarks.page            # writes both from docs/benchmark
    python -m benchmarks.page --check

All figures come from ``docs/benchmark/*.json``; those files are written by
``run.py --write-docs`` and by ``scaling.py``, ``memory.py``, ``endurance.py``
and ``two_processes.py`` with ``--out docs/benchmark``.

Exit code: 0 written, or current; 1 a file is missing or a page is stale.
"""
import argparse
import sys
from pathlib import Path
from typing import Dict

from benchmarks.figures import PageError, figures
from benchmarks.harness import ROOT

README = ROOT / 'README.md'
PERFORMANCE = ROOT / 'docs' / 'performance.md'
#: The README's table is between them.
BEGIN, END = '<!-- benchmark -->', '<!-- /benchmark -->'


def with_table(readme: str, table: str) -> str:
    """The README with another table between the markers; PageError where
    these are not there once each."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise PageError(f'README.md: {BEGIN} and {END} must be there once '
                        'each, around the table of the benchmark.')
    return f'{before}{BEGIN}\n{table}\n{END}{after}'


def pages() -> Dict[Path, str]:
    """What the pages should say; PageError where figures are missing."""
    from benchmarks import performance, table
    readme = with_table(README.read_text(),
                        table.markdown(figures('benchmark')))
    return {README: readme, PERFORMANCE: performance.page()}


def write():
    """Write the pages that changed."""
    for path, text in pages().items():
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
            print(f'wrote {path.relative_to(ROOT)}')


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--check',
        action='store_true',
        help='write nothing, tell what differs')
    args = parser.parse_args(argv)
    try:
        if not args.check:
            write()
            return 0
        stale = [
            path for path, text in pages().items()
            if not path.is_file() or path.read_text() != text
        ]
    except PageError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    for path in stale:
        print(
            f'error: {path.relative_to(ROOT)} is not what docs/benchmark '
            'says: python -m benchmarks.page',
            file=sys.stderr)
    return 1 if stale else 0


if __name__ == '__main__':
    # the module that others import, with the same PageError
    from benchmarks import page
    sys.exit(page.main())
