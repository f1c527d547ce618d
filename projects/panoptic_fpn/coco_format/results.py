"""Results in COCO's panoptic format: a JSON and a folder of PNGs.

``PREFIX.panoptic.json``   dict(annotations=[dict(image_id, file_name,
                           segments_info=[dict(id, category_id, area, bbox,
                           iscrowd)])]), one entry for each image
``PREFIX.panoptic/NAME``   PNG of ids R + 256 * G + 256**2 * B, void = 0

Ids count the segments of an image from 1, so three bytes hold them.
Boxes are (x, y, width, height) in pixels. Every file is complete or not there.
"""
import json
import os.path as osp
from operator import index
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from mmengine_exact.errors import InputError
from mmengine_exact.files import write_bytes

from ..labels import INSTANCE_OFFSET
from ..ops.run_length import index_values, joint_runs, segment_boxes

ImageId = Union[int, str]


def plain_id(image_id: Any) -> ImageId:
    """Image id as int or str; numpy and torch scalars become int."""
    return image_id if isinstance(image_id, str) else index(image_id)


def write_result(path: Union[str, Path], content: bytes) -> None:
    """Write a file of results and its folder."""
    try:
        write_bytes(str(path), content)
    except OSError as error:
        raise InputError(
            f'{path} could not be written ({error}). Make room, or check the '
            'folder that outfile_prefix names.') from None


def write_image(path: Union[str, Path], image: np.ndarray) -> None:
    """Write a PNG of uint8 (h, w), or RGB (h, w, 3)."""
    if image.ndim == 3:
        image = image[..., ::-1]
    write_result(path, cv2.imencode('.png', image)[1].tobytes())


def file_part(image_id: Any) -> ImageId:
    """Image id as part of file names, which must not lead into another
    folder."""
    image_id = plain_id(image_id)
    if set(str(image_id)) & set('/\\\0'):
        raise InputError(
            f'image id {image_id!r}: files of results are named after it, so '
            'it must not contain a slash, a backslash or a null character. '
            'Rename it in the annotation.')
    return image_id


def png_name(sample: Dict, template: Optional[str] = None) -> str:
    """Name of an image's PNG: its annotation's, or else the image's stem.

    Args:
        sample (dict): Data sample with ``img_path`` and, where the image is
            annotated, ``seg_map_path``; or with ``img_id``.
        template (str, optional): The name instead, with '{img_id}' in it.
    """
    if template is not None:
        return template.format(img_id=file_part(sample['img_id']))
    if sample.get('seg_map_path'):
        return Path(sample['seg_map_path']).name
    return Path(sample['img_path']).stem + '.png'


def png_names(samples: Sequence[Dict],
              template: Optional[str] = None) -> Dict[ImageId, str]:
    """Name of each image's PNG, see :func:`png_name`; where two are alike, all
    follow their folders below the one that holds all.

    Raises:
        InputError: Two images share a name all the same.
    """
    ids = [plain_id(sample['img_id']) for sample in samples]
    names = [png_name(sample, template) for sample in samples]
    if len(set(names)) < len(names):
        folders = [
            osp.dirname(osp.abspath(s.get('seg_map_path') or s['img_path']))
            for s in samples
        ]
        root = osp.commonpath(folders)
        names = [(Path(folder).relative_to(root) / name).as_posix()
                 for folder, name in zip(folders, names)]
    require_different(zip(ids, names))
    return dict(zip(ids, names))


def require_different(names: Iterable[Tuple[ImageId, str]]) -> None:
    """Raise an InputError where two images share the name of a PNG."""
    image_of: Dict[str, ImageId] = {}
    for image_id, name in names:
        other = image_of.setdefault(name, image_id)
        if other != image_id:
            raise InputError(
                f'Results of the images {other!r} and {image_id!r} would '
                f'share the name {name}. Give them different file names.')


def number_segments(pred: np.ndarray, void: int,
                    category_ids: Sequence[int]) -> Tuple[np.ndarray, List]:
    """Segment ids (h, w), 0 = void, and ``segments_info`` of a panoptic map.

    Args:
        pred (np.ndarray): (h, w) of ``label + 1000 * number``.
        void (int): Label of void pixels.
        category_ids (Sequence[int]): Category id of each label.
    """
    codes, areas, boxes = segment_boxes(pred)
    labels = codes % INSTANCE_OFFSET
    painted = labels != void
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


def write_json(annotations: List[Dict], prefix: str) -> str:
    """Write the JSON of all images; return its path.

    Raises:
        InputError: Two images share the name of a PNG.
    """
    require_different((e['image_id'], e['file_name']) for e in annotations)
    path = f'{prefix}.panoptic.json'
    write_result(path, json.dumps(dict(annotations=annotations)).encode())
    return path
