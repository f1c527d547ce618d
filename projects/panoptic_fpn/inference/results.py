"""Files of one image's result: overlay, COCO panoptic PNG, JSON of segments.

``STEM_overlay.png``    the image with colours, outlines and names
``STEM_panoptic.png``   ids R + 256 * G + 256**2 * B, void = 0 (COCO)
``STEM_segments.json``  image, size and for each id its segment

Ids count the segments of an image from 1. Boxes are (x, y, width, height) in
pixels. A file is complete or not there at all.
"""
import json
import os
import os.path as osp
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
from mmdet.structures import DetDataSample

from mmengine_exact.errors import InputError

from ..coco_format.results import number_segments
from ..labels import LabelSpace, id_to_rgb
from ..visualization.colors import compact
from ..visualization.drawing import display_scale
from ..visualization.image_io import write_bytes, write_image
from ..visualization.samples import draw_prediction, panoptic_map, thing_scores

#: Suffixes of the files that a folder's images have.
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')

#: Overlays of smaller images are enlarged, so that names can be read.
OVERLAY_SIZE = 960


def panoptic_segments(
    panoptic: np.ndarray,
    space: LabelSpace,
    scores: Optional[Dict[int,
                          float]] = None) -> Tuple[np.ndarray, List[dict]]:
    """Ids 1 .. K of a panoptic map, and the segments they name.

    Args:
        panoptic (np.ndarray): Codes of shape (h, w), void = T + S.
        space (LabelSpace): The classes.
        scores (dict[int, float], optional): Score of things, by code.

    Returns:
        tuple[np.ndarray, list[dict]]: Ids of shape (h, w), 0 = void, and the
        segments: ``id``, ``category_id``, ``category_name``, ``isthing``,
        ``area`` (pixels), ``bbox`` and, for things, ``score`` (None where
        the model gave none).
    """
    ids, entries = number_segments(panoptic, space.void, space.category_ids)
    codes = [code for code in compact(panoptic)[1] if code != space.void]
    segments = []
    for code, entry in zip(codes, entries):
        category = space.categories[space.label(entry['category_id'])]
        segment = dict(
            id=entry['id'],
            category_id=category.id,
            category_name=category.name,
            isthing=int(category.isthing),
            area=entry['area'],
            bbox=[int(value) for value in entry['bbox']])
        if category.isthing:
            score = (scores or {}).get(int(code))
            segment['score'] = None if score is None else round(score, 4)
        segments.append(segment)
    return ids, segments


def result_map(sample: DetDataSample) -> np.ndarray:
    """The panoptic map of a result, codes of shape (h, w).

    Raises:
        InputError: The model gave none.
    """
    panoptic = panoptic_map(sample, 'pred_panoptic_seg')
    if panoptic is None:
        raise InputError('The model gives no panoptic map. Use a config '
                         'whose model merges its branches, such as one '
                         'below configs/coco/.')
    return panoptic


def describe_result(sample: DetDataSample,
                    space: LabelSpace,
                    source: Optional[str] = None) -> Tuple[np.ndarray, Dict]:
    """The panoptic map of a result in numbers and words.

    Args:
        sample (:obj:`DetDataSample`): With ``pred_panoptic_seg``.
        space (LabelSpace): The classes.
        source (str, optional): Name of the image; its ``img_path`` by
            default.

    Returns:
        tuple[np.ndarray, dict]: Ids of shape (h, w), 0 = void, and
        ``image``, ``height``, ``width`` and ``segments`` as
        :func:`panoptic_segments` gives them; fit for JSON.

    Raises:
        InputError: The model gave no panoptic map.
    """
    panoptic = result_map(sample)
    ids, segments = panoptic_segments(panoptic, space, thing_scores(sample))
    height, width = panoptic.shape
    return ids, dict(
        image=source or sample.metainfo.get('img_path'),
        height=height,
        width=width,
        segments=segments)


def draw_overlay(image: np.ndarray, sample: DetDataSample,
                 space: LabelSpace) -> np.ndarray:
    """The panoptic map over its image, RGB uint8 (s * h, s * w, 3).

    Args:
        image (np.ndarray): RGB uint8 of shape (h, w, 3); a small one is
            enlarged s times.
        sample (:obj:`DetDataSample`): With ``pred_panoptic_seg``.
        space (LabelSpace): The classes.

    Raises:
        InputError: The model gave no panoptic map.
    """
    result_map(sample)  # raises
    scale = display_scale(image.shape, OVERLAY_SIZE)
    picture = draw_prediction(image, sample, space, scale=scale)
    assert picture is not None  # there is a panoptic map
    return picture


def write_segments(ids: np.ndarray, description: Dict, out_dir: str,
                   stem: str) -> Dict[str, str]:
    """Write ``STEM_panoptic.png`` and ``STEM_segments.json``.

    Args:
        ids (np.ndarray): Of shape (h, w), see :func:`describe_result`.
        description (dict): Of the same function.
        out_dir (str): Folder; it is made.
        stem (str): First part of the names.

    Returns:
        dict[str, str]: Path of ``panoptic`` and ``segments``.
    """
    paths = dict(
        panoptic=osp.join(out_dir, f'{stem}_panoptic.png'),
        segments=osp.join(out_dir, f'{stem}_segments.json'))
    write_image(paths['panoptic'], id_to_rgb(ids))
    content = dict(description, panoptic=osp.basename(paths['panoptic']))
    content['segments'] = content.pop('segments')  # the long list last
    write_bytes(paths['segments'],
                json.dumps(content, indent=2, allow_nan=False).encode())
    return paths


def write_result(image: np.ndarray,
                 sample: DetDataSample,
                 space: LabelSpace,
                 out_dir: str,
                 stem: str,
                 source: Optional[str] = None) -> Dict[str, str]:
    """Write the three files of one image.

    Args:
        image (np.ndarray): RGB uint8 of shape (h, w, 3).
        sample, space, source: See :func:`describe_result`.
        out_dir (str): Folder; it is made.
        stem (str): First part of the names.

    Returns:
        dict[str, str]: Path of ``overlay``, ``panoptic`` and ``segments``.
    """
    path = osp.join(out_dir, f'{stem}_overlay.png')
    write_image(path, draw_overlay(image, sample, space))
    described = describe_result(sample, space, source)
    return dict(overlay=path, **write_segments(*described, out_dir, stem))


def find_images(paths: Sequence[str]) -> List[str]:
    """Files as they are given, and the images below folders, sorted.

    Results of an earlier run (``*_overlay.png``, ``*_panoptic.png``) in a
    folder are no images. A file that does not exist stays in the list: it
    becomes an error of its own, and the other images are still segmented.
    Each file occurs once.
    """
    found: Dict[str, None] = {}
    for path in paths:
        names = [path]
        if osp.isdir(path):
            names = sorted(
                osp.join(folder, name) for folder, _, files in os.walk(path)
                for name in files if name.lower().endswith(IMAGE_SUFFIXES) and
                not name.lower().endswith(('_overlay.png', '_panoptic.png')))
        found.update(dict.fromkeys(names))
    return list(found)


def unique_stems(paths: Sequence[str]) -> List[str]:
    """Stems of files, made different by a number where they are equal."""
    taken, stems = set(), []
    for path in paths:
        stem = candidate = Path(path).stem
        number = 2
        while candidate.lower() in taken:
            candidate, number = f'{stem}_{number}', number + 1
        taken.add(candidate.lower())
        stems.append(candidate)
    return stems
