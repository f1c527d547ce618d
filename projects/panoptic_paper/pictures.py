"""Pictures as PNG: values or effects of a table's rows, and the compute of
Figure 4.

Each panel has one metric, over lambda or width where the table has such an
axis. Ours has the range from lowest to highest seed. In miniature all is
drawn as the difference to the median of the baseline row, since the data sets
have nothing else in common.
"""
import io
import re
from statistics import median
from typing import Dict, List, Optional, Sequence, Tuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .collect import Report, Section
from .report import DATA, Series, effects, heading, values_of

_COLORS = dict(cityscapes='C2', ours='C1')
#: In miniature, where one picture has the paper's data sets and ours.
_NAMES = dict(
    coco='paper, COCO',
    cityscapes='paper, Cityscapes',
    ours='ours (miniature: synthetic data, tiny model)')


def draw_report(report: Report) -> Dict[str, bytes]:
    """PNGs by ``Section.id``, of the tables that have any result of ours;
    those of which all is computed have none (see :func:`draw_compute`)."""
    return {
        section.id: draw_section(section, report.miniature)
        for section in report.sections
        if any(result.seeds and result.found for result in section.results)
    }


def draw_section(section: Section, miniature: bool) -> bytes:
    """A PNG: a line of panels for each data set, in miniature one for all."""
    computed = {name for table in section.tables for name in table.compute}
    columns = [c for c in section.columns if c not in computed]
    datas: List[Optional[str]] = [None] if miniature else [*section.data]
    figure = Figure(
        figsize=(max(6.5, 2.9 * len(columns)), 0.7 + 2.8 * len(datas)),
        dpi=110,
        layout='constrained')
    panels = figure.subplots(len(datas), len(columns), squeeze=False)
    handles: Dict = {}
    for data, line in zip(datas, panels):
        for column, panel in zip(columns, line):
            if data is None:
                base, series = effects(section, column)
                title = f'difference to {base}'
            else:
                series, title = values_of(section, column, [data]), DATA[data]
            panel.set_title(f'{column}, {title}', fontsize=9)
            _draw_panel(panel, section, series)
            for handle, name in zip(*panel.get_legend_handles_labels()):
                short = 'ours' if name == 'ours' else 'paper'
                handles[_NAMES[name] if data is None else short] = handle
    figure.legend(
        list(handles.values()),
        list(handles),
        loc='outside lower center',
        ncols=3,
        fontsize=8,
        frameon=False)
    figure.suptitle(heading(section), fontsize=10)
    return _png(figure)


def _draw_panel(panel: Axes, section: Section, series: Series) -> None:
    """Points with ranges; lines between them where the table has an axis."""
    axis = section.tables[0].axis
    places = {r.label: float(i) for i, r in enumerate(section.results)}
    if axis:
        # what a row changes: 0.25 of 'lambda-s-0.25', 64 of '64'
        places = {
            label: float(re.search(r'[\d.]+$', label)[0])
            for label in places
        }
        panel.set_xlabel(axis, fontsize=8)
    else:
        titles = [result.title for result in section.results]
        panel.set_xticks(range(len(titles)), titles, rotation=20, ha='right')
        panel.margins(x=0.3)
    for name, values in series.items():
        ours = name == 'ours'
        color = _COLORS.get(name, 'C0')
        x, y, low, high = zip(*sorted(
            (places[label], median(v), min(v), max(v))
            for label, v in values.items()))
        line = ('-' if ours else '--') if axis else ''
        panel.plot(x, y, f'o{line}', color=color, label=name, markersize=3.5)
        if ours and axis:
            panel.fill_between(x, low, high, color=color, alpha=0.2)
        elif ours:
            panel.vlines(x, low, high, color=color)
    panel.tick_params(labelsize=8)
    panel.spines[['top', 'right']].set_visible(False)


def draw_compute(rows: Sequence[Tuple[str, int, int, int]]) -> bytes:
    """A PNG with one panel of bars for multiply-adds, one for activations, of
    rows of name, stride of the output, multiply-adds, activations."""
    figure = Figure(
        figsize=(9.0, 1.4 + 0.42 * len(rows)), dpi=130, layout='constrained')
    panels = figure.subplots(1, 2, sharey=True)
    labels = [f'{name} [1/{stride}]' for name, stride, *_ in rows]
    units = ('multiply-adds (1e12)', 1e12), ('activations (1e9)', 1e9)
    for i, (panel, (title, unit)) in enumerate(zip(panels, units)):
        values = [float(row[2 + i]) / unit for row in rows]
        bars = panel.barh(labels, values, height=0.6, color=f'C{i}')
        panel.bar_label(bars, fmt='%.2f', padding=3, fontsize=8)
        panel.set_title(title, fontsize=9)
        panel.set_xlim(0, 1.15 * max(values))
        panel.tick_params(labelsize=8)
        panel.spines[['top', 'right']].set_visible(False)
    panels[0].invert_yaxis()
    return _png(figure)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format='png')
    return file.getvalue()
