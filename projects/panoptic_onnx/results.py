"""Files of one image's result, as ``tools/demo.py`` names and fills them.

``STEM_overlay.png``    the image with colours and outlines (without names)
``STEM_panoptic.png``   ids R + 256 * G + 256**2 * B, void = 0 (COCO)
``STEM_segments.json``  image, size and for each id its segment
"""
import json
import os.path as osp
from typing import Dict, List, Tuple

import cv2
import numpy as np

from .images import write_bytes
from .maps import INSTANCE_OFFSET
from .session import Result

#: Share of the colours in an overlay.
_OPACITY = 0.5


def describe(result: Result,
             classes: List[dict]) -> Tuple[np.ndarray, List[dict]]:
    """Ids 1 .. K of a panoptic map and what they stand for.

    Args:
        result (Result): Of an image.
        classes (list[dict]): Of the model file.

    Returns:
        tuple[np.ndarray, list[dict]]: Ids (h, w), 0 = void, and ``id``,
        ``category_id``, ``category_name``, ``isthing``, ``area`` (pixels),
        ``bbox`` (x, y, width, height) and, for things, ``score``.
    """
    codes, inverse = np.unique(result.panoptic, return_inverse=True)
    painted = codes != len(classes)
    numbers = np.where(painted, np.cumsum(painted), 0)
    ids = numbers[inverse].reshape(result.panoptic.shape)
    segments = []
    for code, number in zip(codes[painted], numbers[painted].tolist()):
        category = classes[code % INSTANCE_OFFSET]
        mask = ids == number
        segment = dict(
            id=number,
            category_id=category['id'],
            category_name=category['name'],
            isthing=int(category['isthing']),
            area=int(np.count_nonzero(mask)),
            bbox=list(cv2.boundingRect(mask.view(np.uint8))))
        if category['isthing']:
            index = result.kept[code // INSTANCE_OFFSET - 1]
            segment['score'] = round(float(result.scores[index]), 4)
        segments.append(segment)
    return ids, segments


def draw_overlay(image: np.ndarray, ids: np.ndarray, segments: List[dict],
                 classes: List[dict]) -> np.ndarray:
    """Colours of the classes over an image, white lines between segments.

    Args:
        image (np.ndarray): BGR uint8 (h, w, 3).
        ids (np.ndarray): (h, w), of :func:`describe`.
        segments (list[dict]): Of the same function.
        classes (list[dict]): Of the model file.

    Returns:
        np.ndarray: BGR uint8 (h, w, 3).
    """
    of_category = {one['id']: one['color'] for one in classes}
    colors = np.zeros((len(segments) + 1, 3), np.uint8)
    for segment in segments:
        color = of_category[segment['category_id']]
        colors[segment['id']] = color[::-1]
    mixed = cv2.addWeighted(image, 1 - _OPACITY, colors[ids], _OPACITY, 0)
    mixed[ids == 0] = image[ids == 0]
    edges = np.zeros(ids.shape, bool)
    edges[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edges[1:] |= ids[1:] != ids[:-1]
    mixed[edges] = 255
    return mixed


def write_result(image: np.ndarray, result: Result, classes: List[dict],
                 out_dir: str, stem: str, source: str) -> Dict[str, str]:
    """Write the three files of an image.

    Args:
        image (np.ndarray): BGR uint8 (h, w, 3).
        result (Result): Of the image.
        classes (list[dict]): Of the model file.
        out_dir (str): Folder; it is made.
        stem (str): First part of the names.
        source (str): Name of the image in the JSON.

    Returns:
        dict[str, str]: Path of ``overlay``, ``panoptic`` and ``segments``.
    """
    ids, segments = describe(result, classes)
    paths = dict(
        overlay=osp.join(out_dir, f'{stem}_overlay.png'),
        panoptic=osp.join(out_dir, f'{stem}_panoptic.png'),
        segments=osp.join(out_dir, f'{stem}_segments.json'))
    height, width = ids.shape
    content = dict(
        image=source,
        height=height,
        width=width,
        panoptic=osp.basename(paths['panoptic']),
        segments=segments)
    # OpenCV writes BGR
    coded = np.stack([ids >> 16, ids >> 8 & 255, ids & 255], axis=-1)
    _write_png(paths['overlay'], draw_overlay(image, ids, segments, classes))
    _write_png(paths['panoptic'], coded.astype(np.uint8))
    write_bytes(paths['segments'],
                json.dumps(content, indent=2, allow_nan=False).encode())
    return paths


def _write_png(path: str, pixels: np.ndarray) -> None:
    write_bytes(path, cv2.imencode('.png', pixels)[1].tobytes())
