"""Loading: an image, and its panoptic annotation as one integer map.

The map, ``gt_seg_map`` (h, w), holds for each pixel which entry of
``segments_info`` (and after them of ``ignored_ids``) it belongs to
(:func:`segment_values`), 0 where void. It travels through the geometry under
the name that mmcv's and mmdet's transforms resize, flip and crop with nearest
neighbour and pad with 255; so 255 names no segment and counts as void.
"""
from typing import List, Optional, Tuple

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmdet.registry import TRANSFORMS

from ..errors import CorruptFileError, PanopticError
from ..files import read_bytes
from ..labels import MAX_SEGMENT_ID, rgb_to_id

#: Of label images that a converter has read, such as Cityscapes'.
_PREPARE_AGAIN = ('The file has changed since the data set was prepared: '
                  'run its converter again.')
_NO_CLASS = ('Add these classes to "categories" of the JSON, or the values to '
             'void_ids of the data set.')

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
    """Read a panoptic PNG to a map of indices into ``segments_info``.

    The PNG is COCO's (8-bit RGB, id = R + 256 G + 256^2 B, 0 = void); or,
    where the annotation lists ``void_ids``, it has one channel of 8 or 16
    bits that holds the ids themselves, such as Cityscapes' own
    ``*_instanceIds.png``. With ``class_map`` these ids are classes, of which
    any may be absent, and a palette is passed over (COCO-Stuff's pixel maps
    have one). In a training pipeline it comes before the geometry, in a test
    pipeline after it: ground truth is evaluated at the original size.

    Required Keys: seg_map_path, segments_info (both None: no annotation,
    nothing is done), ori_shape; void_ids, ignored_ids, class_map (optional)

    Modified Keys: segments_info (with ``class_map``: without absent classes)

    Added Keys: gt_seg_map

    Args:
        backend_args (dict, optional): Of mmengine's fileio.

    Raises:
        CorruptFileError: The PNG is missing, cannot be decoded, has another
            format, or disagrees with JSON or image in its size or ids.
        PanopticError: The image was flipped before.
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
        if results.get('flip'):
            raise PanopticError(
                f'{path}: its image is flipped already. Put LoadPanopticMap '
                'before RandomFlip.')
        class_map = results.get('class_map', False)
        pixels = self._read(path, class_map)
        if pixels.shape[:2] != tuple(results['ori_shape'][:2]):
            raise CorruptFileError(
                f'{path}: the PNG is {pixels.shape[:2]} (h, w), its image '
                f'{results["img_path"]} is {tuple(results["ori_shape"][:2])}. '
                'Export the PNG at the size of the image.')
        void_ids = results.get('void_ids')
        self._check_format(pixels, path, void_ids is not None, class_map)
        if class_map:
            results['segments_info'] = _present(results['segments_info'],
                                                pixels)
        ids = [segment['id'] for segment in results['segments_info']]
        ids += results.get('ignored_ids', [])
        if void_ids is None:
            indices, unknown = self._rgb_indices(pixels, ids)
        else:
            indices, unknown = self._gray_indices(pixels, ids, void_ids)
        self._check_ids(indices, unknown, ids, path, void_ids is not None,
                        class_map)
        results['gt_seg_map'] = indices
        return results

    def _read(self, path: str, class_map: bool) -> np.ndarray:
        """Pixels (h, w) or (h, w, channels), channels as OpenCV orders."""
        png = read_bytes(path, 'panoptic PNG', self.backend_args)
        # OpenCV turns the indices of a palette into colours
        backend = 'pillow' if class_map else 'cv2'
        try:
            pixels = mmcv.imfrombytes(png, flag='unchanged', backend=backend)
        except (cv2.error, OSError, SyntaxError, ValueError):
            pixels = None
        if pixels is None:
            raise CorruptFileError(
                f'{path}: {len(png)} bytes that are not a readable PNG. '
                'Export it again or remove its annotation.')
        return pixels

    @staticmethod
    def _check_format(pixels: np.ndarray, path: str, gray: bool,
                      class_map: bool) -> None:
        if gray:
            if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
                wanted = ('a map of classes has' if class_map else
                          'its annotation lists void_ids, which go with')
                raise CorruptFileError(
                    f'{path}: shape {pixels.shape} of {pixels.dtype}; '
                    f'{wanted} one channel of 8 or 16 bits. Restore the '
                    'original label image.')
        elif (pixels.dtype != np.uint8 or pixels.ndim != 3
              or pixels.shape[2] != 3):
            raise CorruptFileError(
                f'{path}: shape {pixels.shape} of {pixels.dtype}; a panoptic '
                'PNG is 8-bit RGB with id = R + 256 G + 256^2 B. Export it '
                'so.')

    def _rgb_indices(self, bgr: np.ndarray,
                     ids: List[int]) -> Tuple[np.ndarray, np.ndarray]:
        """Map of a COCO PNG, and the ids of pixels that no segment has."""
        if self._values is None:
            self._values = np.zeros(MAX_SEGMENT_ID + 1, np.uint16)
        id_map = rgb_to_id(bgr[..., ::-1])
        self._values[ids] = segment_values(len(ids))
        indices = self._values[id_map]
        self._values[ids] = 0
        if np.count_nonzero(indices == 0) == np.count_nonzero(id_map == 0):
            unknown = id_map[:0, 0]
        else:
            unknown = id_map[(indices == 0) & (id_map != 0)]
        return indices.astype(_map_dtype(len(ids))), unknown

    @staticmethod
    def _gray_indices(id_map: np.ndarray, ids: List[int],
                      void_ids: List[int]) -> Tuple[np.ndarray, np.ndarray]:
        """Map of a PNG that holds ids, and those that no segment has."""
        dtype = _map_dtype(len(ids))
        values = np.full(np.iinfo(id_map.dtype).max + 1, PADDING, dtype)
        values[[i for i in void_ids if i < len(values)]] = 0
        for segment_id, value in zip(ids, segment_values(len(ids))):
            # an 8-bit PNG has none of the higher ids: found missing later
            if segment_id < len(values):
                values[segment_id] = value
        indices = np.take(values, id_map)
        return indices, id_map[indices == PADDING]

    @staticmethod
    def _check_ids(indices: np.ndarray, unknown: np.ndarray, ids: List[int],
                   path: str, prepared: bool, class_map: bool) -> None:
        if unknown.size:
            what, remedy = 'segment', _PREPARE_AGAIN if prepared else (
                'Add the segments to segments_info or make the pixels black '
                '(void).')
            if class_map:
                what, remedy = 'category', _NO_CLASS
            raise CorruptFileError(
                f'{path}: {unknown.size} pixels have {what} ids that the '
                f'JSON does not list: {np.unique(unknown)[:5].tolist()}. '
                f'{remedy}')
        values = segment_values(len(ids))
        areas = np.bincount(
            indices.ravel(), minlength=int(values.max(initial=0)) + 1)
        missing = [i for i, v in zip(ids, values) if areas[v] == 0]
        if missing:
            remedy = (
                _PREPARE_AGAIN
                if prepared else 'Remove them from segments_info.')
            raise CorruptFileError(
                f'{path}: the JSON lists segments without a pixel in the PNG: '
                f'ids {missing[:5]}. {remedy}')


def _present(segments: List[dict], pixels: np.ndarray) -> List[dict]:
    """Those segments whose id occurs among pixels of 8 or 16 bits."""
    areas = np.bincount(pixels.ravel())
    return [s for s in segments if s['id'] < len(areas) and areas[s['id']]]


def _map_dtype(num_segments: int) -> type:
    """uint8 where it holds all values: the geometry is faster on it."""
    return np.uint8 if num_segments < PADDING else np.int32
