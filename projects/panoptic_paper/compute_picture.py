"""Figure 4 of the paper: compute and memory of backbones, as bars."""
from typing import Sequence, Tuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_PANELS = (('multiply-adds (1e12)', 1e12), ('activations (1e9)', 1e9))


def draw_compute(rows: Sequence[Tuple[str, int, int, int]]) -> np.ndarray:
    """One panel of bars for multiply-adds, one for activations.

    Args:
        rows (Sequence[tuple]): Name, stride of the output, multiply-adds,
            activations.

    Returns:
        np.ndarray: RGB uint8 of shape (h, w, 3).
    """
    figure = Figure(
        figsize=(9.0, 1.4 + 0.42 * len(rows)), dpi=130, layout='constrained')
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    labels = [f'{name} [1/{stride}]' for name, stride, *_ in rows]
    for i, (panel, (title, unit)) in enumerate(zip(panels, _PANELS)):
        values = [float(row[2 + i]) / unit for row in rows]
        bars = panel.barh(labels, values, height=0.6, color=f'C{i}')
        panel.bar_label(bars, fmt='%.2f', padding=3, fontsize=8)
        panel.set_title(title, fontsize=9)
        panel.set_xlim(0, 1.15 * max(values))
        panel.tick_params(labelsize=8)
        panel.spines[['top', 'right']].set_visible(False)
    panels[0].invert_yaxis()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
