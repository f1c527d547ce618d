"""Curves, bars and heat maps as SVG to embed in a page.

Lines and texts are in a grey that is readable on white and on black.
"""
import io
import re
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

_INK = '#808890'
COLORS = ('#3b82c4', '#e08a2e')
_STYLE = {
    'svg.fonttype': 'none',
    'svg.hashsalt': 'panoptic-fpn',
    'font.family': 'sans-serif',
    'font.size': 9,
    'text.parse_math': False,
    'text.color': _INK,
    'axes.edgecolor': _INK,
    'axes.labelcolor': _INK,
    'xtick.color': _INK,
    'ytick.color': _INK,
    'axes.spines.top': False,
    'axes.spines.right': False,
}


def _panel(width: float, height: float) -> Tuple[Figure, Any]:
    """A figure of this size in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout='constrained')
    return figure, figure.subplots()


def _svg(figure: Figure) -> Markup:
    buffer = io.StringIO()
    figure.savefig(
        buffer, format='svg', transparent=True, metadata=dict(Date=None))
    text = re.sub('(?s)<metadata>.*?</metadata>', '', buffer.getvalue())
    return Markup(text[text.index('<svg'):])


@rc_context(_STYLE)
def draw_curves(title: str, unit: str,
                curves: Sequence[Tuple[str, List, List]]) -> Markup:
    """One panel of curves over iterations: names of the runs, x and y."""
    figure, panel = _panel(4.2, 2.4)
    for (name, x, y), color in zip(curves, COLORS):
        marker = 'o' if len(x) < 30 else None
        panel.plot(x, y, color=color, label=name, marker=marker, markersize=3)
    panel.set_title(title, fontsize=10)
    panel.set_xlabel('iteration')
    panel.set_ylabel(unit)
    panel.grid(alpha=0.25)
    if len(curves) > 1:
        panel.legend(frameon=False, fontsize=8)
    return _svg(figure)


@rc_context(_STYLE)
def draw_bars(values: Dict[str, float], label: str) -> Markup:
    """A bar for each class, to both sides of 0; ``label`` names the axis."""
    figure, panel = _panel(7, 0.8 + 0.2 * len(values))
    ticks = np.arange(len(values))[::-1]
    colors = [COLORS[value < 0] for value in values.values()]
    panel.barh(ticks, list(values.values()), color=colors)
    panel.axvline(0, color=_INK, linewidth=0.8)
    panel.set_yticks(ticks, list(values))
    panel.set_xlabel(label)
    panel.grid(alpha=0.25, axis='x')
    return _svg(figure)


@rc_context(_STYLE)
def draw_confusion(table: np.ndarray, names: Sequence[str]) -> Markup:
    """Heat map of counts (C + 1, C + 1) of C classes and nothing, each row in
    shares of its sum."""
    names = [*names, '(nothing)']
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.26 * len(names) + 2, 4.5, 13))
    figure, panel = _panel(side + 1, side)
    image = panel.imshow(100 * shares, vmin=0, vmax=100, cmap='viridis')
    figure.colorbar(image, label='% of the row', shrink=0.6)
    size = 8 if len(names) <= 40 else 5
    ticks = range(len(names))
    panel.set_xticks(ticks, names, rotation=90, fontsize=size)
    panel.set_yticks(ticks, names, fontsize=size)
    panel.set_xlabel('predicted')
    panel.set_ylabel('ground truth')
    for (y, x), count in np.ndenumerate(table):
        if count and len(names) <= 25:
            color = 'black' if shares[y, x] > 0.5 else 'white'
            centred = dict(ha='center', va='center', fontsize=7)
            panel.text(x, y, str(count), color=color, **centred)
    return _svg(figure)
