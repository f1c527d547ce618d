"""A miniature Cityscapes: its folders, names and kinds of annotation.

    ROOT/leftImg8bit/{split}/{city}/{id}_leftImg8bit.png
    ROOT/gtFine/{split}/{city}/{id}_gtFine_{polygons.json,labelIds.png,
                                            instanceIds.png,color.png}

Shapes on a street are drawn from a seed, with all 19 classes, groups, void and
instances of ignored classes in every split. A label has its colour in
Cityscapes' pictures, its texture and its shape. Polygons become label images
by cityscapesscripts' own functions. As in the official download, label images
of the test split hold void alone.
"""
import json
import os
import os.path as osp
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import name2label
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from cityscapesscripts.preparation.json2labelImg import createLabelImage
from PIL import Image

from mmengine_exact.errors import InputError
from panoptic_fpn.cityscapes import IMAGE_SUFFIX

from .synthetic_shapes import Canvas, corners, texture_tone, write_once

CITIES = dict(
    train=('aachen', 'bochum', 'bremen'),
    val=('frankfurt', 'lindau', 'munster'),
    test=('berlin', 'bielefeld', 'bonn'))
#: Bumped whenever the same seed draws other files.
_VERSION = 2
#: Smallest (h, w) at which all classes can be seen.
MIN_SIZE = (96, 160)
#: Labels of the camera's frame: all that test images are annotated with.
FRAME_LABELS = ('ego vehicle', 'rectification border', 'out of roi')

#: For each label: every how many images it occurs, shape, height and width,
#: and where its centre may be from the top, all in image heights; for things,
#: which stand on the ground, the largest height, and the width in heights.
_LABELS: Dict[str, Tuple] = {
    'building': (1, 'box', .35, .5, .2, .25),
    'bridge': (4, 'box', .08, .6, .1, .4),
    'vegetation': (1, 'star', .4, .5, .2, .4),
    'wall': (2, 'box', .15, .5, .35, .5),
    'fence': (2, 'box', .15, .5, .35, .5),
    'guard rail': (4, 'box', .08, .6, .4, .5),
    'terrain': (2, 'disk', .2, .5, .5, .6),
    'parking': (4, 'box', .15, .4, .55, .9),
    'ground': (4, 'disk', .15, .4, .55, .9),
    'rail track': (4, 'triangle', .3, .2, .6, .9),
    'polegroup': (4, 'box', .3, .1, .2, .5),
    'pole': (2, 'box', .4, .05, .2, .5),
    'traffic light': (2, 'box', .2, .1, .1, .4),
    'traffic sign': (2, 'disk', .15, .15, .1, .4),
    'license plate': (4, 'box', .05, .1, .7, .9),
    'train': (2, 'box', .6, 2.2),
    'bus': (2, 'box', .6, 1.5),
    'truck': (2, 'star', .6, 1.5),
    'caravan': (4, 'disk', .5, 1.4),
    'trailer': (4, 'box', .4, 1.8),
    'car': (1, 'disk', .4, 1.8),
    'person': (1, 'triangle', .6, .5),
    'rider': (2, 'star', .5, .7),
    'bicycle': (2, 'triangle', .4, 1.3),
    'motorcycle': (2, 'box', .4, 1.2),
    'static': (4, 'box', .3, .7),
    'dynamic': (4, 'star', .3, 1.2),
    'cargroup': (4, 'disk', .3, 3.5),
    'persongroup': (4, 'triangle', .4, 1.5),
    'bicyclegroup': (4, 'triangle', .3, 2.5),
    'motorcyclegroup': (4, 'box', .3, 2.5)
}
#: Things that fill images with room for them.
_MORE = ('car', 'car', 'person', 'person', 'rider', 'bicycle', 'motorcycle',
         'truck', 'bus', 'train')
#: By id modulo 5, so that the sky has 'sky' and the road 'sand'.
_TEXTURES = ('bricks', 'grass', 'sand', 'sky', 'water')

#: An annotated object: its label and outline (n, 2) of x, y in pixels.
Item = Tuple[str, np.ndarray]


def make_miniature(root: str,
                   splits: Dict[str, int] = dict(train=8, val=4, test=2),
                   size: Tuple[int, int] = (128, 256),
                   seed: int = 0) -> None:
    """Write the data set of a seed, unless it is there already.

    Args:
        root (str): Folder to create; it is complete or not there at all.
        splits (dict[str, int]): Images of each split (train, val, test).
            From 4 on a split has all classes and kinds of annotation.
        size (tuple[int, int]): (h, w) of the images in pixels.
        seed (int): The same seed draws the same files.

    Raises:
        InputError: ``root`` holds something else, or the size is too small.
    """
    if any(a < b for a, b in zip(size, MIN_SIZE)):
        raise InputError(
            f'size {tuple(size)} (h, w) is too small for 19 classes to be '
            f'seen; at least {MIN_SIZE}.')

    def draw(folder: str) -> None:
        for split, count in splits.items():
            for index in range(count):
                _write_image(folder, split, index, count, size, seed)

    recipe = dict(
        version=_VERSION, splits=dict(splits), size=list(size), seed=seed)
    write_once(root, 'miniature.json', recipe, draw)


