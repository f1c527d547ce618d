"""Loading: an image, and its panoptic annotation as one integer map.

The map, ``gt_seg_map`` (h, w), holds for each pixel which entry of
``segments_info`` it belongs to (:func:`segment_values`), 0 where void. It
travels through the geometry under the name that mmcv's and mmdet's
transforms resize, flip and crop with nearest neighbour and pad with 255; so
255 names no segment and counts as void.
"""
from typing import Optional

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmdet.registry import TRANSFORMS

from ..errors import CorruptFileError
from ..files import read_bytes
from ..labels import MAX_SEGMENT_ID, rgb_to_id

#: What mmcv and mmdet pad a segmentation map with; never a segment.
PADDING = 255


def segment_values(num_segments: int) -> np.ndarray:
    """Values in the map of the entries of ``segments_info``.

    Returns:
        np.ndarray: int64 (num_segments, ): 1, 2, ... without 255.
    """
    values = np.arange(1, num_segments + 1)
    return values + (values >= PADDING)


@TRANSFORMS.register_module()
class LoadPanopticImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` with errors that name file and fix.

    Required Keys: img_path, height, width (optional)

    Added Keys: img, img_shape, ori_shape

    Raises:
        CorruptFileError: The image is missing, cannot be decoded, or its
            size is not the one in the JSON.
    """

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        img_bytes = read_bytes(path, 'image', self.backend_args)
        try:
            img = mmcv.imfrombytes(
                img_bytes, flag=self.color_type, backend=self.imdecode_backend)
        except (cv2.error, OSError, ValueError):
            img = None
        if img is None:
            raise CorruptFileError(
                f'{path}: {len(img_bytes)} bytes that are not a readable '
                'image. Copy the file again or remove it from the JSON.')
        expected = (results.get('height'), results.get('width'))
        if None not in expected and img.shape[:2] != expected:
            raise CorruptFileError(
                f'{path}: the image is {img.shape[:2]} (h, w), the JSON says '
                f'{expected}. Correct height and width in the JSON, or strip '
                'the orientation tag of the photograph.')
        if self.to_float32:
            img = img.astype(np.float32)
        results['img'] = img
        results['img_shape'] = img.shape[:2]
        results['ori_shape'] = img.shape[:2]
        return results


@TRANSFORMS.register_module()
class LoadPanopticMap(BaseTransform):
    """Read a COCO panoptic PNG to a map of indices into ``segments_info``.

    In a training pipeline it comes before the geometry, in a test pipeline
    after it: ground truth is evaluated at the original size.

    Required Keys: seg_map_path, segments_info (both None: no annotation,
    nothing is done), ori_shape

    Added Keys: gt_seg_map

    Args:
        backend_args (dict, optional): Of mmengine's fileio.

    Raises:
        CorruptFileError: The PNG is missing, cannot be decoded, is not 8-bit
            RGB, or disagrees with JSON or image in its size or segment ids.
    """

    def __init__(self, backend_args: Optional[dict] = None) -> None:
        self.backend_args = backend_args
        # Value of every possible id; zero except during a call. 32 MiB, of
        # which only the touched pages ever exist.
        self._values: Optional[np.ndarray] = None

    def __getstate__(self) -> dict:
        return dict(self.__dict__, _values=None)

    def transform(self, results: dict) -> dict:
        path = results.get('seg_map_path')
        if path is None:
            return results
        rgb = self._read(path)
        if rgb.shape[:2] != tuple(results['ori_shape'][:2]):
            raise CorruptFileError(
                f'{path}: the PNG is {rgb.shape[:2]} (h, w), its image '
                f'{results["img_path"]} is {tuple(results["ori_shape"][:2])}. '
                'Export the PNG at the size of the image.')
        results['gt_seg_map'] = self._to_indices(
            rgb_to_id(rgb), [s['id'] for s in results['segments_info']], path)
        return results

    def _read(self, path: str) -> np.ndarray:
        png = read_bytes(path, 'panoptic PNG', self.backend_args)
        try:
            bgr = cv2.imdecode(
                np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            bgr = None
        if bgr is None:
            raise CorruptFileError(
                f'{path}: {len(png)} bytes that are not a readable PNG. '
                'Export it again or remove its annotation.')
        if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3:
            raise CorruptFileError(
                f'{path}: shape {bgr.shape} of {bgr.dtype}; a panoptic PNG is '
                '8-bit RGB with id = R + 256 G + 256^2 B. Export it so.')
        return bgr[..., ::-1]

    def _to_indices(self, id_map: np.ndarray, ids: list,
                    path: str) -> np.ndarray:
        if self._values is None:
            self._values = np.zeros(MAX_SEGMENT_ID + 1, np.uint16)
        values = segment_values(len(ids))
        self._values[ids] = values
        indices = self._values[id_map]
        self._values[ids] = 0
        areas = np.bincount(indices.ravel(), minlength=PADDING + 1)
        unknown = areas[0] - np.count_nonzero(id_map == 0)
        if unknown:
            found = np.unique(id_map[(indices == 0) & (id_map != 0)])
            raise CorruptFileError(
                f'{path}: {unknown} pixels have segment ids that the JSON '
                f'does not list: {found[:5].tolist()}. Add the segments to '
                'segments_info or make the pixels black (void).')
        areas = np.append(areas, np.zeros(len(ids) + 1, areas.dtype))
        missing = [i for i, v in zip(ids, values) if areas[v] == 0]
        if missing:
            raise CorruptFileError(
                f'{path}: the JSON lists segments without a pixel in the PNG: '
                f'ids {missing[:5]}. Remove them from segments_info.')
        if len(ids) < PADDING:
            return indices.astype(np.uint8)
        return indices.astype(np.int32)
