"""Images in, results out, as ``tools/demo.py`` names and fills them.

``STEM_overlay.png``    the image with colours and outlines (without names)
``STEM_panoptic.png``   ids R + 256 * G + 256**2 * B, void = 0 (COCO)
``STEM_segments.json``  image, size and for each id its segment

Images are BGR uint8 (h, w, 3), as OpenCV reads them.
"""
import json
import os
import os.path as osp
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import cv2
import numpy as np

from .maps import INSTANCE_OFFSET
from .model_file import Category, DeployError
from .session import Result

#: Suffixes of the images of a folder.
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
#: Ends of the names of results, which are not images.
RESULTS = ('_overlay.png', '_panoptic.png')
#: Share of the colours in an overlay.
_OPACITY = 0.5


def read_image(path: str) -> np.ndarray:
    """An image, its orientation tag applied.

    Raises:
        DeployError: The file is missing, cut off or not an image.
    """
    image = None
    try:
        content = Path(path).read_bytes()
        fault = f'{len(content)} bytes that are not a whole image'
        if content and not _is_cut_off(content):
            image = cv2.imdecode(
                np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except OSError as error:
        fault = str(error.strerror)
    if image is None:
        raise DeployError(f'{path}: {fault}. Restore the file, or convert it '
                          'to JPEG or PNG.')
    return image


def _is_cut_off(content: bytes) -> bool:
    """Whether a JPEG or PNG ends before its image does."""
    if content.startswith(b'\xff\xd8'):
        # the thumbnail of a camera has an end, too, before the last scan
        return content.rfind(b'\xff\xd9') < content.rfind(b'\xff\xda')
    return content.startswith(b'\x89PNG') and b'IEND' not in content


def find_images(paths: Sequence[str]) -> List[str]:
    """Files as they are given, and the images below folders, sorted; each
    once. Results of an earlier run in a folder are not images."""
    found = {}
    for path in paths:
        names = [path]
        if osp.isdir(path):
            names = sorted(
                osp.join(folder, name) for folder, _, files in os.walk(path)
                for name in files if name.lower().endswith(SUFFIXES)
                and not name.lower().endswith(RESULTS)
                and '/.' not in f'{folder[len(path):]}/{name}')
        found.update(dict.fromkeys(names))
    return list(found)


def unique_stems(paths: Sequence[str]) -> List[str]:
    """Stems of paths; a suffix distinguishes equal ones."""
    used, stems = set(), []
    for path in paths:
        stem = candidate = Path(path).stem
        count = 2
        while candidate.lower() in used:
            candidate, count = f'{stem}_{count}', count + 1
        used.add(candidate.lower())
        stems.append(candidate)
    return stems


def write_bytes(path: str, content: bytes) -> None:
    """Write a file that is either complete or not there at all."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f'.{target.name}.{os.getpid()}')
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def list_segments(result: Result,
                  classes: List[Category]) -> Tuple[np.ndarray, List[dict]]:
    """Ids 1 .. K of a panoptic map (h, w), 0 = void, and of each ``id``,
    ``category_id``, ``category_name``, ``isthing``, ``area`` (pixels),
    ``bbox`` (x, y, width, height) and, for things, ``score``."""
    codes, inverse = np.unique(result.panoptic, return_inverse=True)
    painted = codes != len(classes)
    new_ids = np.where(painted, np.cumsum(painted), 0)
    ids = new_ids[inverse].reshape(result.panoptic.shape)
    segments = []
    for code, id_ in zip(codes[painted], new_ids[painted].tolist()):
        category = classes[code % INSTANCE_OFFSET]
        mask = ids == id_
        segment = dict(
            id=id_,
            category_id=category.id,
            category_name=category.name,
            isthing=category.isthing,
            area=int(np.count_nonzero(mask)),
            bbox=list(cv2.boundingRect(mask.view(np.uint8))))
        if category.isthing:
            index = result.kept[code // INSTANCE_OFFSET - 1]
            segment['score'] = round(float(result.scores[index]), 4)
        segments.append(segment)
    return ids, segments


def draw_overlay(image: np.ndarray, ids: np.ndarray, segments: List[dict],
                 classes: List[Category]) -> np.ndarray:
    """Colours of the classes over an image, white lines between segments;
    BGR uint8 (h, w, 3), as the image."""
    of_category = {one.id: one.color for one in classes}
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


def write_result(image: np.ndarray, result: Result, classes: List[Category],
                 out_dir: str, stem: str, source: str) -> Dict[str, str]:
    """Write the three files of an image, whose name in the JSON is ``source``,
    to a folder, which is created; return their paths by kind."""
    ids, segments = list_segments(result, classes)
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
    pictures = dict(
        overlay=draw_overlay(image, ids, segments, classes),
        panoptic=coded.astype(np.uint8))
    for kind, pixels in pictures.items():
        write_bytes(paths[kind], cv2.imencode('.png', pixels)[1].tobytes())
    write_bytes(paths['segments'],
                json.dumps(content, indent=2, allow_nan=False).encode())
    return paths
