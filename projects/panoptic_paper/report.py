"""A report as Markdown and JSON: the paper, ours, the difference."""
import json
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tabulate import tabulate

from mmengine_exact.files import write_bytes

from .collect import Report, Result, Section
from .results import (MIN_SEEDS, NO_EFFECT, NOT_RUN, VERDICTS, Spreads,
                      spread_text)
from .runs import SEEDS

#: Values by data set or 'ours', and by label: one, or one for each seed.
Series = Dict[str, Dict[str, List[float]]]
#: Data sets as they are written.
DATA = {'coco': 'COCO', 'cityscapes': 'Cityscapes', 'coco-stuff': 'COCO-Stuff'}


def write_report(report: Report, folder: Path) -> List[Path]:
    """Write ``report.md``, ``report.json`` and the pictures; of the miniature
    ``miniature.md``, ``miniature.json`` and ``miniature-*.png``."""
    from .pictures import draw_report
    pictures = draw_report(report)
    stem = 'miniature' if report.miniature else 'report'
    prefix = 'miniature-' * report.miniature
    names = {section: f'{prefix}{section}.png' for section in pictures}
    content = json.dumps(as_json(report), indent=1, allow_nan=False) + '\n'
    files = {
        f'{stem}.md': markdown(report, names).encode(),
        f'{stem}.json': content.encode()
    }
    files.update((names[section], png) for section, png in pictures.items())
    return write_files(folder, files)


def write_files(folder: Path, files: Mapping[str, bytes]) -> List[Path]:
    """Write files by their names relative to ``folder``."""
    for name, content in files.items():
        write_bytes(str(folder / name), content)
    return [folder / name for name in files]


def render(name: str, **values: object) -> str:
    """A page in Markdown, from the template ``templates/NAME.j2``."""
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).with_name('templates')),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True)
    return pages.get_template(f'{name}.j2').render(values)


def markdown(report: Report, pictures: Mapping[str, str]) -> str:
    """The page; ``pictures`` are file names by section."""
    results = [result for s in report.sections for result in s.results]
    done = {result.name: len(result.seeds) for result in results}
    verdicts = [v for section in report.sections for v in section.verdicts]
    counts = Counter(v.verdict for v in verdicts)
    texts = {name: f'{name} {counts[name]}' for name in VERDICTS}
    if expected := sum(v.as_claimed for v in verdicts):
        texts[NO_EFFECT] += f' ({expected} as claimed)'

    def tables(section: Section) -> List[str]:
        if report.miniature:
            return [_miniature_table(section)]
        return [_table(section, data) for data in section.data]

    return render(
        'report.md',
        report=report,
        pictures=pictures,
        seeds=seeds_text(sorted(set(done.values()) - {0})),
        done=sum(n > 0 for n in done.values()),
        total=len(done),
        verdicts=', '.join(texts[name] for name in VERDICTS if counts[name]),
        # no claim is judged where a run has its default of one seed
        few=any(0 < len(result.seeds) < MIN_SEEDS and any(
            SEEDS.get(data, 1) < MIN_SEEDS for data in result.paper)
                for result in results),
        heading=heading,
        tables=tables,
        names=DATA)


def seeds_text(numbers: Sequence[int]) -> str:
    """'3 seeds', '1 to 3 seeds', 'no result' without any number."""
    ends = [str(n) for n in dict.fromkeys([*numbers[:1], *numbers[-1:]])]
    if not ends:
        return 'no result yet'
    return f'{" to ".join(ends)} seed' + 's' * (ends != ['1'])


def heading(section: Section) -> str:
    """'Table 2a: ...'; of several tables, what they have in common."""
    names = [table.id for table in section.tables]
    kind = 'Figure' if names[0].startswith('figure') else 'Table'
    numbers = [name.removeprefix(kind.lower()) for name in names]
    title = section.tables[0].title
    if len(names) > 1:
        kind += 's'
        title = title.replace(' on COCO', '')
    return f'{kind} {" and ".join(numbers)}: {title}'


