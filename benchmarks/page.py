"""The measured figures of docs/performance.md.

Example:
    python -m benchmarks.page            # writes them from docs/benchmark
    python -m benchmarks.page --check

All figures come from ``docs/benchmark/*.json``; those files are written by
``run.py --write-docs`` and by ``scaling.py``, ``memory.py``, ``endurance.py``
and ``two_processes.py`` with ``--out docs/benchmark``.

Exit code: 0 written, or current; 1 a file is missing or the page is stale.
"""
import argparse
import sys

from benchmarks import performance
from benchmarks.figures import PageError
from benchmarks.harness import ROOT

PAGE = ROOT / 'docs' / 'performance.md'
#: The figures are between them, text that people write before them.
BEGIN, END = '<!-- benchmark -->', '<!-- /benchmark -->'


def with_figures(page: str, figures: str) -> str:
    """The page with other figures between the markers; PageError where
    these are not there once each."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise PageError(f'{PAGE.name}: {BEGIN} and {END} must be there once '
                        'each, around the figures of the benchmark.')
    return f'{before}{BEGIN}\n{figures}\n{END}{after}'


def current() -> str:
    """What the page should say; PageError where figures are missing."""
    return with_figures(PAGE.read_text(), performance.sections())


def write():
    """Write the page if it changed."""
    text = current()
    if PAGE.read_text() != text:
        PAGE.write_text(text)
        print(f'wrote {PAGE.relative_to(ROOT)}')


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--check',
        action='store_true',
        help='write nothing, tell whether the page differs')
    args = parser.parse_args(argv)
    try:
        if not args.check:
            write()
        elif PAGE.read_text() != current():
            raise PageError(f'{PAGE.relative_to(ROOT)} is not what '
                            'docs/benchmark says: python -m benchmarks.page')
    except PageError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
