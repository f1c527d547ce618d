"""A report as Markdown: the paper, ours, the difference."""
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .claims import MIN_SEEDS, NO_EFFECT, NOT_RUN, VERDICTS, Verdict
from .collect import Report, Result, Section
from .plan import SEEDS
from .results import Spread

#: Data sets as they are written.
DATA = {
    'coco': 'COCO',
    'cityscapes': 'Cityscapes',
    'coco-stuff': 'COCO-Stuff',
    'miniature': 'miniature'
}


def markdown(report: Report, pictures: Mapping[str, str]) -> str:
    """The page.

    Args:
        report (Report): What was found.
        pictures (Mapping[str, str]): File name by section.

    Returns:
        str: Markdown.
    """
    parts = _miniature_head(report) if report.miniature else _head(report)
    parts += _state_of_runs(report)
    for section in report.sections:
        parts += _section(section, report.miniature, pictures.get(section.id))
    return '\n\n'.join(parts) + '\n'


def _head(report: Report) -> List[str]:
    return [
        '# The paper\'s tables: paper, ours, difference',
        'Ours is the median over the seeds, with the range from lowest to '
        'highest. ' + _counts(report),
    ] + _few_seeds(report)


def _few_seeds(report: Report) -> List[str]:
    """Why no claim is judged where a run has its default of one seed."""
    few = any(
        len(result.seeds) < MIN_SEEDS for section in report.sections
        for result in section.results if result.seeds and any(
            SEEDS.get(data, 1) < MIN_SEEDS for data in result.paper))
    return [
        'Rows on COCO have one seed, as in the paper; claims need '
        f'{MIN_SEEDS}: `tools/paper.py run ROW --seeds {MIN_SEEDS}` trains '
        'what is missing.'
    ] * few


def _miniature_head(report: Report) -> List[str]:
    done = {r.name: len(r.seeds) for s in report.sections for r in s.results}
    seeds = sorted(set(done.values()) - {0})
    return [
        '# The paper\'s ablations in miniature',
        f'**Synthetic data, a tiny model, {_plural(seeds)}.** Each row '
        'stands on one small training on a CPU, the same for the paper\'s COCO'
        ' and Cityscapes rows. Numbers cannot be compared with the paper\'s; '
        'what can be looked at is the effect, the difference to the baseline '
        f'row of the table. {sum(n > 0 for n in done.values())} of '
        f'{len(done)} configs have a result. Ours is the median over the '
        'seeds, with the range from lowest to highest. ' + _counts(report)
    ]


def _plural(numbers: Sequence[int]) -> str:
    """'3 seeds', '1 to 3 seeds', 'no result' without any number."""
    ends = [str(n) for n in dict.fromkeys([*numbers[:1], *numbers[-1:]])]
    if not ends:
        return 'no result yet'
    return f'{" to ".join(ends)} seed' + 's' * (ends != ['1'])


def _counts(report: Report) -> str:
    verdicts = [v for section in report.sections for v in section.verdicts]
    counts = {
        name: sum(v.verdict == name for v in verdicts)
        for name in VERDICTS
    }
    expected = sum(v.as_claimed for v in verdicts)
    text = ', '.join(
        f'{name} {count}' +
        (f' ({expected} as claimed)' if name == NO_EFFECT and expected else '')
        for name, count in counts.items() if count)
    return (f'Claims of the paper: {text}. A difference counts where the '
            'ranges do not overlap and each side has at least three seeds '
            '(even then chance alone gives 1 in 10, more for the best of '
            'several rows).')


def _state_of_runs(report: Report) -> List[str]:
    parts = []
    if report.empty:
        names = ', '.join(f'`{path}`' for path in report.empty)
        parts.append(f'Nothing there: {names}.')
    if report.unfinished:
        lines = ['Not finished, and not counted:', '']
        lines += [
            f'- {name}: {state}' for name, state in report.unfinished.items()
        ]
        parts.append('\n'.join(lines))
    return parts


def heading(section: Section) -> str:
    """Number and title of a section.

    Args:
        section (Section): Of a report.

    Returns:
        str: 'Table 2a: ...'; of several tables, what they have in common.
    """
    names = [table.id for table in section.tables]
    kind = 'Figure' if names[0].startswith('figure') else 'Table'
    numbers = [name.removeprefix(kind.lower()) for name in names]
    title = section.tables[0].title
    if len(names) > 1:
        kind += 's'
        title = title.replace(' on COCO', '')
    return f'{kind} {" and ".join(numbers)}: {title}'


def _section(section: Section, miniature: bool,
             picture: Optional[str]) -> List[str]:
    parts = [f'## {heading(section)}']
    if miniature:
        parts.append(_miniature_table(section))
    else:
        for data in dict.fromkeys(section.data):
            rows = [r for r in section.results if data in r.paper]
            parts.append(_table(section, rows, data))
    if picture:
        parts.append(f'![{heading(section)}]({picture})')
    if section.verdicts:
        parts.append('\n'.join(_claim_line(v) for v in section.verdicts))
    return parts