def markdown_table(head: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A table in Markdown, None is empty; without a line break at its end."""
    return tabulate(
        list(rows),
        head,
        tablefmt='github',
        stralign=None,
        disable_numparse=True)


def _table(section: Section, data: str) -> str:
    """Lines of paper, ours and difference for each row of a data set."""
    columns = section.columns
    lines = []
    for result in (r for r in section.results if data in r.paper):
        paper = result.paper[data]
        measured = paper if section.tables[0].difference else {}
        own = []
        if any(value is not None for value in paper.values()):
            own.append(['', 'paper', *(paper[c] for c in columns)])
        if result.config and not result.found:
            own.append(['', 'ours', NOT_RUN])
        elif result.config:
            count = len(result.seeds)
            title = f'ours, {seeds_text([count])}' if count else 'ours'
            own += _ours(title, result.found, measured, columns)
            if (grid := result.grid) and grid.found:
                own += _ours(
                    f'ours, best of {grid.done} of {grid.total}: lambda_i '
                    f'{grid.weights[0]}, lambda_s {grid.weights[1]}',
                    grid.found, measured, columns)
        own[0][0] = result.title
        lines += own
    return markdown_table([DATA[data], '', *columns], lines)


def _ours(title: str, found: Spreads, paper: Mapping[str, Optional[float]],
          columns: Sequence[str]) -> List[List]:
    lines: List[List] = [[
        '', title, *(_value(found.get(c), c) for c in columns)
    ]]
    differences = {
        c: _signed(median(found[c]) - paper[c])
        for c in columns if c in found and paper.get(c) is not None
    }
    if differences:
        lines.append(['', 'difference', *map(differences.get, columns)])
    return lines


def _value(values: Optional[List[float]], column: str = '') -> str:
    if values is None:
        return 'n/a'
    if column in ('flops', 'memory'):
        return f'{values[0]:.2f}'
    if column == 'resolution':
        return f'1/{1 / values[0]:g}'
    return spread_text(values)


def _signed(value: float) -> str:
    return f'{round(value, 1) + 0.:+.1f}'


def values_of(section: Section, column: str, datas: Sequence[str]) -> Series:
    """Values of a metric, printed for some data sets, and ours."""
    series: Series = {}
    for result in section.results:
        label = result.label
        for data in (data for data in datas if data in result.paper):
            if (printed := result.paper[data].get(column)) is not None:
                series.setdefault(data, {})[label] = [printed]
            if column in result.found:
                series.setdefault('ours', {})[label] = result.found[column]
    return series


def effects(section: Section, column: str) -> Tuple[Optional[str], Series]:
    """Label of the baseline row (the last one where the table's own has no
    such metric), and all values as differences to its median."""
    series = values_of(section, column, section.data)
    base = section.tables[0].baseline
    if not all(base in values
               for data, values in series.items() if data != 'ours'):
        base = section.results[-1].label
    return base, {
        name: {
            label: [v - median(values[base]) for v in found]
            for label, found in values.items()
        }
        for name, values in series.items() if base in values
    }


def _miniature_table(section: Section) -> str:
    """By metric, then by row: values, and effects in their own columns."""
    head = ['metric', section.tables[0].axis or 'row']
    for data in section.data:
        head += [f'paper: {DATA[data]}', 'effect']
    head += ['ours (miniature)', 'effect', 'seeds']
    lines = []
    for column in section.columns:
        base, changed = effects(section, column)
        texts = {
            (name, label):
            'baseline' if label == base else _signed(median(found))
            for name, values in changed.items()
            for label, found in values.items()
        }
        for result in section.results:
            label, found = result.label, result.found.get(column)
            line: List[object] = [column, result.title]
            for data in section.data:
                value = result.paper.get(data, {}).get(column)
                line += [value, texts.get((data, label))]
            line += [
                _value(found) if result.seeds else NOT_RUN,
                texts.get(('ours', label)), found and len(found)
            ]
            lines.append(line)
    return markdown_table(head, lines)


def as_json(report: Report) -> Dict:
    """The report in plain types; numbers are not rounded."""
    return dict(
        miniature=report.miniature,
        unfinished=report.unfinished,
        empty=[str(path) for path in report.empty],
        tables=[
            dict(
                tables=[table.id for table in section.tables],
                title=heading(section),
                rows=[_row_json(result) for result in section.results],
                claims=[
                    dict(
                        claim=v.claim.text,
                        metric=v.claim.metric,
                        data=v.data,
                        verdict=v.verdict,
                        as_claimed=v.as_claimed,
                        why=v.why) for v in section.verdicts
                ]) for section in report.sections
        ])


def _row_json(result: Result) -> Dict:
    grid = result.grid
    states = {seed: state.text for seed, state in result.states.items()}
    return dict(
        row=result.name,
        label=result.label,
        title=result.title,
        config=result.config,
        paper=result.paper,
        seeds=result.seeds,
        states=states,
        ours=_spreads_json(result.found),
        lambda_grid=grid and dict(
            weights=grid.weights,
            done=grid.done,
            total=grid.total,
            ours=_spreads_json(grid.found)))


def _spreads_json(found: Spreads) -> Dict:
    return {
        name: dict(median=median(v), low=min(v), high=max(v), values=v)
        for name, v in found.items()
    }
