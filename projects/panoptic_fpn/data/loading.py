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

from mmengine_exact.errors import CorruptFileError, InputError
from mmengine_exact.files import read_bytes

from ..labels import MAX_SEGMENT_ID
from ..ops.decode import (DecodeError, claimed_size, decode_image,
                          decode_indices, decode_map, find_fault, try_decode)
from ..ops.runs import run_starts

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
        CorruptFileError: The image is missing, cannot be decoded, is cut
            off, claims too many pixels, or its size is not the one in the
            JSON.
    """

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        img_bytes = read_bytes(path, 'image', self.backend_args)
        expected = (results.get('height'), results.get('width'))
        claimed = claimed_size(img_bytes)
        # of which an orientation tag may swap the sides
        if claimed is not None and expected[::-1] != claimed:
            self._check_size(path, claimed, expected)
        img, why = try_decode(self._decode, img_bytes)
        if img is None:
            raise CorruptFileError(
                f'{path}: {len(img_bytes)} bytes that are not a readable '
                f'image ({why}). Copy the file again or remove it from the '
                'JSON.')
        self._check_size(path, img.shape[:2], expected)
        if self.to_float32:
            img = img.astype(np.float32)
        results['img'] = img
        results['img_shape'] = img.shape[:2]
        results['ori_shape'] = img.shape[:2]
        return results

    def _decode(self, content: bytes) -> Optional[np.ndarray]:
        if (self.color_type, self.imdecode_backend) == ('color', 'cv2'):
            return decode_image(content)
        fault = find_fault(content)
        if fault is not None:
            raise DecodeError(fault)
        return mmcv.imfrombytes(
            content, flag=self.color_type, backend=self.imdecode_backend)

    @staticmethod
    def _check_size(path: str, found: Tuple[int, int],
                    expected: Tuple[Optional[int], Optional[int]]) -> None:
        if None not in expected and found != expected:
            raise CorruptFileError(
                f'{path}: the image is {found} (h, w), the JSON says '
                f'{expected}. Correct height and width in the JSON, or strip '
                'the orientation tag of the photograph.')


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
        InputError: The image was flipped before.
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
            raise InputError(
                f'{path}: its image is flipped already. Put LoadPanopticMap '
                'before RandomFlip.')
        class_map = results.get('class_map', False)
        pixels = self._read(path, results, class_map)
        self._check_size(pixels.shape[:2], results)
        gray = results.get('void_ids') is not None
        self._check_format(pixels, path, gray, class_map)
        results['gt_seg_map'] = self._index_map(pixels, results)
        return results

    def _index_map(self, pixels: np.ndarray, results: dict) -> np.ndarray:
        """Map (h, w) of pixels of a known format: ids are looked up run by
        run."""
        class_map = results.get('class_map', False)
        id_map = pixels.reshape(-1) if pixels.ndim == 2 else _rgb_to_id(pixels)
        starts = run_starts(id_map)
        lengths = np.diff(starts, append=id_map.size)
        run_ids = id_map[starts]
        if pixels.ndim == 3:
            run_ids &= MAX_SEGMENT_ID
        if class_map:
            present = set(np.unique(run_ids).tolist())
            results['segments_info'] = [
                s for s in results['segments_info'] if s['id'] in present
            ]
        ids = [segment['id'] for segment in results['segments_info']]
        ids += results.get('ignored_ids', [])
        run_values = self._values_of(run_ids, ids)
        self._check_ids(run_ids, run_values,
                        lengths, ids, results['seg_map_path'],
                        results.get('void_ids'), class_map)
        return np.repeat(run_values.astype(_map_dtype(len(ids))),
                         lengths).reshape(pixels.shape[:2])

    def _read(self, path: str, results: dict, class_map: bool) -> np.ndarray:
        """Pixels (h, w) or (h, w, channels), RGB."""
        png = read_bytes(path, 'panoptic PNG', self.backend_args)
        claimed = claimed_size(png)
        if claimed is not None and claimed[::-1] != tuple(
                results['ori_shape'][:2]):
            self._check_size(claimed, results)
        pixels, why = try_decode(
            decode_indices if class_map else decode_map, png)
        if pixels is None:
            raise CorruptFileError(
                f'{path}: {len(png)} bytes that are not a readable PNG '
                f'({why}). Export it again or remove its annotation.')
        return np.ascontiguousarray(pixels)

    @staticmethod
    def _check_size(found: Tuple[int, int], results: dict) -> None:
        expected = tuple(results['ori_shape'][:2])
        if found != expected:
            raise CorruptFileError(
                f'{results["seg_map_path"]}: the PNG is {found} (h, w), its '
                f'image {results["img_path"]} is {expected}. Export the PNG '
                'at the size of the image.')

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

    def _values_of(self, run_ids: np.ndarray, ids: List[int]) -> np.ndarray:
        """Value in the map of each of ``run_ids``, 0 where not in ``ids``."""
        if self._values is None:
            self._values = np.zeros(MAX_SEGMENT_ID + 1, np.uint16)
        self._values[ids] = segment_values(len(ids))
        values = self._values[run_ids]
        self._values[ids] = 0
        return values

    @staticmethod
    def _check_ids(run_ids: np.ndarray, run_values: np.ndarray,
                   lengths: np.ndarray, ids: List[int], path: str,
                   void_ids: Optional[List[int]], class_map: bool) -> None:
        prepared = void_ids is not None
        unknown = run_values == 0
        unknown &= ~np.isin(run_ids, [0] if void_ids is None else void_ids)
        if unknown.any():
            what, remedy = 'segment', _PREPARE_AGAIN if prepared else (
                'Add the segments to segments_info or make the pixels black '
                '(void).')
            if class_map:
                what, remedy = 'category', _NO_CLASS
            raise CorruptFileError(
                f'{path}: {lengths[unknown].sum()} pixels have {what} ids '
                'that the JSON does not list: '
                f'{np.unique(run_ids[unknown])[:5].tolist()}. {remedy}')
        values = segment_values(len(ids))
        runs = np.bincount(
            run_values, minlength=int(values.max(initial=0)) + 1)
        missing = [i for i, n in zip(ids, runs[values]) if n == 0]
        if missing:
            remedy = (
                _PREPARE_AGAIN
                if prepared else 'Remove them from segments_info.')
            raise CorruptFileError(
                f'{path}: the JSON lists segments without a pixel in the PNG: '
                f'ids {missing[:5]}. {remedy}')


def _rgb_to_id(pixels: np.ndarray) -> np.ndarray:
    """uint32 (h * w, ) of RGB pixels (h, w, 3); 255 in the highest byte."""
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA).view('<u4').reshape(-1)


def _map_dtype(num_segments: int) -> type:
    """uint8 where it holds all values: the geometry is faster on it."""
    return np.uint8 if num_segments < PADDING else np.uint16
