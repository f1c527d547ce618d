"""Heat maps of a sweep of the merge's thresholds."""
from typing import Dict, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw_sweep(rows: Sequence[Dict], metric: str = 'PQ') -> np.ndarray:
    """One heat map of score over overlap threshold for each stuff area.

    Args:
        rows (Sequence[dict]): Settings with ``score_thr``, ``overlap_thr``,
            ``stuff_area`` and ``metric`` (percent), all combinations.
        metric (str): What is drawn.

    Returns:
        np.ndarray: RGB uint8 of shape (h, w, 3).
    """
    scores, overlaps, areas = (
        sorted({row[key]
                for row in rows})
        for key in ('score_thr', 'overlap_thr', 'stuff_area'))
    cells = {
        (row['score_thr'], row['overlap_thr'], row['stuff_area']): row[metric]
        for row in rows
    }
    values = np.array([[[cells[s, o, a] for o in overlaps] for s in scores]
                       for a in areas])
    best, (low, high) = None, (0, 100)
    if not np.isnan(values).all():
        best = np.unravel_index(np.nanargmax(values), values.shape)
        low, high = np.nanmin(values), np.nanmax(values)
    wide = 1.6 + 0.62 * len(overlaps)
    figure = Figure(
        figsize=(wide * len(areas), 1.5 + 0.42 * len(scores)),
        dpi=130,
        layout='constrained')
    panels = figure.subplots(1, len(areas), squeeze=False)[0]
    for i, (panel, area) in enumerate(zip(panels, areas)):
        panel.imshow(
            values[i], vmin=low, vmax=high, cmap='viridis', aspect='auto')
        panel.set_title(f'stuff_area {area}', fontsize=9)
        panel.set_xticks(range(len(overlaps)), [f'{o:g}' for o in overlaps])
        panel.set_yticks(range(len(scores)), [f'{s:g}' for s in scores])
        panel.set_xlabel('overlap_thr', fontsize=8)
        panel.tick_params(labelsize=8)
        if i == 0:
            panel.set_ylabel('score_thr', fontsize=8)
        for (y, x), value in np.ndenumerate(values[i]):
            bright = value > (low + high) / 2
            panel.text(
                x,
                y,
                f'{value:.1f}',
                ha='center',
                va='center',
                fontsize=7,
                fontweight='bold' if best == (i, y, x) else 'normal',
                color='black' if bright else 'white')
    figure.suptitle(f'{metric} (percent); the best in bold', fontsize=10)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
