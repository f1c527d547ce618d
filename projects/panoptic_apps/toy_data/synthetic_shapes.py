"""A synthetic panoptic data set, drawn from a seed and written to disk.

Shapes that occlude one another (things) lie before textured regions (stuff);
some images have a crowd of small disks, some an unlabelled patch (void). The
files are in COCO panoptic format, stuff first and with gaps between the
category ids, so nothing can depend on an order:

    ROOT/annotations/panoptic_{train,val}.json
    ROOT/annotations/panoptic_{train,val}/000000.png
    ROOT/{train,val}/000000.png

All maps are (h, w), points are (x, y) in pixels.
"""
import json
import os
import os.path as osp
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import cv2
import numpy as np
from mmdet.registry import DATASETS
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log

from mmengine_exact.errors import InputError
from panoptic_fpn.coco_format import measure_segments
from panoptic_fpn.data.coco_panoptic import CocoPanopticFPNDataset
from panoptic_fpn.labels import id_to_rgb

CATEGORIES = [
    dict(id=21, name='water', isthing=0, color=[45, 95, 180]),
    dict(id=4, name='sky', isthing=0, color=[150, 200, 240]),
    dict(id=33, name='grass', isthing=0, color=[60, 150, 60]),
    dict(id=9, name='star', isthing=1, color=[240, 190, 40]),
    dict(id=17, name='bricks', isthing=0, color=[165, 85, 60]),
    dict(id=2, name='disk', isthing=1, color=[220, 60, 60]),
    dict(id=30, name='sand', isthing=0, color=[225, 205, 150]),
    dict(id=12, name='box', isthing=1, color=[150, 70, 200]),
    dict(id=5, name='triangle', isthing=1, color=[40, 190, 170]),
]
_ID = {category['name']: category['id'] for category in CATEGORIES}
_THINGS = ('disk', 'box', 'triangle', 'star')
#: Colours of the stuff classes in the images.
_RGB = dict(
    sky=(150, 195, 240),
    water=(50, 100, 175),
    grass=(75, 150, 65),
    bricks=(165, 90, 65),
    sand=(220, 200, 150))
# Bumped whenever the same seed draws other images.
_VERSION = 1


