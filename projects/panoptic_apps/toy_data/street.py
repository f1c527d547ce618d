"""A street as polygons, from back to front, as Cityscapes annotates it.

Polygons are (n, 2) of x, y in pixels of an image (h, w). Lengths that belong
to the scene are in image heights, so a larger image shows the same street;
it only holds more and smaller things. Outlines of things are lists of (x, y)
in the unit square, y downwards; their bottom edge stands on the ground.
"""
from dataclasses import dataclass
from typing import Any, Collection, List, Optional, Sequence, Tuple

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

#: Things that are added beyond the wanted ones, and how often.
_CROWD_OF = dict(
    car=5,
    person=5,
    bicycle=2,
    rider=2,
    truck=1.5,
    bus=1.5,
    motorcycle=1.5,
    train=1)
_ON_ROAD = ('car', 'truck', 'bus', 'motorcycle', 'rider', 'caravan', 'trailer')
#: Corners and turn (radians) of traffic signs.
_SIGNS = ((12, 0), (3, -np.pi / 2), (4, np.pi / 4))
_GROUPS = ('persongroup', 'cargroup', 'bicyclegroup', 'motorcyclegroup')


@dataclass
class Item:
    """One annotated object: its label ('car', 'cargroup', ...) and outline
    (n, 2) of x, y in pixels, rounded."""

    label: str
    polygon: np.ndarray


