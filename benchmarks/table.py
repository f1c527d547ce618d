"""The table of a benchmark: as Markdown, and drawn.

A report is the content of ``benchmark.json``: ``machine``, ``date``,
``revision``, ``rounds``, ``runs``, ``stages`` (threads, seconds and error of
each), ``rows`` and ``counts``: by stage and case what is counted of 'ours' and
'mmdet' (None where it has no such part).
"""
import textwrap
from typing import Dict, List, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .harness import Row
from .machine import one_line

_HEAD = ('stage', 'input', 'mmdet', 'ours', 'times faster', 'memory', 'note')
_TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def rows_of(report: dict) -> List[Row]:
    """Rows of a report."""
    return [Row.from_dict(row) for row in report['rows']]


def duration(seconds: float) -> str:
    """'37.1 ms', '4.31 s': three digits."""
    if seconds < 0.9995:
        return f'{1e3 * seconds:.3g} ms'
    return f'{seconds:.3g} s' if seconds < 999.5 else f'{seconds:.0f} s'


def times(ratio: float) -> str:
    """'1.27', '12.3', '240': three digits, no exponent."""
    return f'{ratio:.3g}' if ratio < 999.5 else f'{ratio:.0f}'


def fill(text: str, indent: int = 0) -> str:
    """A paragraph; its other lines are indented."""
    return textwrap.fill(
        text,
        79,
        subsequent_indent=' ' * indent,
        break_long_words=False,
        break_on_hyphens=False)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence],
                   texts: int) -> str:
    """Markdown; the first ``texts`` columns are left-aligned."""
    rule = '|' + '---|' * texts + '--:|' * (len(head) - texts)
    lines = [
        '| ' + ' | '.join(str(cell).replace('|', '\\|') for cell in row) + ' |'
        for row in (head, *rows)
    ]
    return '\n'.join([lines[0], rule, *lines[1:]])


def markdown(report: dict) -> str:
    """The table, its notes, and the lines that say machine and date."""
    table = []
    notes: Dict[str, int] = {}
    for row in rows_of(report):
        theirs = duration(row.their_seconds)
        if row.against != 'mmdet':
            theirs += f' ({row.against})'
        memory = row.memory_ratio
        memory = '' if memory is None else f'{memory:.2f}'
        stage = row.stage + ('' if row.per == 'image' else f', per {row.per}')
        note = row.note and str(notes.setdefault(row.note, len(notes) + 1))
        table.append((stage, row.case, theirs, duration(row.seconds),
                      times(row.ratio), memory, note))
    lines = [markdown_table(_HEAD, table, 2), '', fill(_provenance(report))]
    if notes:
        lines += ['', 'Notes:', '']
    for note, number in notes.items():
        lines.append(fill(f'{number}. {note}', len(f'{number}. ')))
    return '\n'.join(lines)


def counts_text(counts: Sequence[dict]) -> str:
    """Counts as text: ours / mmdet."""
    head, *body = _counts_cells(counts)
    return '\n'.join(f'{", ".join(cells[:2]):<46}' +
                     ''.join(f'{cell:>17}' for cell in cells[2:])
                     for cells in (head, *body))


def counts_section(counts: Sequence[dict]) -> str:
    """A section of a page: how counts were made, and a table, ours / mmdet."""
    made = ('Not run on a GPU: counted on a pretended one, tensors of the CPU '
            "that play the GPU's (`tests/pretended_gpu`). Launches of kernels "
            'are lower bounds. A wait is the host waiting until the GPU has '
            'done all that it was given. R50 at full size: a step has 2 '
            'images of 800 x 1333 (COCO) or 4 of 512 x 1024 (Cityscapes); '
            'inference and metrics are of an image of 480 x 640 or 1024 x '
            "2048. mmdet's semantic loss is at a quarter of the resolution; "
            'its semantic map is all logits, whose argmax its merge takes.')
    head, *body = _counts_cells(counts)
    table = markdown_table(head, body, 2)
    return f'## Launches and waits\n\n{fill(made)}\n\n{table}'


def _counts_cells(counts: Sequence[dict]) -> List[List[str]]:
    """Rows of cells, the head first."""
    columns = list(counts[0]['ours'])
    body = [[
        row['stage'], row['case'], *(' / '.join(
            _number(side[column])
            for side in (row['ours'], row['mmdet']) if side)
                                     for column in columns)
    ] for row in counts]
    return [['ours / mmdet', 'data', *columns], *body]


def _number(value: float) -> str:
    """'3,181', '30.38', '0'."""
    return f'{value:,.2f}'.rstrip('0').rstrip('.')


def _provenance(report: dict) -> str:
    runs, rounds = report['runs'], report['rounds']
    of = f'{runs} runs of {rounds} rounds' if runs > 1 else f'{rounds} rounds'
    revision = report['revision']
    revision = f', revision {revision}' if revision else ''
    return (
        f'Medians of {of} (training: a third of the rounds), ours and theirs '
        'in turn; time per image, memory '
        "is our peak above the inputs over theirs. Measured on "
        f'{report["date"]}{revision}: {one_line(report["machine"])}.')


def draw(rows: Sequence[Row]) -> np.ndarray:
    """Bars of how many times faster each row is; a line where it should be.

    Args:
        rows (Sequence[Row]): At least one.

    Returns:
        np.ndarray: RGB uint8 of shape (h, w, 3).
    """
    figure = Figure(
        figsize=(10.0, 1.3 + 0.5 * len(rows)), dpi=130, layout='constrained')
    panel = figure.subplots()
    ratios = [row.ratio for row in rows]
    colors = ['C1' if row.met is False else 'C0' for row in rows]
    # bars begin at 1, 'as fast as': to the left is slower
    panel.barh(
        range(len(rows)), [ratio - 1 for ratio in ratios],
        left=1,
        height=0.58,
        color=colors)
    for y, (row, ratio) in enumerate(zip(rows, ratios)):
        label = f'{times(ratio)}x'
        if row.against != 'mmdet':
            label += f' ({row.against})'
        panel.annotate(
            label, (max(ratio, row.ask or 0, 1), y),
            xytext=(5, 0),
            textcoords='offset points',
            va='center',
            fontsize=8.5)
    asks = [(row.ask, y) for y, row in enumerate(rows) if row.ask is not None]
    if asks:
        x, y = np.array(asks).T
        panel.vlines(
            x, y - 0.4, y + 0.4, colors='0.15', linewidth=1.6, label='goal')
        panel.legend(loc='lower right', fontsize=8.5, frameon=False)
    low, high = min(0.9, *ratios), max(*ratios, *(a for a, _ in asks), 2)
    panel.set_xscale('log')
    panel.set_xlim(low / 1.05, high * 2)
    ticks = [t for t in _TICKS if low / 1.05 <= t <= high * 2]
    panel.set_xticks(ticks, [f'{t:g}' for t in ticks])
    panel.set_xticks([], minor=True)
    panel.set_yticks(range(len(rows)), [_label(row) for row in rows])
    panel.invert_yaxis()
    panel.axvline(1, color='0.4', linewidth=0.8)
    panel.grid(axis='x', color='0.9')
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=8.5)
    panel.spines[['top', 'right']].set_visible(False)
    panel.set_title('times faster than mmdet', fontsize=10)
    return pixels(figure)


def _label(row: Row) -> str:
    return '\n'.join([row.stage, *textwrap.wrap(row.case, 58)][:3])


def pixels(figure: Figure) -> np.ndarray:
    """RGB uint8 (h, w, 3) of a figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