def texture_tone(name: str, y: np.ndarray, x: np.ndarray, height: float,
                 rng: np.random.Generator) -> np.ndarray:
    """Brightness that a texture adds at pixels y, x of an image."""
    if name == 'sky':
        return (y / height - 0.5) * 50
    if name == 'water':
        return 25 * np.sin(y * 0.6 + 2 * np.sin(x * 0.08))
    if name == 'grass':
        return 30 * np.sin(x * 1.3 + 1.5 * np.sin(y * 0.3))
    if name == 'bricks':
        joint = (y % 8 < 1.5) | ((x + 8 * (y // 8 % 2)) % 16 < 1.5)
        return np.where(joint, 60, -10)
    return rng.normal(0, 14, y.shape)


def corners(name: str, turn: float = 0., radius: float = 1.) -> np.ndarray:
    """Corners (n, 2) of a shape around (0, 0), within ``radius``."""
    count = dict(box=4, triangle=3, star=10, disk=24)[name]
    angles = turn + np.arange(count) * 2 * np.pi / count
    lengths = np.full(count, radius)
    if name == 'star':
        lengths[1::2] *= 0.45
    return lengths[:, None] * np.stack(
        [np.cos(angles), np.sin(angles)], axis=1)


class Canvas:
    """RGB image and segment ids (0: none), painted from back to front.

    Args:
        size (tuple[int, int]): (h, w) in pixels.
        rng (np.random.Generator): Decides what is painted.
    """

    def __init__(self, size: Tuple[int, int],
                 rng: np.random.Generator) -> None:
        self.rng = rng
        self.image = np.zeros((*size, 3), np.float32)
        self.ids = np.zeros(size, np.int32)

    def fill(self, points: np.ndarray) -> np.ndarray:
        """Mask of a polygon (n, 2)."""
        mask = np.zeros(self.ids.shape, np.uint8)
        cv2.fillPoly(mask, [points.round().astype(np.int32)], 1)
        return mask.astype(bool)

    def darken_rim(self, mask: np.ndarray) -> None:
        """Separate a segment from its neighbours."""
        rim = mask & ~cv2.erode(mask.astype(np.uint8), np.ones(
            (3, 3))).astype(bool)
        self.image[rim] *= 0.55

    def hides_too_much(self, mask: Any) -> bool:
        """Whether a mask or slices cover over 40% of what is visible of a
        segment."""
        hidden, counts = np.unique(self.ids[mask], return_counts=True)
        return any(count > 0.4 * (self.ids == segment_id).sum()
                   for segment_id, count in zip(hidden, counts) if segment_id)

    def photograph(self) -> np.ndarray:
        """The image with noise added, uint8."""
        noise = self.rng.normal(0, 6, self.image.shape)
        return np.clip(self.image + noise, 0, 255).astype(np.uint8)


def draw_scene(seed: int, index: int,
               size: int) -> Tuple[np.ndarray, np.ndarray, List[dict]]:
    """Image ``index`` of the data set of a seed, independent of the others.

    Returns:
        tuple: RGB image uint8 (size, size, 3); segment ids int32
        (size, size), 0 = void; and ``segments_info`` with id, category_id,
        iscrowd, area and bbox (x, y, w, h).
    """
    rng = np.random.default_rng([seed, index])
    scene = _Scene(size, rng)
    scene.add_stuff()
    if rng.random() < 0.2:
        scene.add_crowd()
    for _ in range(rng.integers(1, 6)):
        scene.add_thing()
    if rng.random() < 0.2:
        scene.add_void()
    return scene.photograph(), scene.ids, scene.segments_info()


class _Scene(Canvas):

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        super().__init__((size, size), rng)
        self.size = size
        self.info: Dict[int, dict] = {}

    def _new_segment(self, name: str, iscrowd: int = 0) -> int:
        segment_id = 0
        while not segment_id or segment_id in self.info:
            # ids with large gaps, as in COCO
            segment_id = int(self.rng.integers(1, 1 << 24))
        self.info[segment_id] = dict(
            id=segment_id, category_id=_ID[name], iscrowd=iscrowd)
        return segment_id

    def _paint(self, mask: np.ndarray, color: np.ndarray,
               segment_id: int) -> None:
        np.copyto(self.image, color, 'same_kind', where=mask[..., None])
        self.ids[mask] = segment_id

    def add_stuff(self) -> None:
        """Two or three bands with wavy borders, each of another class."""
        rng, size = self.rng, self.size
        names = rng.permutation(list(_RGB))[:rng.integers(2, 4)]
        y, x = np.mgrid[:size, :size].astype(np.float32)
        borders = np.linspace(0, size, len(names) + 1)[:-1]
        for top, name in zip(borders, names):
            wave = size * 0.06 * np.sin(x * rng.uniform(2, 5) / size * np.pi +
                                        rng.uniform(0, 6))
            shift = rng.uniform(-0.08, 0.08) * size
            start = top + wave + shift if top > 0 else -1.0
            base = np.array(_RGB[name], np.float32) + rng.uniform(-15, 15, 3)
            tone = texture_tone(name, y, x, size, rng)
            self._paint(y >= start, base + tone[..., None].astype(np.float32),
                        self._new_segment(str(name)))

    def add_thing(self) -> None:
        """One shape; not if it would hide too much of an earlier one."""
        rng, size = self.rng, self.size
        name = str(rng.choice(_THINGS))
        radius = rng.uniform(0.09, 0.22) * size
        center = rng.uniform(0.08, 0.92, 2) * size
        mask = self._shape_mask(name, center, radius)
        if mask.sum() < 0.5 * radius**2 or self.hides_too_much(mask):
            return
        color = rng.uniform(30, 225, 3)
        y, x = np.mgrid[:size, :size]
        light = (center[0] - x + center[1] - y) / radius * 22
        self._paint(mask, color + light[..., None], self._new_segment(name))
        self.darken_rim(mask)

    def _shape_mask(self, name: str, center: np.ndarray,
                    radius: float) -> np.ndarray:
        turn = self.rng.uniform(0, 2 * np.pi)
        if name != 'disk':
            return self.fill(center + corners(name, turn, radius))
        mask = np.zeros(self.ids.shape, np.uint8)
        cv2.circle(mask, tuple(int(c) for c in center), int(radius), 1, -1)
        return mask.astype(bool)

    def add_crowd(self) -> None:
        """A heap of small disks that nobody separated: one crowd segment."""
        rng, size = self.rng, self.size
        center = rng.uniform(0.25, 0.75, 2) * size
        crowd = np.zeros((size, size), bool)
        for _ in range(14):
            spot = center + rng.normal(0, 0.08, 2) * size
            mask = self._shape_mask('disk', spot, 0.045 * size)
            self.image[mask] = rng.uniform(30, 225, 3)
            crowd |= mask
        self.ids[crowd] = self._new_segment('disk', iscrowd=1)

    def add_void(self) -> None:
        """A grey patch that nobody labelled."""
        rng, size = self.rng, self.size
        x, y = rng.integers(0, size * 3 // 4, 2)
        w, h = rng.integers(size // 10, size // 4, 2)
        patch = np.s_[y:y + h, x:x + w]
        if not self.hides_too_much(patch):
            self.image[patch] = 128
            self.ids[patch] = 0

    def segments_info(self) -> List[dict]:
        """The visible part of each segment, in order of painting."""
        measured = measure_segments(self.ids, ())
        return [
            dict(info, area=measured[id_][0], bbox=measured[id_][1])
            for id_, info in self.info.items() if id_ in measured
        ]


def _write_split(root: str, split: str, num_images: int, size: int,
                 seed: int) -> None:
    image_dir = osp.join(root, split)
    map_dir = osp.join(root, 'annotations', f'panoptic_{split}')
    os.makedirs(image_dir)
    os.makedirs(map_dir)
    images, annotations = [], []
    for index in range(num_images):
        image, ids, segments_info = draw_scene(seed, index, size)
        name = f'{index:06d}.png'
        cv2.imwrite(osp.join(image_dir, name), image[..., ::-1])
        cv2.imwrite(osp.join(map_dir, name), id_to_rgb(ids)[..., ::-1])
        images.append(dict(id=index, file_name=name, height=size, width=size))
        annotations.append(
            dict(image_id=index, file_name=name, segments_info=segments_info))
    content = dict(
        images=images, annotations=annotations, categories=CATEGORIES)
    Path(f'{map_dir}.json').write_text(json.dumps(content))


def write_dataset(root: str,
                  num_train: int = 800,
                  num_val: int = 100,
                  size: int = 128,
                  seed: int = 0) -> None:
    """Write the data set of a seed, unless it is there already.

    Args:
        root (str): Folder to create; it is complete or not there at all.
        num_train (int): Training images.
        num_val (int): Held-out images, from another stream of the seed.
        size (int): Height and width in pixels.
        seed (int): The same seed draws the same files.

    Raises:
        InputError: ``root`` holds something else.
    """

    def draw(folder: str) -> None:
        print_log(
            f'Drawing {num_train} + {num_val} synthetic images to {root}',
            logger='current')
        _write_split(folder, 'train', num_train, size, 2 * seed)
        _write_split(folder, 'val', num_val, size, 2 * seed + 1)

    recipe = dict(
        version=_VERSION,
        num_train=num_train,
        num_val=num_val,
        size=size,
        seed=seed)
    write_once(root, 'recipe.json', recipe, draw)


def write_once(root: str, stamp: str, recipe: Dict,
               draw: Callable[[str], None]) -> None:
    """Write a folder that is complete or not there at all, and not again.

    ``draw`` writes into another folder, which is renamed when complete; of
    concurrent runs, the first to finish renames its own. The file ``stamp``
    holds the ``recipe``.

    Raises:
        InputError: ``root`` holds something else.
    """
    root = root.rstrip('/')
    if _is_written(root, stamp, recipe):
        return
    partial = f'{root}.partial-{uuid.uuid4().hex[:8]}'
    try:
        draw(partial)
        Path(partial, stamp).write_text(json.dumps(recipe))
        os.rename(partial, root)
    except OSError:
        # another run may have been faster
        if not _is_written(root, stamp, recipe):
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_written(root: str, stamp: str, recipe: Dict) -> bool:
    if not osp.lexists(root):
        return False
    found = None
    with suppress(OSError, ValueError):
        found = json.loads(Path(root, stamp).read_text())
    if found != recipe:
        raise InputError(
            f'{root}: holds {found or "other files"}, wanted {recipe}. '
            'Delete the folder or choose another.')
    return True


@DATASETS.register_module()
class SyntheticShapesDataset(CocoPanopticFPNDataset):
    """The synthetic data set; drawn to ``data_root`` where it is missing.

    Args:
        data_root (str): Its folder.
        generate (dict): Arguments of :func:`write_dataset` except ``root``.
        **kwargs: Arguments of :class:`CocoPanopticFPNDataset`.
    """

    def __init__(self,
                 *args: Any,
                 data_root: str,
                 generate: dict = dict(),
                 **kwargs: Any) -> None:
        if is_main_process():
            write_dataset(data_root, **generate)
        barrier()
        super().__init__(*args, data_root=data_root, **kwargs)
