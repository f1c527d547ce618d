"""Pictures as PNG: curves over lambda or width, bars against the paper, and
the compute of Figure 4.

Ours has the range from lowest to highest seed as a band or whisker. In
miniature all is drawn as the difference to the median of the baseline row,
since the data sets have nothing else in common.
"""
import io
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .collect import Report, Section
from .report import DATA, effects, heading

_COLORS = dict(coco='C0', cityscapes='C2', ours='C1')
#: In miniature, where one picture has the paper's data sets and ours.
_NAMES = dict(
    coco='paper, COCO',
    cityscapes='paper, Cityscapes',
    ours='ours (miniature: synthetic data, tiny model)')
#: median and range, lowest to highest
_Value = Tuple[float, float, float]
#: by series and label
_Series = Dict[str, Dict[str, _Value]]


def draw_report(report: Report) -> Dict[str, bytes]:
    """PNGs by ``Section.id``, of the tables that have any result of ours;
    those of which all is computed have none (see :func:`draw_compute`)."""
    return {
        section.id: draw_section(section, report.miniature)
        for section in report.sections
        if any(result.seeds and result.found for result in section.results)
    }


def draw_section(section: Section, miniature: bool) -> bytes:
    """A PNG: curves for a table with an axis, bars for another; in miniature
    one line of panels for both data sets."""
    computed = {name for table in section.tables for name in table.compute}
    columns = [c for c in section.columns if c not in computed]
    draw = _curves if section.tables[0].axis else _bars
    return draw(section, [None] if miniature else section.data, columns)


def draw_compute(rows: Sequence[Tuple[str, int, int, int]]) -> bytes:
    """A PNG with one panel of bars for multiply-adds, one for activations.

    Args:
        rows (Sequence[tuple]): Name, stride of the output, multiply-adds,
            activations.
    """
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


def _values(section: Section, data: Optional[str], column: str) -> _Series:
    """Numbers to draw: as they are for a data set, differences to the
    baseline for all of them (data None)."""
    series: _Series = {}
    changed = effects(section, column)[1]
    for result in section.results:
        found, label = result.found.get(column), result.label
        if data is not None:
            printed = result.paper.get(data, {}).get(column)
            if printed is not None:
                series.setdefault(data, {})[label] = (printed, ) * 3
            if data in result.paper and found:
                series.setdefault('ours', {})[label] = (found.median,
                                                        found.low, found.high)
            continue
        for name, values in changed.items():
            if label in values:
                low = high = value = values[label]
                if name == 'ours':
                    low += found.low - found.median
                    high += found.high - found.median
                series.setdefault(name, {})[label] = (value, low, high)
    return series


def _position(label: str) -> float:
    """What a row changes: 0.25 of 'lambda-s-0.25', 64 of '64'."""
    return float(re.search(r'[\d.]+$', label)[0])


def _panels(rows: int, columns: int, width: float,
            height: float) -> Tuple[Figure, np.ndarray]:
    figure = Figure(
        figsize=(max(6.5, width * columns), 0.5 + height * rows),
        dpi=110,
        layout='constrained')
    return figure, figure.subplots(rows, columns, squeeze=False)


def _curves(section: Section, datas: Sequence[Optional[str]],
            columns: List[str]) -> bytes:
    """One panel for each data set and metric, over what the rows change."""
    axis = section.tables[0].axis
    figure, panels = _panels(len(datas), len(columns), 2.9, 2.6)
    for line, data in zip(panels, datas):
        for panel, column in zip(line, columns):
            title = f'{column}, {DATA.get(data, data)}'
            if data is None:
                base = _position(effects(section, column)[0])
                title = f'{column}, difference to {axis} {base:g}'
            _curve(panel, _values(section, data, column), data is None)
            panel.set_title(title, fontsize=9)
            panel.set_xlabel(axis, fontsize=8)
    return _finish(figure, section, panels)


def _curve(panel: Axes, series: _Series, miniature: bool) -> None:
    for name, values in series.items():
        labels = sorted(values, key=_position)
        x = [_position(label) for label in labels]
        y, low, high = np.array([values[label] for label in labels]).T
        ours = name == 'ours'
        panel.plot(
            x,
            y,
            color=_COLORS.get(name, 'C3'),
            label=_name(name, miniature),
            linestyle='-' if ours else '--',
            marker='o',
            markersize=3.5)
        if ours:
            panel.fill_between(x, low, high, color=_COLORS[name], alpha=0.2)


def _name(name: str, miniature: bool) -> str:
    if miniature:
        return _NAMES[name]
    return 'ours' if name == 'ours' else 'paper'


def _bars(section: Section, datas: Sequence[Optional[str]],
          columns: List[str]) -> bytes:
    """One panel for each data set: metrics in groups, a bar for each row of
    the paper and beside it ours; in miniature the rows' effects."""
    base = section.tables[0].baseline
    figure, panels = _panels(len(datas), 1, 4. + 0.9 * len(columns), 2.7)
    for (panel, ), data in zip(panels, datas):
        bars = _bar_series(section, data, columns)
        width = 0.8 / max(1, len(bars))
        for i, (label, (color, alpha, values)) in enumerate(bars.items()):
            at = [g for g, column in enumerate(columns) if column in values]
            y, low, high = np.array([values[columns[g]]
                                     for g in at]).reshape(-1, 3).T
            drawn = panel.bar(
                np.array(at) + (i - (len(bars) - 1) / 2) * width,
                y,
                width,
                yerr=[y - low, high - y] if (high > low).any() else None,
                capsize=2,
                color=color,
                alpha=alpha,
                label=label)
            panel.bar_label(drawn, fmt='%.1f', padding=2, fontsize=6)
        panel.set_xticks(range(len(columns)), columns)
        panel.axhline(0, color='0.4', linewidth=0.8)
        panel.set_title(
            f'difference to {base}' if data is None else DATA.get(data, data),
            fontsize=9)
    return _finish(figure, section, panels)


def _bar_series(section: Section, data: Optional[str],
                columns: List[str]) -> Dict:
    """By the legend's text: colour, opacity, values by metric."""
    bars: Dict[str, Tuple[str, float, Dict[str, _Value]]] = {}
    rows = [r for r in section.results if data is None or data in r.paper]
    for i, result in enumerate(rows):
        if data is None and result.label == section.tables[0].baseline:
            continue
        for column in columns:
            for name, values in _values(section, data, column).items():
                if result.label in values:
                    title = f'{_name(name, data is None)}: {result.title}'
                    color = _COLORS.get(name,
                                        'C3') if data is None else f'C{i}'
                    bar = bars.setdefault(
                        title, (color, 1. if name == 'ours' else 0.45, {}))
                    bar[2][column] = values[result.label]
    return bars


def _finish(figure: Figure, section: Section, panels: np.ndarray) -> bytes:
    """Add one legend for all panels, and the title."""
    handles: Dict[str, Any] = {}
    for panel in panels.flat:
        panel.tick_params(labelsize=8)
        panel.spines[['top', 'right']].set_visible(False)
        handles = {
            **dict(zip(*panel.get_legend_handles_labels()[::-1])),
            **handles
        }
    longest = max(map(len, handles), default=1) + 4
    columns = min(3, max(1, int(9 * figure.get_figwidth() // longest)))
    figure.set_figheight(figure.get_figheight() + 0.18 *
                         (len(handles) // columns))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc='outside lower center',
        ncols=columns,
        fontsize=8,
        frameon=False)
    figure.suptitle(heading(section), fontsize=10)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format='png')
    return file.getvalue()
