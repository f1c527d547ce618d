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
from typing import Dict, List, Optional, Sequence, Set, Tuple

import numpy as np
from mmdet.structures import DetDataSample

from ..coco_format.results import number_segments
from ..labels import LabelSpace, id_to_rgb
from ..ops.run_length import index_map
from ..visualization.image_io import free_stem, write_bytes, write_image
from ..visualization.samples import panoptic_map, thing_scores
from ..visualization.video import VIDEO_SUFFIXES

#: Suffixes of the images of a folder.
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
_RESULTS = ('_overlay.png', '_overlay.mp4', '_panoptic.png')


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
        tuple[np.ndarray, dict]: Ids 1 .. K of shape (h, w), 0 = void; and,
        fit for JSON, ``image``, ``height``, ``width`` and ``segments``: for
        each ``id``, ``category_id``, ``category_name``, ``isthing``, ``area``
        (pixels), ``bbox`` and, for things, ``score`` (None where the model
        gave none).
    """
    panoptic, scores = panoptic_map(sample), thing_scores(sample)
    ids, entries = number_segments(panoptic, space.void, space.category_ids)
    codes = index_map(panoptic)[0]
    segments = []
    for code, entry in zip(codes[codes != space.void].tolist(), entries):
        category = space.categories[space.label(entry['category_id'])]
        segment = dict(
            id=entry['id'],
            category_id=category.id,
            category_name=category.name,
            isthing=int(category.isthing),
            area=entry['area'],
            bbox=entry['bbox'])
        if category.isthing:
            score = scores.get(code)
            segment['score'] = None if score is None else round(score, 4)
        segments.append(segment)
    height, width = panoptic.shape
    return ids, dict(
        image=source or sample.metainfo.get('img_path'),
        height=height,
        width=width,
        segments=segments)


def write_segments(ids: np.ndarray, description: Dict, out_dir: str,
                   stem: str) -> Dict[str, str]:
    """Write ``STEM_panoptic.png`` and ``STEM_segments.json``.

    Args:
        ids, description: See :func:`describe_result`.
        out_dir (str): Folder; created where missing.
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


def find_images(paths: Sequence[str]) -> List[str]:
    """Files as they are given, and images and videos below folders, sorted.

    Results of an earlier run in a folder (``*_overlay.*``, ``*_panoptic.png``)
    and hidden files are neither. A file that does not exist stays in the list:
    it becomes an error of its own, and the other images are still segmented.
    Each file occurs once.
    """
    found: Dict[str, None] = {}
    for path in paths:
        names = [path]
        if osp.isdir(path):
            names = sorted(
                osp.join(folder, name) for folder, _, files in os.walk(path)
                for name in files
                if name.lower().endswith(IMAGE_SUFFIXES + VIDEO_SUFFIXES)
                and not name.lower().endswith(_RESULTS)
                and '/.' not in f'{folder[len(path):]}/{name}')
        found.update(dict.fromkeys(names))
    return list(found)


def unique_stems(paths: Sequence[str]) -> List[str]:
    """Stems of files, made different by a number where they are equal."""
    taken: Set[str] = set()
    return [free_stem(path, taken) for path in paths]
