"""Pictures of a report: curves over lambda or width, bars against the paper.

Figures are RGB uint8 (h, w, 3). Ours has the range from lowest to highest
seed as a band or whisker. In miniature all is drawn as the difference to the
median of the baseline row, since the data sets have nothing else in common.
"""
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .collect import Report, Result, Section
from .report import DATA, effects, heading

_COLORS = dict(coco='C0', cityscapes='C2', ours='C1')
#: In miniature, where one picture has the paper's data sets and ours.
_NAMES = dict(
    coco='paper, COCO',
    cityscapes='paper, Cityscapes',
    ours='ours (miniature: synthetic data, tiny model)')
#: median and range, lowest to highest
_Value = Tuple[float, float, float]
_Series = Dict[str, Dict[str, _Value]]


def draw_report(report: Report) -> Dict[str, np.ndarray]:
    """Pictures of the tables that have any result of ours.

    Args:
        report (Report): What was found.

    Returns:
        dict[str, np.ndarray]: By ``Section.id``. Tables of which all is
        computed are drawn by :mod:`.compute`.
    """
    return {
        section.id: draw_section(section, report.miniature)
        for section in report.sections
        if any(result.seeds and result.found for result in section.results)
    }


def draw_section(section: Section, miniature: bool) -> np.ndarray:
    """Curves for a table with an axis, bars for another.

    Args:
        section (Section): With some result.
        miniature (bool): As differences to the baseline.

    Returns:
        np.ndarray: RGB uint8 of shape (h, w, 3).
    """
    computed = {name for table in section.tables for name in table.compute}
    columns = [c for c in section.columns if c not in computed]
    draw = _curves if section.tables[0].axis else _bars
    if miniature:
        return draw(section, [(None, columns)])
    datas = list(dict.fromkeys(section.data))
    return draw(section, [(data, columns) for data in datas])


def _values(section: Section, data: Optional[str], column: str) -> _Series:
    """Numbers to draw by series and label: as they are for a data set,
    differences to the baseline for all of them (data None)."""
    if data is None:
        return _differences(section, column)
    series: _Series = {}
    for result in _rows(section, data):
        value = result.paper[data][column]
        if value is not None:
            series.setdefault(data, {})[result.label] = (value, ) * 3
        if column in result.found:
            found = result.found[column]
            series.setdefault('ours',
                              {})[result.label] = (found.median, found.low,
                                                   found.high)
    return series


def _differences(section: Section, column: str) -> _Series:
    _, changed = effects(section, column)
    series: _Series = {}
    for name, values in changed.items():
        for result in section.results:
            if result.label not in values:
                continue
            value = values[result.label]
            low = high = value
            if name == 'ours':
                found = result.found[column]
                low += found.low - found.median
                high += found.high - found.median
            series.setdefault(name, {})[result.label] = (value, low, high)
    return series


def _rows(section: Section, data: Optional[str]) -> List[Result]:
    return [
        result for result in section.results
        if data is None or data in result.paper
    ]


def _position(label: str) -> float:
    """What a row changes: 0.25 of 'lambda-s-0.25', 64 of '64'."""
    return float(re.search(r'[\d.]+$', label)[0])


def _grid(rows: int, columns: int, width: float,
          height: float) -> Tuple[Figure, np.ndarray]:
    figure = Figure(
        figsize=(max(6.5, width * columns), 0.5 + height * rows),
        dpi=110,
        layout='constrained')
    return figure, figure.subplots(rows, columns, squeeze=False)


def _curves(section: Section, parts: Sequence[Tuple[Optional[str],
                                                    List[str]]]) -> np.ndarray:
    """One panel for each data set and metric, over what the rows change."""
    figure, panels = _grid(len(parts), len(parts[0][1]), 2.9, 2.6)
    for line, (data, columns) in zip(panels, parts):
        for panel, column in zip(line, columns):
            base, _ = effects(section, column)
            title = f'{column}, {DATA.get(data, data)}'
            if data is None:
                title = (f'{column}, difference to {section.tables[0].axis} '
                         f'{_position(base):g}')
            _curve(panel, _values(section, data, column), data is None)
            panel.set_title(title, fontsize=9)
            panel.set_xlabel(section.tables[0].axis, fontsize=8)
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


def _bars(section: Section, parts: Sequence[Tuple[Optional[str],
                                                  List[str]]]) -> np.ndarray:
    """One panel for each data set: metrics in groups, a bar for each row of
    the paper and beside it ours; in miniature the rows' effects."""
    figure, panels = _grid(len(parts), 1, 4. + 0.9 * len(parts[0][1]), 2.7)
    for (panel, ), (data, columns) in zip(panels, parts):
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
        base = section.tables[0].baseline
        panel.set_title(
            f'difference to {base}' if data is None else DATA.get(data, data),
            fontsize=9)
    return _finish(figure, section, panels)


def _bar_series(section: Section, data: Optional[str],
                columns: Sequence[str]) -> Dict:
    """By the legend's text: colour, opacity, values by metric."""
    bars: Dict[str, Tuple[str, float, Dict[str, _Value]]] = {}
    base = section.tables[0].baseline
    for i, result in enumerate(_rows(section, data)):
        if data is None and result.label == base:
            continue
        for column in columns:
            for name, values in _values(section, data, column).items():
                if result.label not in values:
                    continue
                who = _name(name, data is None)
                color = _COLORS.get(name, 'C3') if data is None else f'C{i}'
                alpha = 1. if name == 'ours' else 0.45
                bar = bars.setdefault(f'{who}: {result.title}',
                                      (color, alpha, {}))
                bar[2][column] = values[result.label]
    return bars


def _finish(figure: Figure, section: Section,
            panels: np.ndarray) -> np.ndarray:
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
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
