"""Panels side by side on white, each with a caption above it.

Panels are RGB uint8 (h, w, 3); so is the figure.
"""
from typing import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .text import font_size, get_font

_PAPER, _INK = (255, 255, 255), (45, 45, 50)


def side_by_side(panels: Sequence[np.ndarray],
                 captions: Sequence[str]) -> np.ndarray:
    """Compose panels to one figure.

    Args:
        panels (Sequence[np.ndarray]): RGB uint8 of shape (h_i, w_i, 3); they
            are brought to the height of the first.
        captions (Sequence[str]): What is written above each.

    Returns:
        np.ndarray: RGB uint8 of shape (h + caption, sum of w_i + gaps, 3).

    Raises:
        ValueError: No panel, or not one caption for each.
    """
    if not panels or len(panels) != len(captions):
        raise ValueError(f'{len(panels)} panels and {len(captions)} captions;'
                         ' give at least one panel and a caption for each.')
    height, width = panels[0].shape[:2]
    panels = [_to_height(panel, height) for panel in panels]
    size = font_size((height, width)) + 2
    strip, gap = int(1.9 * size), max(6, round(0.5 * size))

    total = sum(p.shape[1] for p in panels) + gap * (len(panels) + 1)
    figure = np.full((strip + height + gap, total, 3), _PAPER, np.uint8)
    centers, x = [], gap
    for panel in panels:
        figure[strip:strip + height, x:x + panel.shape[1]] = panel
        centers.append((x + panel.shape[1] / 2, panel.shape[1]))
        x += panel.shape[1] + gap

    canvas = Image.fromarray(figure)
    draw = ImageDraw.Draw(canvas)
    for caption, (center, room) in zip(captions, centers):
        fitted = size
        while fitted > 6 and get_font(fitted).getlength(caption) > room:
            fitted -= 1
        draw.text((center, strip / 2),
                  caption,
                  font=get_font(fitted),
                  anchor='mm',
                  fill=_INK)
    return np.asarray(canvas).copy()


def _to_height(panel: np.ndarray, height: int) -> np.ndarray:
    if panel.shape[0] == height:
        return panel
    width = max(1, round(panel.shape[1] * height / panel.shape[0]))
    return cv2.resize(panel, (width, height), interpolation=cv2.INTER_AREA)
