"""Outlines of what stands in a miniature street.

An outline is a list of (x, y) in the unit square, y downwards; the bottom
edge stands on the ground.
"""
from typing import List, Sequence, Tuple

import numpy as np

Outline = Sequence[Tuple[float, float]]

OUTLINES = {
    'car': [(0, .55), (.05, .45), (.2, .4), (.33, .05), (.72, 0), (.86, .4),
            (1, .5), (1, .85), (.92, .86), (.87, 1), (.74, 1), (.7, .86),
            (.3, .86), (.26, 1), (.13, 1), (.09, .86), (0, .85)],
    'truck': [(0, 0), (.68, 0), (.68, .2), (.9, .22), (1, .55), (1, .88),
              (.93, .9), (.9, 1), (.78, 1), (.75, .9), (.3, .9), (.27, 1),
              (.13, 1), (.1, .9), (0, .88)],
    'bus': [(.02, .03), (.06, 0), (.95, 0), (1, .06), (1, .92), (.88, .93),
            (.85, 1), (.74, 1), (.71, .93), (.27, .93), (.24, 1), (.13, 1),
            (.1, .93), (0, .92)],
    'train': [(0, .05), (.84, .05), (.93, .2), (1, .6), (1, .95), (.95, 1),
              (0, 1)],
    'caravan': [(.04, .08), (.12, 0), (.8, 0), (.86, .1), (.86, .7), (1, .74),
                (1, .8), (.86, .84), (.58, .86), (.54, 1), (.38, 1),
                (.34, .86), (0, .84)],
    'trailer': [(0, .3), (.8, .3), (.8, .62), (1, .66), (1, .74), (.8, .78),
                (.56, .78), (.52, 1), (.36, 1), (.32, .78), (0, .78)],
    'person': [(.38, .16), (.36, .06), (.44, 0), (.56, 0), (.64, .06),
               (.62, .16), (.86, .22), (1, .5), (.84, .54), (.76, .36),
               (.8, .98), (.58, 1), (.5, .62), (.42, 1), (.2, .98), (.24, .36),
               (.16, .54), (0, .5), (.14, .22)],
    'rider': [(.44, .2), (.42, .06), (.5, 0), (.64, 0), (.7, .08), (.66, .2),
              (.84, .36), (1, .44), (.96, .54), (.66, .48), (.62, .64),
              (.84, .8), (.7, 1), (.56, .98), (.6, .84), (.2, .76), (0, .7),
              (.1, .4), (.26, .22)],
    'bicycle': [(0, .7), (.06, .45), (.2, .36), (.28, .34), (.24, .14),
                (.4, .14), (.36, .32), (.66, .28), (.6, 0), (.74, .02),
                (.78, .34), (.94, .46), (1, .7), (.94, .92), (.8, 1),
                (.66, .92), (.6, .72), (.46, .84), (.38, .74), (.34, .92),
                (.2, 1), (.06, .92)],
    'motorcycle': [(0, .72), (.08, .5), (.02, .3), (.3, .26), (.5, .34),
                   (.62, .14), (.6, 0), (.78, 0), (.8, .3), (.95, .5),
                   (1, .72), (.94, .94), (.8, 1), (.66, .94), (.62, .84),
                   (.38, .86), (.32, .96), (.18, 1), (.05, .94)],
    'static': [(.05, .1), (.2, 0), (.8, 0), (.95, .1), (.88, 1), (.12, 1)],
    'dynamic': [(0, .5), (.1, .3), (.5, .35), (.78, .3), (.82, 0), (1, .1),
                (.96, .4), (.86, .55), (.86, 1), (.72, 1), (.68, .7),
                (.28, .7), (.24, 1), (.1, 1), (.08, .65)],
}

#: Height of a thing that stands at the very bottom of the image, in image
#: heights, and its width in heights of its own.
SIZES = dict(
    car=(.44, 1.8),
    truck=(.8, 1.3),
    bus=(.78, 1.6),
    train=(.76, 2.4),
    caravan=(.6, 1.5),
    trailer=(.46, 1.7),
    person=(.62, .42),
    rider=(.5, .62),
    bicycle=(.4, 1.5),
    motorcycle=(.4, 1.5),
    static=(.26, .7),
    dynamic=(.24, 1.2))


def fit(outline: Outline,
        box: Tuple[float, float, float, float],
        mirror: bool = False) -> np.ndarray:
    """An outline in a box.

    Args:
        outline (Sequence): n points in the unit square.
        box (tuple): x1, y1, x2, y2 in pixels.
        mirror (bool): Whether left and right change places.

    Returns:
        np.ndarray: (n, 2) of x, y in pixels.
    """
    points = np.array(outline, float)
    if mirror:
        points[:, 0] = 1 - points[:, 0]
    x1, y1, x2, y2 = box
    return points * (x2 - x1, y2 - y1) + (x1, y1)


def blob(rng: np.random.Generator, points: int = 18) -> List:
    """A crown of leaves: an ellipse with a wavy border."""
    angle = np.arange(points) * 2 * np.pi / points
    radius = .5 * rng.uniform(.82, 1, points)
    return np.stack([.5 + radius * np.cos(angle), .5 + radius * np.sin(angle)],
                    1).tolist()


def row_of(name: str, count: int) -> List:
    """Several outlines side by side, as one outline: a group.

    The upper border follows ``count`` things, the lower one is straight.
    """
    bump = dict(
        person=[(0, .3), (.25, .22), (.35, 0), (.65, 0), (.75, .22)],
        car=[(0, .5), (.2, .4), (.32, .05), (.72, 0), (.86, .4)],
        bicycle=[(0, .5), (.25, .3), (.3, .1), (.6, .3), (.7, 0), (.85, .4)],
        motorcycle=[(0, .5), (.3, .25), (.6, .3), (.7, 0), (.85, .4)])[name]
    top = [((i + x) / count, y) for i in range(count) for x, y in bump]
    return top + [(1, .5), (1, 1), (0, 1)]


def regular(corners: int, turn: float = 0.) -> List:
    """A regular polygon in the unit square."""
    angle = np.arange(corners) * 2 * np.pi / corners + turn
    return np.stack([.5 + .5 * np.cos(angle), .5 + .5 * np.sin(angle)],
                    1).tolist()
