"""A miniature Cityscapes: its folders, names and kinds of annotation.

    ROOT/leftImg8bit/{split}/{city}/{id}_leftImg8bit.png
    ROOT/gtFine/{split}/{city}/{id}_gtFine_{polygons.json,labelIds.png,
                                            instanceIds.png,color.png}

Streets are drawn from a seed, with all 19 classes, groups, void and instances
of ignored classes in every split. Polygons become label images by
cityscapesscripts' own functions. As in the official download, label images of
the test split hold void alone.
"""
import errno
import json
import os
import os.path as osp
from typing import Dict, List, Set, Tuple

import cv2
import numpy as np
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import name2label
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from cityscapesscripts.preparation.json2labelImg import createLabelImage

from mmengine_exact.errors import InputError
from panoptic_fpn.cityscapes import FIRST_INSTANCE, IMAGE_SUFFIX

from .looks import draw_image
from .street import FRAME_LABELS, Item, Street
from .synthetic_shapes import write_once

CITIES = dict(
    train=('aachen', 'bochum', 'bremen'),
    val=('frankfurt', 'lindau', 'munster'),
    test=('berlin', 'bielefeld', 'bonn'))
#: Bumped whenever the same seed draws other files.
_VERSION = 1
#: Smallest (h, w) at which all classes can be seen.
MIN_SIZE = (96, 160)

#: Labels in every image; in every second; in every fourth.
_ALWAYS = ('road', 'sidewalk', 'building', 'vegetation', 'sky', 'car',
           'person')
_OFTEN = ('wall', 'fence', 'pole', 'traffic light', 'traffic sign', 'terrain',
          'rider', 'bicycle', 'motorcycle', 'truck', 'bus', 'train')
_SELDOM = ('persongroup', 'caravan', 'parking', 'static', 'cargroup',
           'trailer', 'polegroup', 'dynamic', 'bicyclegroup', 'ground',
           'rail track', 'license plate', 'motorcyclegroup', 'guard rail',
           'bridge')
#: Least share of the image for a wanted label to count as seen.
_SEEN = .0006
_ATTEMPTS = 40


def make_miniature(root: str,
                   splits: Dict[str, int] = dict(train=8, val=4, test=2),
                   size: Tuple[int, int] = (128, 256),
                   seed: int = 0) -> None:
    """Write the data set of a seed, unless it is there already.

    Args:
        root (str): Folder to create; it is complete or not there at all.
        splits (dict[str, int]): Images of each split (train, val, test).
            From 4 on a split surely has all classes and kinds of annotation.
        size (tuple[int, int]): (h, w) of the images in pixels.
        seed (int): The same seed draws the same files.

    Raises:
        InputError: ``root`` holds something else or cannot be written, or
            the size is too small.
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
    try:
        write_once(root, 'miniature.json', recipe, draw)
    except OSError as error:
        raise InputError(f'{root}: cannot write ({error}). Choose another '
                         'folder or make room.') from None


def wanted_labels(index: int, count: int) -> Set[str]:
    """Labels that image ``index`` of a split of ``count`` has to show."""
    wanted = set(_ALWAYS)
    for names, period in ((_OFTEN, 2), (_SELDOM, 4)):
        period = min(count, period)
        wanted |= {
            name
            for k, name in enumerate(names) if (index + k) % period == 0
        }
    return wanted


def draw_street(split: str, index: int, count: int, size: Tuple[int, int],
                seed: int) -> Tuple[np.ndarray, List[Item]]:
    """Image ``index`` of a split of ``count``.

    Of several streets the first in which every wanted label can be seen, or
    else the one that misses the fewest.

    Returns:
        tuple: RGB uint8 (h, w, 3) and the annotated objects, from back to
        front.
    """
    wanted = wanted_labels(index, count)
    best: Tuple = ()
    least = np.inf
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng(
            [seed, list(CITIES).index(split), index, attempt])
        more = {name for name in _OFTEN if rng.random() < .25}
        # sorted: the order of a set differs from process to process
        items = Street(size, sorted(wanted | more), rng).build()
        missing = len(wanted - _seen_labels(items, size))
        if missing < least:
            best, least = (items, rng), missing
        if not missing:
            break
    items, rng = best
    return draw_image(size, items, rng), items


def _seen_labels(items: List[Item], size: Tuple[int, int]) -> Set[str]:
    values = label_images(polygon_json(items, size))['instanceIds']
    values, areas = np.unique(values, return_counts=True)
    found = set(values[areas >= _SEEN * size[0] * size[1]].tolist())
    seen = {'license plate'}  # never in a label image
    for label in {item.label for item in items}:
        single = name2label.get(label)
        if single is None:
            if name2label[label[:-len('group')]].id in found:
                seen.add(label)
        elif single.id in found and not single.hasInstances or any(
                value // FIRST_INSTANCE == single.id for value in found):
            seen.add(label)
    return seen


def polygon_json(items: List[Item], size: Tuple[int, int]) -> str:
    """Content of ``*_polygons.json`` of a street of ``size`` (h, w)."""
    objects = [
        dict(label=item.label, polygon=item.polygon.tolist()) for item in items
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


def _write_image(root: str, split: str, index: int, count: int,
                 size: Tuple[int, int], seed: int) -> None:
    image, items = draw_street(split, index, count, size, seed)
    if split == 'test':
        items = [item for item in items if item.label in FRAME_LABELS]
    cities = CITIES[split]
    city = cities[index % len(cities)]
    # official frames are the 20th of a snippet
    name = f'{city}_{index // len(cities):06d}_000019'
    folders = [
        osp.join(root, kind, split, city) for kind in ('leftImg8bit', 'gtFine')
    ]
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
    _write_png(osp.join(folders[0], name + IMAGE_SUFFIX), image)
    polygons = polygon_json(items, size)
    stem = osp.join(folders[1], name + '_gtFine')
    for kind, values in label_images(polygons).items():
        _write_png(f'{stem}_{kind}.png', values)
    with open(f'{stem}_polygons.json', 'w') as file:
        file.write(polygons)


def _write_png(path: str, image: np.ndarray) -> None:
    if image.ndim == 3:  # RGB or RGBA
        image = image[..., [2, 1, 0, 3][:image.shape[2]]]
    if not cv2.imwrite(path, image):
        raise OSError(errno.EIO, 'the image cannot be written', path)