class Street:
    """Builds the items of one street.

    Args:
        size (tuple[int, int]): (h, w) in pixels.
        wanted (Collection[str]): Labels to show; the usual ones (road,
            building, sky, ...) are there in any case.
        rng (np.random.Generator): Decides all the rest.
    """

    def __init__(self, size: Tuple[int, int], wanted: Collection[str],
                 rng: np.random.Generator) -> None:
        self.h, self.w = size
        self.wanted = wanted
        self.rng = rng
        self.items: List[Item] = []
        self.horizon = rng.uniform(.38, .44) * self.h
        self.vanish = rng.uniform(.42, .58) * self.w
        # which side has the terrain, the wall and the parking lot
        self.side = 1 if rng.random() < .5 else -1

    def build(self) -> List[Item]:
        """All items, from back to front."""
        self._background()
        self._ground()
        self._sides()
        self._furniture()
        self._traffic()
        self.items += frame_items((self.h, self.w), self.rng)
        return self.items

    def _add(self, label: str, points: Any) -> None:
        # A pixel beyond the border: the official painter rounds outlines up.
        points = np.clip(np.rint(points), -1, (self.w, self.h))
        self.items.append(Item(label, points.astype(int)))

    def _box(self, label: str, x1: float, y1: float, x2: float,
             y2: float) -> None:
        self._add(label, [(x1, y1), (x2, y1), (x2, y2), (x1, y2)])

    def _x(self, fraction: float) -> float:
        """x of a fraction 0 .. 1 from the side that has the terrain."""
        return self.w * (fraction if self.side > 0 else 1 - fraction)

    def _base(self, x: float) -> float:
        """y where what lines the street meets the ground: falls towards the
        vanishing point."""
        far = abs(x - self.vanish) / (.5 * self.w)
        return self.horizon + (.03 + .17 * far) * self.h

    def _road(self, y: float) -> Tuple[float, float]:
        """Left and right end of the road at a height."""
        near = (y - self.horizon) / (self.h - self.horizon)
        half = (.07 + .36 * near) * self.w
        middle = self.vanish + (.5 * self.w - self.vanish) * near
        return middle - half, middle + half

    def _background(self) -> None:
        h, w, rng = self.h, self.w, self.rng
        self._box('sky', -1, -1, w, self.horizon)
        if 'bridge' in self.wanted:
            top = rng.uniform(.22, .28) * h
            self._box('bridge', .3 * w, top, .7 * w, top + .06 * h)
        for side in (-1, 1):
            end = 0. if side < 0 else float(w)
            for _ in range(rng.integers(1, 4)):
                width = rng.uniform(.1, .18) * w
                start, end = end, end - side * width
                top = rng.uniform(.03, .25) * h
                self._add('building', [(start, top), (end, top),
                                       (end, self._base(end)),
                                       (start, self._base(start))])
        for _ in range(rng.integers(2, 5)):
            x = rng.choice([rng.uniform(0, .38), rng.uniform(.62, 1)]) * w
            size = rng.uniform(.2, .34) * h
            y = self._base(x) - rng.uniform(.8, 1.1) * size
            self._add(
                'vegetation',
                fit(blob(rng), (x - size / 2, y, x + size / 2, y + size)))

    def _ground(self) -> None:
        h, w, rng = self.h, self.w, self.rng
        # Below the horizon a strip stays unlabelled where nothing stands.
        top = self.horizon + max(2, .016 * h)
        left, right = self._road(top)
        edge = [(0, self._base(0)), (left, top), (right, top),
                (w, self._base(w)), (w, h), (0, h)]
        self._add('sidewalk', edge)
        if 'terrain' in self.wanted:
            x = self._x(rng.uniform(.26, .34))
            self._add('terrain', [(self._x(0), self._base(self._x(0))),
                                  (x, self._base(x)), (self._x(.02), .86 * h),
                                  (self._x(0), h)])
        low_left, low_right = self._road(h)
        self._add('road', [(left, top), (right, top), (low_right, h),
                           (low_left, h)])
        if 'rail track' in self.wanted:
            self._add('rail track', [(self.vanish, top), (.47 * w, h),
                                     (.53 * w, h)])
        ends = -self.side
        if 'parking' in self.wanted:
            self._strip('parking', .55 * h, .68 * h, ends)
        if 'ground' in self.wanted:
            self._strip('ground', .72 * h, .84 * h, ends)

    def _strip(self, label: str, y1: float, y2: float, side: int) -> None:
        """A piece of ground beside the road."""
        a, b = (self._road(y)[side > 0] for y in (y1, y2))
        wide = side * .1 * self.w
        self._add(label, [(a, y1), (a + wide, y1), (b + wide, y2), (b, y2)])

    def _sides(self) -> None:
        """Wall, fence and guard rail between the houses and the sidewalk."""
        rng, h = self.rng, self.h
        for label, start in (('wall', .02), ('fence', .68), ('guard rail',
                                                             .3)):
            if label not in self.wanted:
                continue
            start += rng.uniform(0, .06)
            a, b = self._x(start), self._x(start + rng.uniform(.16, .24))
            tall = (.1 if label != 'guard rail' else .05) * h
            self._add(label, [(a, self._base(a) - tall),
                              (b, self._base(b) - .7 * tall),
                              (b, self._base(b) + .02 * h),
                              (a, self._base(a) + .02 * h)])

    def _furniture(self) -> None:
        """Poles with lights and signs."""
        rng, h = self.rng, self.h
        slots = rng.permutation([.09, .17, .25, .75, .83, .91]) * self.w
        names = [
            name
            for name in ('polegroup', 'traffic light', 'traffic sign', 'pole')
            if name in self.wanted
        ]
        more = int(rng.integers(0, 1 + max(1, h // 256)))
        while more and 'pole' in self.wanted and len(names) < len(slots):
            names += [str(rng.choice(['traffic light', 'traffic sign']))]
            more -= 1
        for name, x in zip(names, slots):
            x += rng.uniform(-.02, .02) * self.w
            top = rng.uniform(.12, .22) * h
            foot = self._base(x) + rng.uniform(.02, .1) * h
            thick = max(1.5, rng.uniform(.018, .028) * h) / 2
            if name == 'polegroup':
                self._box('polegroup', x - 4 * thick, top, x + 4 * thick, foot)
                continue
            if 'pole' in self.wanted:
                self._box('pole', x - thick, top, x + thick, foot)
            if name != 'pole':
                self._light_or_sign(name, x, top)

    def _light_or_sign(self, name: str, x: float, y: float) -> None:
        rng, h = self.rng, self.h
        if name == 'traffic light':
            size = rng.uniform(.05, .065) * h
            self._box(name, x - size / 2, y, x + size / 2, y + 2.4 * size)
            return
        size = rng.uniform(.1, .14) * h
        corners, turn = _SIGNS[rng.integers(len(_SIGNS))]
        self._add(
            name,
            fit(
                regular(corners, turn),
                (x - size / 2, y, x + size / 2, y + size)))

    def _traffic(self) -> None:
        """Things, groups and loose objects, from far to near."""
        rng = self.rng
        names = [n for n in self.wanted if n in OUTLINES or n in _GROUPS]
        weights = np.array(list(_CROWD_OF.values()))
        extra = round(4 * (self.h / 128)**.95)
        names += rng.choice(
            list(_CROWD_OF), extra, p=weights / weights.sum()).tolist()
        placed: List[tuple] = []
        for name in names:
            box = self._place(name, [box for _, box in placed])
            if box is not None:
                placed.append((name, box))
        for name, box in sorted(placed, key=lambda item: item[1][3]):
            self._stand(name, box)

    def _place(self, name: str, taken: List) -> Optional[Tuple]:
        """A box for a thing that leaves the others to be seen; None where
        there is no room for one that nobody asked for."""
        rng, h = self.rng, self.h
        single = name.replace('group', '')
        tall, wide = SIZES[single]
        if name != single:
            tall, wide = tall * .7, wide * (2 if single != 'person' else 3)
        # The smallest things have 14 pixels in 128, and 35 in 1024.
        low = min(.55, max(.1, (11 + h / 42) / (tall * h)))
        best, least = None, np.inf
        for _ in range(24):
            near = low + (.62 - low) * rng.random()**1.5
            foot = self.horizon + near * (h - self.horizon)
            height = tall * near * h
            width = height * wide * rng.uniform(.85, 1.15)
            left, right = self._road(foot)
            if name in _ON_ROAD:
                middle = rng.uniform(left, right)
            else:
                middle = rng.uniform(0, self.w)
            box = (middle - width / 2, foot - height, middle + width / 2, foot)
            cut = max(0, -box[0], box[2] - self.w) / width
            hidden = max([cut] + [_cover(box, other) for other in taken])
            if hidden < least:
                best, least = box, hidden
            if hidden < .3:
                break
        return best if least < .6 or name in self.wanted else None

    def _stand(self, name: str, box: Tuple) -> None:
        rng = self.rng
        mirror = bool(rng.random() < .5)
        x1, y1, x2, y2 = box
        if name in _GROUPS:
            single = name[:-len('group')]
            self._add(name, fit(row_of(single, int(rng.integers(3, 6))), box))
        elif name == 'rider':
            # A rider brings a bicycle or a motorcycle along, which reaches
            # to the ground; he sits above it.
            cycle = str(rng.choice(['bicycle', 'bicycle', 'motorcycle']))
            middle, height = (x1 + x2) / 2, y2 - y1
            wide = .5 * SIZES[cycle][1] * .62 * height
            self._add(
                'rider',
                fit(OUTLINES['rider'],
                    (x1, y1 - .1 * height, x2, y1 + .72 * height), mirror))
            self._add(
                cycle,
                fit(OUTLINES[cycle],
                    (middle - wide, y2 - .62 * height, middle + wide, y2),
                    mirror))
        else:
            self._add(name, fit(OUTLINES[name], box, mirror))
        if name == 'car' and 'license plate' in self.wanted:
            unit = (y2 - y1) / 8
            x = x1 + .5 * (x2 - x1)
            self._box('license plate', x - 1.2 * unit, y2 - 2.4 * unit,
                      x + 1.2 * unit, y2 - 1.6 * unit)


def _cover(a: Tuple, b: Tuple) -> float:
    """Share of the smaller of two boxes that lies in the other."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return width * height / min(areas)


#: Labels of :func:`frame_items`: all that test images are annotated with.
FRAME_LABELS = ('ego vehicle', 'rectification border', 'out of roi')


def frame_items(size: Tuple[int, int], rng: np.random.Generator) -> List[Item]:
    """What the camera brings along: hood, border of the rectified image and
    of the region of interest."""
    h, w = size
    rise = rng.uniform(.05, .08) * h
    x = np.linspace(0, 1, 13)
    hood = [(w * (.1 + .8 * t), h - rise * np.sin(np.pi * t)**.5) for t in x]
    edge = max(1, round(h / 160))
    items = [('ego vehicle', hood)]
    items += [('rectification border', [(0, h - edge), (w, h - edge), (w, h),
                                        (0, h)])]
    for start in (0, w - edge):
        items.append(('out of roi', [(start, 0), (start + edge - 1, 0),
                                     (start + edge - 1, h), (start, h)]))
    return [
        Item(label,
             np.rint(points).astype(int)) for label, points in items
    ]


def fit(outline: Outline,
        box: Tuple[float, float, float, float],
        mirror: bool = False) -> np.ndarray:
    """An outline in a box x1, y1, x2, y2 (pixels), or its mirror image."""
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