def _write_image(root: str, split: str, index: int, count: int,
                 size: Tuple[int, int], seed: int) -> None:
    image, items = draw_street(split, index, count, size, seed)
    if split == 'test':
        items = [item for item in items if item[0] in FRAME_LABELS]
    cities = CITIES[split]
    city = cities[index % len(cities)]
    # official frames are the 20th of a snippet
    name = f'{city}_{index // len(cities):06d}_000019'
    polygons = polygon_json(items, size)
    stem = osp.join(root, 'gtFine', split, city, f'{name}_gtFine_')
    images = {
        f'{stem}{kind}.png': values
        for kind, values in label_images(polygons).items()
    }
    images[osp.join(root, 'leftImg8bit', split, city,
                    name + IMAGE_SUFFIX)] = image
    for path, values in images.items():
        os.makedirs(osp.dirname(path), exist_ok=True)
        Image.fromarray(values).save(path, compress_level=1)
    Path(f'{stem}polygons.json').write_text(polygons)


def polygon_json(items: Sequence[Item], size: Tuple[int, int]) -> str:
    """Content of ``*_polygons.json`` of a street of ``size`` (h, w)."""
    objects = [
        dict(label=label, polygon=points.tolist()) for label, points in items
    ]
    content = dict(imgHeight=size[0], imgWidth=size[1], objects=objects)
    return json.dumps(content, indent=4)


def label_images(polygons: str) -> Dict[str, np.ndarray]:
    """The official label images of :func:`polygon_json`.

    Returns:
        dict[str, np.ndarray]: ``labelIds`` uint8 (h, w), ``instanceIds``
        uint16 (h, w), ``color`` uint8 (h, w, 4).
    """
    annotated = Annotation()
    annotated.fromJsonText(polygons)
    instances = np.array(createInstanceImage(annotated, 'ids'))
    return dict(
        labelIds=np.array(createLabelImage(annotated, 'ids')),
        instanceIds=instances.astype(np.uint16),
        color=np.array(createLabelImage(annotated, 'color')))


def draw_street(split: str, index: int, count: int, size: Tuple[int, int],
                seed: int) -> Tuple[np.ndarray, List[Item]]:
    """Image ``index`` of a split of ``count``.

    Returns:
        tuple: RGB uint8 (h, w, 3) and the annotated objects, from back to
        front.
    """
    rng = np.random.default_rng([seed, list(CITIES).index(split), index])
    street = _Street(size, rng)
    street.add_ground()
    for k, (name, (period, *_)) in enumerate(_LABELS.items()):
        if (index + k) % min(count, period):
            continue
        for attempt in range(40):
            if street.add(name, street.place(name), always=attempt == 39):
                break
    for name in rng.choice(_MORE, round(5 * (size[0] / 128)**.95)):
        street.add(name, street.place(name))
    street.add_frame()
    return street.photograph(), street.items


class _Street(Canvas):

    def __init__(self, size: Tuple[int, int],
                 rng: np.random.Generator) -> None:
        super().__init__(size, rng)
        self.h, self.w = size
        self.items: List[Item] = []

    def add(self, name: str, points: np.ndarray, always: bool = False) -> bool:
        """Paint an object; not if it would hide too much of an earlier one."""
        # a pixel beyond the border: the official painter rounds outlines up
        points = np.clip(np.rint(points), -1, (self.w, self.h)).astype(int)
        mask = self.fill(points)
        if not always and self.hides_too_much(mask):
            return False
        label = name2label.get(name) or name2label[name[:-len('group')]]
        y, x = np.nonzero(mask) / np.float32(self.h / 128)
        tone = texture_tone(_TEXTURES[label.id % 5], y, x, 128, self.rng)
        color = label.color + self.rng.uniform(-15, 15, 3)
        self.image[mask] = color + tone[:, None]
        self.darken_rim(mask)
        self.items.append((name, points))
        self.ids[mask] = len(self.items)
        return True

    def place(self, name: str) -> np.ndarray:
        """An outline somewhere in the image."""
        rng, h = self.rng, self.h
        _, shape, height, width, *centers = _LABELS[name]
        if centers:
            y = rng.uniform(centers[0], centers[1])
            width *= rng.uniform(.7, 1.3)
        else:
            # near the bottom things are large; the least have 14 pixels in
            # 128 and 35 in 1024
            low = min(.6, (11 + h / 42) / (height * h))
            near = low + (1 - low) * rng.random()**1.5
            height *= near
            width *= height
            y = .4 + .55 * near - height / 2
        turn = np.pi / 4 if shape == 'box' else -np.pi / 2
        points = corners(shape, turn)
        points /= np.abs(points).max(0)
        x = rng.uniform(.05, .95) * self.w / h
        return h * (points * (width / 2, height / 2) + (x, y))

    def add_ground(self) -> None:
        """Sky, sidewalk and road; the strip between them is unlabelled."""
        h, w = self.h, self.w
        self._box('sky', -1, -1, w, .4 * h)
        self._box('sidewalk', -1, .43 * h, w, h)
        a, b = np.sort(self.rng.uniform(.3, .7, 2)) * w
        self.add(
            'road',
            np.array([(a, .43 * h), (b, .43 * h), (.95 * w, h), (.05 * w, h)]),
            True)

    def _box(self, name: str, x1: float, y1: float, x2: float,
             y2: float) -> None:
        self.add(name, np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]),
                 True)

    def add_frame(self) -> None:
        """The camera's frame: hood, borders of the rectified image and of the
        region of interest."""
        h, w = self.h, self.w
        edge = max(1, round(h / 160))
        hood = corners('disk') * (.4 * w, self.rng.uniform(.05, .08) * h)
        self.add('ego vehicle', hood + (w / 2, h), True)
        self._box('rectification border', 0, h - edge, w, h)
        for x in (0, w - edge):
            self._box('out of roi', x, 0, x + edge - 1, h)
