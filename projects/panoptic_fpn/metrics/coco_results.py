"""The COCO panoptic result format: a JSON and a folder of PNGs.

``PREFIX.panoptic.json``   dict(annotations=[dict(image_id, file_name,
                           segments_info=[dict(id, category_id, area, bbox,
                           iscrowd)])]), one entry for each image
``PREFIX.panoptic/NAME``   PNG of ids R + 256 * G + 256**2 * B, void = 0

Ids count the segments of an image from 1, so three bytes hold them.
Boxes are (x, y, width, height) in pixels.
"""
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from mmengine_exact.errors import InputError

from ..labels import id_to_rgb
from ..ops.run_length import index_values, joint_runs, segment_boxes
from .per_image import check_labels, labels_of_codes
from .result_files import file_part, write_image, write_result


def png_name(sample: Dict, template: Optional[str] = None) -> str:
    """Name of an image's PNG: its annotation's, or else by the image's stem.

    Args:
        sample (dict): Data sample with ``img_path`` and, where the image is
            annotated, ``seg_map_path``; or with ``img_id``.
        template (str, optional): The name instead, with '{img_id}' in it.
    """
    if template is not None:
        return template.format(img_id=file_part(sample['img_id']))
    annotated = sample.get('seg_map_path')
    if annotated:
        return Path(annotated).name
    return Path(sample['img_path']).stem + '.png'


def number_segments(pred: np.ndarray, void: int,
                    category_ids: Sequence[int]) -> Tuple[np.ndarray, List]:
    """Segment ids and JSON entries of a panoptic map.

    Args:
        pred (np.ndarray): (h, w) of ``label + 1000 * number``.
        void (int): Label of void pixels.
        category_ids (Sequence[int]): Category id of each label.

    Returns:
        tuple[np.ndarray, list[dict]]: Ids (h, w), 0 = void, and
        ``segments_info``.

    Raises:
        CodeError: A label is neither void nor one of the classes.
    """
    codes, areas, boxes = segment_boxes(pred)
    labels = labels_of_codes(codes)
    painted = labels != void
    check_labels(codes, len(category_ids), void)
    ids = np.where(painted, np.cumsum(painted), 0)
    segments = [
        dict(
            id=int(ids[i]),
            category_id=int(category_ids[labels[i]]),
            area=int(areas[i]),
            bbox=boxes[i].tolist(),
            iscrowd=0) for i in np.flatnonzero(painted)
    ]
    (values, ), lengths = joint_runs(pred)
    id_map = np.repeat(ids[index_values(values)[1]], lengths)
    return id_map.reshape(pred.shape), segments


def write_png(sample: Dict,
              pred: np.ndarray,
              void: int,
              category_ids: Sequence[int],
              prefix: str,
              template: Optional[str] = None) -> Dict:
    """Write the PNG of one image.

    Args:
        sample (dict): Data sample, for the names.
        pred (np.ndarray): (h, w) of ``label + 1000 * number``.
        void (int): Label of void pixels.
        category_ids (Sequence[int]): Category id of each label.
        prefix (str): Folder and first part of the names of all files.
        template (str, optional): See :func:`png_name`.

    Returns:
        dict: The entry of the JSON, without ``image_id``.

    Raises:
        InputError: The file cannot be written.
        CodeError: A label is neither void nor one of the classes.
    """
    ids, segments = number_segments(pred, void, category_ids)
    name = png_name(sample, template)
    write_image(Path(f'{prefix}.panoptic') / name, id_to_rgb(ids))
    return dict(file_name=name, segments_info=segments)


def write_json(annotations: List[Dict], prefix: str) -> str:
    """Write the JSON of all images.

    Args:
        annotations (list[dict]): One entry for each image.
        prefix (str): Folder and first part of the names of all files.

    Returns:
        str: Path of the file.

    Raises:
        InputError: Two images share the name of a PNG, or the file cannot
            be written.
    """
    image_of: Dict[str, Any] = {}
    for entry in annotations:
        name = entry['file_name']
        other = image_of.setdefault(name, entry['image_id'])
        if other != entry['image_id']:
            raise InputError(
                f'{prefix}.panoptic/{name}: images {other!r} and '
                f'{entry["image_id"]!r} share this name, so one PNG replaced '
                'the other. Give images in different folders different names.')
    path = f'{prefix}.panoptic.json'
    write_result(path, json.dumps(dict(annotations=annotations)).encode())
    return path