def _claim_line(verdict: Verdict) -> str:
    data = DATA.get(verdict.data, verdict.data)
    where = verdict.claim.metric
    if verdict.data != 'miniature':
        where = f'{data}, {where}'
    said = verdict.verdict + (', as claimed' if verdict.as_claimed else '')
    return f'- **{said}**: {verdict.claim.text} ({where}): {verdict.why}'


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown.

    Args:
        head (Sequence[str]): Titles of the columns.
        rows (Iterable[Sequence[str]]): Cells of the lines.

    Returns:
        str: Without a line break at its end.
    """
    return '\n'.join('| ' + ' | '.join(cells) + ' |'
                     for cells in [head, ['---'] * len(head), *rows])


def _table(section: Section, rows: Sequence[Result], data: str) -> str:
    """Lines of paper, ours and difference for each row."""
    lines = []
    for result in rows:
        paper, count = result.paper[data], len(result.seeds)
        measured = paper if section.tables[0].difference else {}
        name = result.title
        if any(value is not None for value in paper.values()):
            printed = [_printed(paper[c]) for c in section.columns]
            lines.append([name, 'paper', *printed])
            name = ''
        if not result.run:
            continue
        blank = [''] * len(section.columns)
        if not result.found:
            lines.append([name, 'ours', NOT_RUN, *blank[1:]])
            continue
        title = f'ours, {_plural([count])}' if count else 'ours'
        lines += _ours(name, title, result.found, measured, section.columns)
        if result.grid and result.grid.found:
            grid = result.grid
            lines += _ours(
                '', f'ours, best of {grid.done} of {grid.total}: lambda_i '
                f'{grid.weights[0]}, lambda_s {grid.weights[1]}', grid.found,
                measured, section.columns)
    head = [DATA.get(data, data), '', *section.columns]
    return markdown_table(head, lines)


def _ours(name: str, title: str, found: Mapping[str, Spread],
          paper: Mapping[str, Optional[float]],
          columns: Sequence[str]) -> List[List[str]]:
    differences = [_difference(found.get(c), paper.get(c)) for c in columns]
    lines = [[name, title, *(_cell(found.get(c), c) for c in columns)]]
    if any(differences):
        lines.append(['', 'difference', *differences])
    return lines


def _printed(value: Optional[float]) -> str:
    return '' if value is None else f'{value}'


def _cell(spread: Optional[Spread], column: str = '') -> str:
    if spread is None:
        return 'n/a'
    if column in ('flops', 'memory'):
        return f'{spread.median:.2f}'
    if column == 'resolution':
        return f'1/{1 / spread.median:g}'
    if len(spread.values) == 1:
        return f'{spread.median:.1f}'
    return f'{spread.median:.1f} ({spread.low:.1f} to {spread.high:.1f})'


def _difference(spread: Optional[Spread], printed: Optional[float]) -> str:
    if spread is None or printed is None:
        return ''
    return _signed(spread.median - printed)


def _signed(value: float) -> str:
    return f'{round(value, 1) + 0.:+.1f}'


def effects(section: Section,
            column: str) -> Tuple[Optional[str], Dict[str, Dict[str, float]]]:
    """Differences to the baseline row, of the paper's data sets and of ours.

    Args:
        section (Section): Of a report.
        column (str): A metric.

    Returns:
        tuple[str | None, dict[str, dict[str, float]]]: Label of the baseline
        (the last row where the table's own has no such metric), and by
        'coco', 'cityscapes' and 'ours' the values by label.
    """
    series: Dict[str, Dict[str, float]] = {}
    for result in section.results:
        for data, paper in result.paper.items():
            value = paper.get(column)
            if value is not None:
                series.setdefault(data, {})[result.label] = value
        if column in result.found:
            series.setdefault('ours',
                              {})[result.label] = result.found[column].median
    printed = {data: v for data, v in series.items() if data != 'ours'}
    own = section.tables[0].baseline
    last = section.results[-1].label
    base = own if all(own in values for values in printed.values()) else last
    return base, {
        name: {
            label: value - values[base]
            for label, value in values.items()
        }
        for name, values in series.items() if base in values
    }


def _miniature_table(section: Section) -> str:
    """By metric, then by row: values, and effects in their own columns."""
    head = ['metric', section.tables[0].axis or 'row']
    for data in dict.fromkeys(section.data):
        head += [f'paper: {DATA[data]}', 'effect']
    head += ['ours (miniature)', 'effect', 'seeds']
    lines = []
    for column in section.columns:
        base, changed = effects(section, column)
        for result in section.results:
            line = [column, result.title]
            for data in dict.fromkeys(section.data):
                value = result.paper.get(data, {}).get(column)
                line += [
                    _printed(value),
                    _effect(changed.get(data, {}), result.label, base)
                ]
            ours = _effect(changed.get('ours', {}), result.label, base)
            found = result.found.get(column)
            count = '' if found is None else str(len(found.values))
            cell = _cell(found) if result.seeds else NOT_RUN
            lines.append([*line, cell, ours, count])
    return markdown_table(head, lines)


def _effect(values: Mapping[str, float], label: str,
            base: Optional[str]) -> str:
    if label not in values:
        return ''
    return 'baseline' if label == base else _signed(values[label])
