"""Colours of segments: the palette, and instances of one class kept apart.

Panoptic maps are (h, w) integers ``label + 1000 * number`` with void = T + S.
Colours are RGB uint8, palettes RGB by label; labels below ``num_things`` are
things.
"""
from typing import Dict, Sequence, Tuple

import cv2
import numpy as np

from ..labels import INSTANCE_OFFSET
from ..ops.run_length import index_values, joint_histogram, joint_runs

#: Largest change of an instance's hue (degrees) and lightness (CIE L*).
HUE_RANGE, LIGHTNESS_RANGE = 60., 22.

#: Limits of an instance's lightness (before its change) and CIELAB chroma:
#: white outlines stay visible, no change is cut off by the gamut, and grey
#: instances differ in hue too.
LIGHTNESS_LIMITS, CHROMA_LIMITS = (52., 62.), (18., 56.)

#: Steps of a two-dimensional low-discrepancy sequence (powers of the plastic
#: number): neighbours in it are far apart, and no two terms are equal.
_STEPS = (0.7548776662466927, 0.5698402909980532)


def segment_colors(codes: np.ndarray, palette: Sequence[Sequence[int]],
                   num_things: int) -> np.ndarray:
    """Colours (n, 3) of segments by their codes (n, ), which are not void.

    Stuff has its palette colour. A thing's colour moves around its palette
    colour in hue and lightness by its number alone, so it does not depend on
    what else is in the picture.
    """
    numbers, labels = np.divmod(np.asarray(codes, np.int64), INSTANCE_OFFSET)
    colors = np.asarray(palette, dtype=np.uint8).reshape(-1, 3)[labels]
    things = labels < num_things
    if things.any():
        colors[things] = _jitter(colors[things], numbers[things])
    return colors


def _jitter(colors: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Rotate the hue and shift the lightness of (n, 3) colours in CIELAB."""
    lab = cv2.cvtColor(colors[None].astype(np.float32) / 255,
                       cv2.COLOR_RGB2LAB)[0]
    turn, lift = (2 * ((numbers * step + 0.5) % 1.0) - 1 for step in _STEPS)
    chroma = np.hypot(lab[:, 1], lab[:, 2]).clip(*CHROMA_LIMITS)
    hue = np.arctan2(lab[:, 2], lab[:, 1]) + np.deg2rad(HUE_RANGE) * turn
    lab[:, 1], lab[:, 2] = chroma * np.cos(hue), chroma * np.sin(hue)
    lab[:, 0] = lab[:, 0].clip(*LIGHTNESS_LIMITS) + LIGHTNESS_RANGE * lift
    rgb = cv2.cvtColor(lab[None].astype(np.float32), cv2.COLOR_LAB2RGB)[0]
    return np.rint(rgb.clip(0, 1) * 255).astype(np.uint8)


def match_numbers(panoptic: np.ndarray, reference: np.ndarray, num_things: int,
                  void: int) -> Tuple[np.ndarray, Dict[int, int]]:
    """Give things the numbers of the things they match in another map.

    A prediction and its ground truth then show one object in one colour. A
    pair matches as in panoptic quality: equal labels, IoU above 0.5 (which
    makes it unique). The others get numbers the reference does not use.

    Returns:
        tuple[np.ndarray, dict[int, int]]: ``panoptic`` with things
        renumbered, int64 of shape (h, w), and the new code of each old one.
    """
    values, lengths = joint_runs(panoptic, reference)
    (codes, index), (other_codes, others) = map(index_values, values)
    joint = joint_histogram(index, others, lengths,
                            (len(codes), len(other_codes)))
    union = joint.sum(1)[:, None] + joint.sum(0)[None] - joint
    labels = codes % INSTANCE_OFFSET
    same = labels[:, None] == other_codes % INSTANCE_OFFSET
    things = (labels < num_things) & (codes != void)
    match = (2 * joint > union) & same & things[:, None]

    new_codes = codes.astype(np.int64)
    rows, columns = np.nonzero(match)
    new_codes[rows] = other_codes[columns]
    unmatched = things & ~match.any(1)
    first = 1 + int(other_codes.max(initial=0)) // INSTANCE_OFFSET
    new_codes[unmatched] = labels[unmatched] + INSTANCE_OFFSET * (
        first + np.arange(unmatched.sum()))
    renumbered = np.repeat(new_codes[index], lengths).reshape(panoptic.shape)
    return renumbered, dict(zip(codes.tolist(), new_codes.tolist()))
