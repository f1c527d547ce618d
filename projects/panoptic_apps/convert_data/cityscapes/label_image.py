"""One label image: its segments, and its panoptic PNG.

In    *_gtFine_instanceIds.png, 16 bit grey (h, w), values as in
      :mod:`panoptic_fpn.cityscapes`
Out   ``segments_info`` of COCO panoptic JSON, boxes (x, y, w, h) in pixels
"""
import os
from typing import Dict, List, Tuple

import cv2
import numpy as np

from mmengine_exact.errors import CorruptFileError, InputError
from mmengine_exact.files import read_bytes
from panoptic_fpn.cityscapes import split_values
from panoptic_fpn.ops.decode import decode_map, try_decode
from panoptic_fpn.ops.run_length import segment_boxes

from .png_header import read_header


def file_stamp(path: str) -> List[int]:
    """Size in bytes and time of the last change in nanoseconds.

    Raises:
        CorruptFileError: There is no such file (any more).
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise CorruptFileError(f'{path}: cannot read the label image '
                               f'({error.strerror}). Restore it.') from None
    return [status.st_size, status.st_mtime_ns]


def read_label_image(path: str, size: Tuple[int, int]) -> np.ndarray:
    """Read a label image.

    Args:
        path (str): The file.
        size (tuple[int, int]): (h, w) of its image.

    Returns:
        np.ndarray: uint16 (h, w).

    Raises:
        CorruptFileError: It cannot be read or decoded.
        InputError: It is not 16 bit grey or has not that size.
    """
    header = read_header(path, 'label image')
    if not header.gray16:
        raise InputError(
            f'{path}: {header}, but *_gtFine_instanceIds.png are 16 bit grey. '
            'Restore the official file; labelIds, labelTrainIds and color '
            'tell no instances apart.')
    if (header.height, header.width) != size:
        raise InputError(
            f'{path}: {header.height} x {header.width} (h x w), but its image '
            f'is {size[0]} x {size[1]}. Scale both alike (labels without '
            'interpolation) or restore them.')
    values, why = try_decode(decode_map,
                             read_bytes(path, 'label image', None))
    if values is None or values.shape != size or values.dtype != np.uint16:
        raise CorruptFileError(f'{path}: the PNG is damaged ({why}). Restore '
                               'the label image.')
    return values


def describe_segments(values: np.ndarray, path: str) -> Dict:
    """Segments of a label image.

    Args:
        values (np.ndarray): (h, w).
        path (str): Its file, for the error.

    Returns:
        dict: ``segments_info`` by ascending value, ``void_ids`` and
        ``ignored_ids``.

    Raises:
        InputError: A value that stands for nothing.
    """
    found, areas, boxes = segment_boxes(values)
    found = found.tolist()
    try:
        segments, void, ignored = split_values(found)
    except InputError as error:
        raise InputError(f'{path}: {error}') from None
    info = []
    for value, area, box in zip(found, areas.tolist(), boxes.tolist()):
        if value in segments:
            meaning = segments[value]
            info.append(
                dict(
                    id=value,
                    category_id=meaning.category_id,
                    area=area,
                    bbox=box,
                    iscrowd=int(meaning.crowd)))
    return dict(segments_info=info, void_ids=void, ignored_ids=ignored)


def panoptic_png(values: np.ndarray, keep: List[int]) -> bytes:
    """COCO panoptic PNG of a label image.

    Args:
        values (np.ndarray): uint16 (h, w).
        keep (list[int]): Values that are segments; others become black.

    Returns:
        bytes: RGB PNG of ids R + 256 G + 256^2 B.
    """
    kept = np.zeros(1 << 16, np.uint16)
    kept[keep] = keep
    # Two little-endian bytes of an id are R and G; OpenCV wants B, G, R. Not
    # id_to_rgb, which is for three bytes: 41 ms instead of 18 for an image.
    ids = np.ascontiguousarray(kept[values], dtype='<u2')
    bytes_ = ids.view(np.uint8).reshape(*ids.shape, 2)
    bgr = np.zeros((*ids.shape, 3), np.uint8)
    bgr[..., 2], bgr[..., 1] = bytes_[..., 0], bytes_[..., 1]
    return cv2.imencode('.png', bgr)[1].tobytes()
