"""Inputs of the benchmarks, drawn from a seed and written as data sets write
theirs: a street of Cityscapes' size, a photograph of COCO's.

What is drawn has bands of stuff with things on them, soft light and texture
of all scales, and a sensor's noise, so that files are as large as real ones
and decoding them costs as much: a street's PNG has 2.2 MB (leftImg8bit: 2 to
2.5), a photograph's JPEG 110 kB.
"""
import dataclasses
from pathlib import Path
from typing import List, Tuple

import cv2
import numpy as np
from PIL import Image

from panoptic_apps.check_gpu.scenes import label_space
from panoptic_fpn.labels import id_to_rgb

#: Classes: ``NUM_THINGS`` things, then as many stuff that 19 are reached, as
#: Cityscapes has them.
NUM_THINGS, NUM_CLASSES = 8, 19
#: Bands of stuff, from the sky down, as fractions of the height.
BANDS = (0, .2, .35, .5, .6, .92)


@dataclasses.dataclass
class Scene:
    """A drawn image."""
    #: RGB uint8 (h, w, 3)
    image: np.ndarray
    #: int32 (h, w), 1..n, each with a pixel
    index_map: np.ndarray
    #: of the segments 1..n
    labels: List[int]

    @property
    def size(self) -> Tuple[int, int]:
        return self.index_map.shape

    def write(self, folder: Path, suffix: str) -> List[dict]:
        """Write ``image.png`` (or ``.jpg``), ``panoptic.png`` (COCO's RGB)
        and ``instanceIds.png`` (Cityscapes' 16 bits).

        Returns:
            list[dict]: Information on the image for our pipeline and
            mmdet's: with the RGB PNG, and with the 16-bit PNG, which mmdet
            cannot read.
        """
        image = folder / f'image{suffix}'
        options = dict(quality=95) if suffix == '.jpg' else {}
        Image.fromarray(self.image).save(image, **options)
        ids = 1000 * np.arange(1, len(self.labels) + 1)
        kinds = dict(
            # any three bytes, as COCO's and Cityscapes' converters give them
            panoptic=(ids * 7919 % 256**3, lambda m: id_to_rgb(m)),
            instanceIds=(ids, lambda m: m.astype(np.uint16)))
        infos = []
        for name, (ids, encode) in kinds.items():
            png = folder / f'{name}.png'
            Image.fromarray(encode(np.append(0,
                                             ids)[self.index_map])).save(png)
            infos.append(self._information(image, png, ids))
        infos[1]['void_ids'] = [0]
        return infos

    def _information(self, image: Path, png: Path, ids: np.ndarray) -> dict:
        segments, instances = [], []
        for i, (label, id_) in enumerate(zip(self.labels, ids.tolist()), 1):
            thing = label < NUM_THINGS
            segments.append(
                dict(id=id_, category=label, iscrowd=0, is_thing=thing))
            if thing:
                ys, xs = np.nonzero(self.index_map == i)
                box = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
                instances.append(
                    dict(
                        bbox=[float(v) for v in box],
                        bbox_label=label,
                        ignore_flag=0))
        return dict(
            img_id=1,
            img_path=str(image),
            height=self.size[0],
            width=self.size[1],
            seg_map_path=str(png),
            segments_info=segments,
            instances=instances,
            label_space=label_space(NUM_THINGS, NUM_CLASSES - NUM_THINGS))


def street(seed: int = 0,
           size: Tuple[int, int] = (1024, 2048),
           num_segments: int = 51) -> Scene:
    """Cityscapes' size; few of its images have more than 51 segments."""
    return _draw(seed, size, num_segments, noise=1.5)


def photograph(seed: int = 0,
               size: Tuple[int, int] = (427, 640),
               num_segments: int = 20) -> Scene:
    """COCO's size; its images have 11 segments on average."""
    return _draw(seed, size, num_segments, noise=12)


def _draw(seed: int, size: Tuple[int, int], num_segments: int,
          noise: float) -> Scene:
    rng = np.random.default_rng(seed)
    height, width = size
    x, y = np.arange(width), np.arange(height)[:, None]
    index_map = np.zeros(size, np.int32)
    for i, level in enumerate(BANDS):
        index_map[y >= level * height + _wave(rng, x, height / 30)] = i + 1
    index_map[index_map == 0] = 1
    # large ones first; what they cover is drawn again as small ones
    sides = height * np.exp(rng.uniform(np.log(.02), np.log(.3), 500))
    for i, side in enumerate(sides[np.argsort(-sides[:num_segments])]):
        _draw_thing(rng, index_map, len(BANDS) + 1 + i, side)
    for i, side in enumerate(sides[num_segments:], num_segments):
        if len(np.unique(index_map)) >= num_segments:
            break
        _draw_thing(rng, index_map, len(BANDS) + 1 + i, height * .03)
    values, index_map = np.unique(index_map, return_inverse=True)
    labels = [
        NUM_THINGS + v if v <= len(BANDS) else v % NUM_THINGS
        for v in values[:num_segments].tolist()
    ]
    # what is too much becomes the first
    index_map = index_map.reshape(size) + 1
    index_map[index_map > num_segments] = 1
    return Scene(_paint(rng, index_map, noise), index_map, labels)


def _wave(rng: np.random.Generator, x: np.ndarray,
          amplitude: float) -> np.ndarray:
    return sum(amplitude / i *
               np.sin(x * i * rng.uniform(3, 20) / len(x) + rng.uniform(0, 6))
               for i in range(1, 13))


def _draw_thing(rng: np.random.Generator, index_map: np.ndarray, value: int,
                side: float) -> None:
    height, width = index_map.shape
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = side / 2 * (1 + .25 * np.sin(angle * rng.integers(2, 7)) +
                         .08 * rng.standard_normal(40))
    center = rng.uniform(0, width), rng.uniform(.4, .75) * height
    points = np.stack([
        center[0] + radius * np.cos(angle) * rng.uniform(.5, 1.4),
        center[1] + radius * np.sin(angle)
    ], 1)
    cv2.fillPoly(index_map, [points.astype(np.int32)], value)


def _paint(rng: np.random.Generator, index_map: np.ndarray,
           noise: float) -> np.ndarray:
    height, width = index_map.shape
    image = rng.uniform(30, 200, (index_map.max() + 1, 3)).astype(np.float32)
    image = image[index_map]
    for cell, amplitude in ((256, 30), (64, 18), (16, 9), (4, 5)):
        light = rng.standard_normal((height // cell + 2, width // cell + 2))
        image += amplitude * cv2.resize(
            light.astype(np.float32), (width, height),
            interpolation=cv2.INTER_CUBIC)[..., None]
    image = cv2.GaussianBlur(image, (0, 0), 1.0)
    grain = rng.standard_normal((height, width, 3)).astype(np.float32)
    image += noise * cv2.GaussianBlur(grain, (0, 0), .6)
    return np.clip(image, 0, 255).astype(np.uint8)


def polygons(mask: np.ndarray) -> List[List[float]]:
    """Polygons [x1, y1, ...] around a mask (h, w), of as many vertices as an
    annotator would draw."""
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    drawn = [cv2.approxPolyDP(contour, 1, True) for contour in contours]
    return [one.reshape(-1).tolist() for one in drawn if len(one) >= 3]
