"""Curves, bars and heat maps as SVG that stands inside a page.

Lines and texts are in a grey that is readable on white and on black.
"""
import io
import re
from typing import Dict, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from .read import Curve

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


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(
        buffer, format='svg', transparent=True, metadata=dict(Date=None))
    text = buffer.getvalue()
    return re.sub(
        r'<metadata>.*?</metadata>',
        '',
        text[text.index('<svg'):],
        flags=re.DOTALL)


def draw_curves(title: str, curves: Dict[str, Curve]) -> str:
    """One panel of curves over iterations.

    Args:
        title (str): Above it.
        curves (dict[str, Curve]): By name of the run.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(4.2, 2.4), layout='constrained')
        panel = figure.subplots()
        for (name, (x, y)), color in zip(curves.items(), COLORS):
            panel.plot(
                x,
                y,
                color=color,
                label=name,
                marker='o' if len(x) < 30 else None,
                markersize=3)
        panel.set_title(title, fontsize=10)
        panel.grid(alpha=0.25)
        if len(curves) > 1:
            panel.legend(frameon=False, fontsize=8)
        return _svg(figure)


def draw_bars(names: Sequence[str], values: Sequence[float],
              label: str) -> str:
    """A bar for each class, to both sides of 0.

    Args:
        names (Sequence[str]): Of the bars.
        values (Sequence[float]): Their lengths.
        label (str): Of the axis.
    """
    with rc_context(_STYLE):
        figure = Figure(
            figsize=(7, 0.8 + 0.2 * len(names)), layout='constrained')
        panel = figure.subplots()
        places = np.arange(len(names))[::-1]
        panel.barh(
            places,
            values,
            color=[COLORS[0] if value >= 0 else COLORS[1] for value in values])
        panel.axvline(0, color=_INK, linewidth=0.8)
        panel.set_yticks(places, names)
        panel.set_xlabel(label)
        panel.grid(alpha=0.25, axis='x')
        return _svg(figure)


def draw_confusion(table: np.ndarray, names: Sequence[str]) -> str:
    """Heat map of a confusion, each row in shares of its sum.

    Args:
        table (np.ndarray): (C + 1, C + 1) counts, nothing last.
        names (Sequence[str]): C names.
    """
    names = [*names, '(nothing)']
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.26 * len(names) + 2, 4.5, 13))
    with rc_context(_STYLE):
        figure = Figure(figsize=(side, side), layout='constrained')
        panel = figure.subplots()
        panel.imshow(shares, vmin=0, vmax=1, cmap='viridis')
        size = 8 if len(names) <= 40 else 5
        ticks = range(len(names))
        panel.set_xticks(ticks, names, rotation=90, fontsize=size)
        panel.set_yticks(ticks, names, fontsize=size)
        panel.set_xlabel('predicted')
        panel.set_ylabel('ground truth')
        if len(names) <= 25:
            for (y, x), count in np.ndenumerate(table):
                if count:
                    panel.text(
                        x,
                        y,
                        str(count),
                        ha='center',
                        va='center',
                        fontsize=7,
                        color='black' if shares[y, x] > 0.5 else 'white')
        return _svg(figure)
