"""How a miniature street looks: every class has its colour and pattern.

A pattern is computed in the window of an object from its pixels: ``y`` and
``x`` of the image divided by ``h / 128`` (so it looks alike at every size)
and ``v`` and ``u``, 0 .. 1 from the top and from the left of the object. It
gives a tone that is added to the colour, or colours (..., 3).
"""
from typing import Any, Callable, Dict, List, Tuple

import cv2
import numpy as np

from .street import Item

#: Tone (h, w) or colours (h, w, 3) by y, x, v, u and a random generator.
Pattern = Callable[..., np.ndarray]


def _grain(rng: np.random.Generator, amount: float,
           shape: Tuple[int, ...]) -> np.ndarray:
    return amount * rng.standard_normal(shape, np.float32)


def _noise(amount: float) -> Pattern:
    """Two octaves: leaves and clumps of leaves."""

    def tone(y: np.ndarray, x: np.ndarray, v: np.ndarray, u: np.ndarray,
             rng: np.random.Generator) -> np.ndarray:
        fine = _grain(rng, amount, y.shape)
        coarse = _grain(rng, amount, (2 + int(y[-1, 0] - y[0, 0]) // 5,
                                      2 + int(x[0, -1] - x[0, 0]) // 5))
        return fine + cv2.resize(coarse, y.shape[::-1])

    return tone


def _bricks(y: np.ndarray, x: np.ndarray, *_: Any) -> np.ndarray:
    joint = (y % 4 < 1) | ((x + 4 * (y // 4 % 2)) % 8 < 1)
    return np.where(joint, 45., -10.)


def _lamps(y: np.ndarray, x: np.ndarray, v: np.ndarray, u: np.ndarray, *_:
           Any) -> np.ndarray:
    colors = np.zeros(y.shape + (3, ), np.float32)
    for middle, color in ((.2, (215, 40, 40)), (.5, (200, 160, 30)),
                          (.8, (50, 200, 90))):
        lamp = ((v - middle) * 2.4)**2 + (u - .5)**2 < .12
        colors[lamp] = color
    return colors


def _glass(rows: Tuple[float, float], pitch: float = 0) -> Pattern:
    """A dark band of windows on a vehicle, with posts every ``pitch``."""

    def tone(y: np.ndarray, x: np.ndarray, v: np.ndarray, u: np.ndarray, *_:
             Any) -> np.ndarray:
        band = (v > rows[0]) & (v < rows[1])
        if pitch:
            band &= (u / pitch) % 1 > .2
        return np.where(band, -75., 25 * (.5 - v)) - 60 * (v > .88)

    return tone


def _pattern(formula: Callable[..., np.ndarray]) -> Pattern:
    """A pattern of y and x alone."""
    return lambda y, x, *_: formula(y, x)


def _shade(formula: Callable[..., np.ndarray]) -> Pattern:
    """A pattern of v and u alone."""
    return lambda y, x, v, u, _: formula(v, u)


def _asphalt(y: np.ndarray, x: np.ndarray, v: np.ndarray, u: np.ndarray,
             rng: np.random.Generator) -> np.ndarray:
    return _grain(rng, 6, y.shape)


_tiles = _pattern(lambda y, x: np.where((y % 7 < 1) | (x % 7 < 1), -35., 8.))
_windows = _pattern(lambda y, x: np.where((y % 11 > 4) &
                                          (x % 9 > 4), -55., 8.))
_slats = _pattern(lambda y, x: np.where(x % 4 < 1.8, 45., -30.))
_furrows = _pattern(lambda y, x: 22 * np.sin(y * 1.4 + 1.2 * np.sin(x * .25)))
_spokes = _pattern(lambda y, x: 35 * np.sin((x + y) * 1.6))
_haze = _shade(lambda v, u: 45 * (v - .5))
_round = _shade(lambda v, u: 55 * np.cos((u - .35) * 3) - 25)
_rim = _shade(lambda v, u: np.where((abs(u - .5) < .3) &
                                    (abs(v - .5) < .3), 130., 0.))
_clothes = _shade(
    lambda v, u: np.where(v < .17, 35., np.where(v > .55, -60., 0.)))


def _ribs(y: np.ndarray, x: np.ndarray, v: np.ndarray, *_: Any) -> np.ndarray:
    return np.where(x % 5 < 1.2, -45., 5.) - 60 * (v > .88)


#: Colour (RGB), how much it differs from one object to the next, pattern.
LOOKS: Dict[str, Tuple] = {
    'unlabeled': ((120, 118, 122), 8, _asphalt),
    'ego vehicle': ((38, 38, 44), 6, _haze),
    'rectification border': ((0, 0, 0), 0, None),
    'out of roi': ((8, 8, 8), 0, None),
    'static': ((92, 78, 66), 10, _slats),
    'dynamic': ((120, 88, 60), 15, _noise(8)),
    'ground': ((140, 120, 104), 6, _noise(10)),
    'road': ((88, 86, 92), 5, _asphalt),
    'sidewalk': ((186, 172, 166), 6, _tiles),
    'parking': ((120, 116, 126), 5, _slats),
    'rail track': ((74, 66, 60), 5, _tiles),
    'building': ((164, 122, 92), 14, _windows),
    'wall': ((150, 84, 72), 8, _bricks),
    'fence': ((108, 120, 96), 8, _slats),
    'guard rail': ((176, 180, 186), 5, _furrows),
    'bridge': ((132, 128, 122), 5, _bricks),
    'pole': ((62, 62, 70), 6, _round),
    'polegroup': ((66, 64, 60), 6, _slats),
    'traffic light': ((24, 26, 26), 4, _lamps),
    'traffic sign': ((36, 80, 225), 8, _rim),
    'vegetation': ((52, 108, 44), 8, _noise(15)),
    'terrain': ((158, 170, 74), 8, _furrows),
    'sky': ((164, 204, 238), 8, _haze),
    'person': ((224, 72, 168), 18, _clothes),
    'rider': ((150, 232, 66), 18, _clothes),
    'car': ((206, 40, 44), 22, _glass((.12, .42), .34)),
    'truck': ((236, 234, 240), 10, _ribs),
    'bus': ((246, 166, 22), 10, _glass((.14, .5), .16)),
    'caravan': ((226, 206, 222), 8, _glass((.25, .5), .5)),
    'trailer': ((150, 118, 58), 10, _slats),
    'train': ((22, 142, 132), 12, _glass((.2, .55), .1)),
    'motorcycle': ((122, 34, 152), 15, _spokes),
    'bicycle': ((24, 204, 208), 15, _spokes),
    'license plate': ((240, 240, 225), 4, None),
}


def draw_image(size: Tuple[int, int], items: List[Item],
               rng: np.random.Generator) -> np.ndarray:
    """The photograph of a street.

    Args:
        size (tuple[int, int]): (h, w) in pixels.
        items (list[Item]): From back to front.
        rng (np.random.Generator): Decides colours and noise.

    Returns:
        np.ndarray: RGB uint8 (h, w, 3).
    """
    h, w = size
    image = np.zeros((h, w, 3), np.float32)
    everything = np.array([(0, 0), (w, 0), (w, h), (0, h)])
    for item in [Item('unlabeled', everything)] + items:
        _paint(image, item, rng)
    image += _grain(rng, 5, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def _paint(image: np.ndarray, item: Item, rng: np.random.Generator) -> None:
    h, w = image.shape[:2]
    label = item.label
    if label not in LOOKS:
        label = label[:-len('group')]
    color, spread, pattern = LOOKS[label]
    color = np.array(color, np.float32) + rng.uniform(-spread, spread, 3)
    x1, y1 = np.clip(item.polygon.min(0), 0, (w - 1, h - 1))
    x2, y2 = np.clip(item.polygon.max(0), 0, (w - 1, h - 1)) + 1
    mask = np.zeros((y2 - y1, x2 - x1), np.uint8)
    cv2.fillPoly(mask, [(item.polygon - (x1, y1)).astype(np.int32)], 1)
    window = image[y1:y2, x1:x2]
    paint = np.broadcast_to(color, window.shape)
    if pattern is not None:
        v, u = np.mgrid[:y2 - y1, :x2 - x1].astype(np.float32)
        scale = np.float32(h / 128)
        tone = pattern((v + y1) / scale, (u + x1) / scale, v / len(mask),
                       u / mask.shape[1], rng)
        paint = paint + (tone if tone.ndim == 3 else tone[..., None])
    inside = mask.astype(bool)
    np.copyto(window, paint, where=inside[..., None])
    # A dark rim separates neighbours of one class.
    rim = inside & ~cv2.erode(
        mask, np.ones((3, 3), np.uint8), borderValue=0).astype(bool)
    window[rim] *= .6
