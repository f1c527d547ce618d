"""Masks of an instances JSON, drawn once, at the place that they end up at.

Vertices of polygons go through the geometry, and pycocotools fills them at the
final size, as in Detectron2; (0, 0) is the corner of the first pixel. An RLE
(crowd, as a rule) is looked up by nearest neighbour, as the panoptic map is.
"""
from itertools import chain
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
from pycocotools import mask as mask_util

from mmengine_exact.errors import InputError

from ..coco_format.segmentations import to_rle
from ..ops.index_map_masks import LAYER
from ..ops.resize_window import nearest_pixels

#: Polygons, each the bytes of float32 (vertices, 2); or a compressed RLE.
Mask = Union[List[bytes], Dict[str, Any]]
#: y, x and uint8 (h, w), 1 inside: a mask where it may have pixels.
Window = Tuple[int, int, np.ndarray]
#: Scale and offset, (2, ) each: what was at (x, y) is now at (x, y) * scale +
#: offset; a flipped axis has a negative scale. The new size (h, w).
Geometry = Tuple[np.ndarray, np.ndarray, Tuple[int, int]]


def compact_mask(segmentation: Any, size: Tuple[int, int]) -> Mask:
    """A segmentation of a JSON for an image of ``size`` (h, w); empty, if no
    polygon has three vertices."""
    if isinstance(segmentation, dict):
        return to_rle(segmentation, size)
    return [
        np.array(polygon, np.float32).tobytes() for polygon in segmentation
        if len(polygon) >= 6
    ]


def geometry_of(results: dict, size: Tuple[int, int]) -> Geometry:
    """The geometry that transforms have recorded.

    Raises:
        InputError: It is not made of scaling, flips, crops and padding.
    """
    matrix = results.get('homography_matrix')
    if matrix is None and tuple(size) == tuple(results['ori_shape'][:2]):
        matrix = np.eye(3)
    if matrix is None or matrix[0, 1] or matrix[1, 0]:
        raise InputError(
            f'{results["img_path"]}: its instances, of a JSON, can follow '
            'transforms that resize, flip and crop and that record '
            'homography_matrix, as mmdet\'s and ours do. Use these, or set '
            'instances_ann_file=None of the dataset.')
    matrix = matrix.astype(np.float64)
    return matrix.diagonal()[:2], matrix[:2, 2], size


def draw_masks(masks: Sequence[Mask],
               geometry: Geometry) -> List[Optional[Window]]:
    """Window of each mask, None where it has left the image."""
    drawn = _fill([m for m in masks if isinstance(m, list)], *geometry)
    return [
        _look_up(mask, *geometry) if isinstance(mask, dict) else next(drawn)
        for mask in masks
    ]


def _fill(masks: List[List[bytes]], scale: np.ndarray, offset: np.ndarray,
          size: Tuple[int, int]) -> Iterator[Optional[Window]]:
    """Windows of polygons. All vertices are computed at once: an image has
    many small polygons."""
    counts = [sum(map(len, mask)) // 8 for mask in masks]
    if not counts:
        return
    points = np.frombuffer(b''.join(chain(*masks)), np.float32)
    points = points.reshape(-1, 2) * scale + offset
    first = np.cumsum([0, *counts[:-1]])
    low = np.floor(np.minimum.reduceat(points, first)).clip(0)
    high = np.minimum(np.ceil(np.maximum.reduceat(points, first)), size[::-1])
    values = (points - low.repeat(counts, axis=0)).reshape(-1)
    boxes = np.concatenate([low, high - low], axis=1).astype(int).tolist()
    end = 0
    for mask, (x, y, width, height) in zip(masks, boxes):
        polygons = []
        for polygon in mask:
            begin, end = end, end + len(polygon) // 4
            polygons.append(values[begin:end])
        if width <= 0 or height <= 0:
            yield None
            continue
        rles = mask_util.frPyObjects(polygons, height, width)
        yield y, x, _decode(mask_util.merge(rles) if rles[1:] else rles[0])


def _look_up(rle: Dict, scale: np.ndarray, offset: np.ndarray,
             size: Tuple[int, int]) -> Optional[Window]:
    x, y, width, height = mask_util.toBbox(rle).astype(int).tolist()
    rows, from_rows = _shown(y, height, rle['size'][0], scale[1], offset[1],
                             size[0])
    cols, from_cols = _shown(x, width, rle['size'][1], scale[0], offset[0],
                             size[1])
    if not len(rows) or not len(cols):
        return None
    bitmap = _decode(rle).take(from_rows, axis=0).take(from_cols, axis=1)
    return rows[0], cols[0], bitmap


def _shown(begin: int, length: int, source: int, scale: float, offset: float,
           size: int) -> Tuple[np.ndarray, np.ndarray]:
    """Along one axis, the new pixels that show some of the ``source`` original
    ones, and those that they show: ``PanopticResize``, flip and crop."""
    pixels = nearest_pixels(source, round(abs(scale) * source))
    first = round(offset)
    if scale < 0:
        pixels, first = pixels[::-1], first - len(pixels)
    new = first + np.flatnonzero((pixels >= begin) & (pixels < begin + length))
    new = new[(new >= 0) & (new < size)]
    return new, pixels[new - first]


def _decode(rle: Dict) -> np.ndarray:
    """Bitmap uint8 (h, w), row by row; pycocotools' is column by column."""
    return cv2.transpose(mask_util.decode(rle).T)


def pack_layers(windows: Sequence[Window],
                size: Tuple[int, int]) -> Tuple[np.ndarray, np.ndarray]:
    """Map and values for ``IndexMapMasks`` of ``size``: instances that share
    no pixel share a layer."""
    layers, counts, values = [np.zeros(size, np.uint8)], [0], []
    for y, x, bitmap in windows:
        place = slice(y, y + bitmap.shape[0]), slice(x, x + bitmap.shape[1])
        inside = np.negative(bitmap)  # 255
        number = 0
        while counts[number] == LAYER - 1 or cv2.countNonZero(
                cv2.bitwise_and(layers[number][place], inside)):
            number += 1
            if number == len(layers):
                layers.append(np.zeros(size, np.uint8))
                counts.append(0)
        counts[number] += 1
        inside &= np.uint8(counts[number])
        layers[number][place] |= inside
        values.append(LAYER * number + counts[number])
    if len(layers) == 1:
        return layers[0], np.array(values, np.uint8)
    return np.stack(layers), np.array(values, np.int64)
