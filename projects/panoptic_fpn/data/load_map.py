"""From the files to an image, and its panoptic annotation as one integer map.

The map, ``gt_seg_map`` (h, w), holds for each pixel which entry of
``segments_info`` (and after them of ``ignored_ids``) it belongs to
(:func:`segment_values`), 0 where void. It travels through the geometry under
the name that mmcv's and mmdet's transforms resize, flip and crop with nearest
neighbour and pad with 255; so 255 names no segment and counts as void.
"""
from typing import Any, Callable, List, Optional, Tuple

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmdet.registry import TRANSFORMS

from mmengine_exact.errors import CorruptFileError, InputError
from mmengine_exact.files import read_bytes

from ..coco_format import KINDS
from ..labels import MAX_SEGMENT_ID
from ..ops.decode import (DecodeError, claimed_size, decode_image, decode_map,
                          find_fault, try_decode)
from ..ops.run_length import run_starts

#: What mmcv and mmdet pad a segmentation map with; never a segment.
PADDING = 255


def segment_values(num_segments: int) -> np.ndarray:
    """Values in the map of the entries of ``segments_info``: 1, 2, ... without
    255, int64 (num_segments, )."""
    values = np.arange(1, num_segments + 1)
    return values + (values >= PADDING)


def read_pixels(path: str, what: str, decode: Callable[[bytes], np.ndarray],
                backend_args: Optional[dict], size: Tuple[Any, Any],
                mismatch: str) -> np.ndarray:
    """Pixels of a file.

    Args:
        path (str): The file.
        what (str): What it is, for errors.
        decode (Callable): See ``ops.decode``.
        backend_args (dict, optional): Arguments of mmengine's fileio.
        size (tuple): (h, w) that it must have, None where any will do.
        mismatch (str): Rest of the error where it has another size.

    Raises:
        CorruptFileError: It is missing, cannot be decoded, is cut off, claims
            too many pixels, or has another size.
    """
    content = read_bytes(path, what, backend_args)

    def check_size(*found: Tuple[int, int]) -> None:
        if None not in size and tuple(size) not in found:
            raise CorruptFileError(
                f'{path}: the {what} is {found[0]} (h, w), {mismatch}')

    claimed = claimed_size(content)
    if claimed is not None:  # an orientation tag may swap the sides
        check_size(claimed, claimed[::-1])
    pixels, why = try_decode(decode, content)
    if pixels is None:
        raise CorruptFileError(
            f'{path}: {len(content)} bytes that are not a readable {what} '
            f'({why}). Copy or export it again, or remove it from the JSON.')
    check_size(pixels.shape[:2])
    return pixels


@TRANSFORMS.register_module()
class LoadPanopticImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` with errors that name file and fix.

    Required Keys: img_path, height, width (optional)

    Added Keys: img, img_shape, ori_shape

    Raises:
        CorruptFileError: See :func:`read_pixels`.
    """

    def transform(self, results: dict) -> dict:
        size = results.get('height'), results.get('width')
        img = read_pixels(
            results['img_path'], 'image', self._decode, self.backend_args,
            size, f'the JSON says {size}. Correct height and width in the '
            'JSON, or strip the orientation tag of the photograph.')
        if self.to_float32:
            img = img.astype(np.float32)
        results['img'] = img
        results['img_shape'] = results['ori_shape'] = img.shape[:2]
        return results

    def _decode(self, content: bytes) -> np.ndarray:
        if (self.color_type, self.imdecode_backend) == ('color', 'cv2'):
            return decode_image(content)
        fault = find_fault(content)
        if fault is not None:
            raise DecodeError(fault)
        return mmcv.imfrombytes(
            content, flag=self.color_type, backend=self.imdecode_backend)


@TRANSFORMS.register_module()
class LoadPanopticMap(BaseTransform):
    """Read a panoptic PNG to a map of indices into ``segments_info``.

    The PNG is COCO's (8-bit RGB, id = R + 256 G + 256^2 B, 0 = void); or,
    where the annotation lists ``void_ids``, it has one channel of 8 or 16
    bits that holds the ids themselves, such as Cityscapes' own
    ``*_instanceIds.png``. With ``class_map`` these ids are classes, of which
    any may be absent, and a palette is ignored (COCO-Stuff's pixel maps have
    one). In a training pipeline it comes before the geometry, in a test
    pipeline after it: ground truth is evaluated at the original size.

    Required Keys: seg_map_path, segments_info (both None: no annotation,
    nothing is done), ori_shape; void_ids, ignored_ids, class_map (optional)

    Modified Keys: segments_info (with ``class_map``: without absent classes)

    Added Keys: gt_seg_map

    Args:
        backend_args (dict, optional): Arguments of mmengine's fileio.

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
        if results.get('seg_map_path') is None:
            return results
        if results.get('flip'):
            raise InputError(
                f'{results["seg_map_path"]}: its image is flipped already. '
                'Put LoadPanopticMap before RandomFlip.')
        size = tuple(results['ori_shape'][:2])
        pixels = read_pixels(
            results['seg_map_path'], 'panoptic PNG', decode_map,
            self.backend_args, size,
            f'its image {results["img_path"]} is {size}. Export the PNG at '
            'the size of the image.')
        self._check_format(pixels, results)
        id_map = pixels.reshape(-1) if pixels.ndim == 2 else _rgb_to_id(pixels)
        # each run is looked up, not each pixel
        starts = run_starts(id_map)
        lengths = np.diff(starts, append=id_map.size)
        run_ids = id_map[starts]
        if pixels.ndim == 3:
            run_ids &= MAX_SEGMENT_ID
        if results.get('class_map'):
            present = set(np.unique(run_ids).tolist())
            results['segments_info'] = [
                s for s in results['segments_info'] if s['id'] in present
            ]
        ids = [segment['id'] for segment in results['segments_info']]
        ids += results.get('ignored_ids', [])
        run_values = self._values_of(run_ids, ids)
        _check_ids(run_ids, run_values, lengths, ids, results)
        # on uint8 the geometry is faster
        dtype = np.uint8 if len(ids) < PADDING else np.uint16
        results['gt_seg_map'] = np.repeat(run_values.astype(dtype),
                                          lengths).reshape(pixels.shape[:2])
        return results

    @staticmethod
    def _check_format(pixels: np.ndarray, results: dict) -> None:
        if results.get('void_ids') is None:
            right = pixels.dtype == np.uint8 and pixels.shape[2:] == (3, )
            wanted = ('a panoptic PNG is 8-bit RGB with id = R + 256 G + '
                      '256^2 B. Export it so.')
        else:
            right = pixels.dtype in (np.uint8, np.uint16) and pixels.ndim == 2
            wanted = ('a map of classes has one channel of 8 or 16 bits, and '
                      'so has that of an annotation with void_ids. Restore '
                      'the original label image.')
        if not right:
            raise CorruptFileError(
                f'{results["seg_map_path"]}: shape {pixels.shape} of '
                f'{pixels.dtype}; {wanted}')

    def _values_of(self, run_ids: np.ndarray, ids: List[int]) -> np.ndarray:
        """Value in the map of each of ``run_ids``, 0 where not in ``ids``."""
        if self._values is None:
            self._values = np.zeros(MAX_SEGMENT_ID + 1, np.uint16)
        self._values[ids] = segment_values(len(ids))
        values = self._values[run_ids]
        self._values[ids] = 0
        return values


def _check_ids(run_ids: np.ndarray, run_values: np.ndarray,
               lengths: np.ndarray, ids: List[int], results: dict) -> None:
    """Raise where the ids of the PNG are not those of the JSON."""
    path, void_ids = results['seg_map_path'], results.get('void_ids')
    what, missing_fix = 'segment', KINDS['ids_only_in_json'].fix
    unknown_fix = KINDS['ids_only_in_png'].fix + (
        ' tools/check_dataset.py shows whether R and B are swapped or ids are '
        'lost.')
    if void_ids is not None:  # a converter has read the file
        unknown_fix = missing_fix = (
            'The file has changed since the data set was prepared: run its '
            'converter again.')
    if results.get('class_map'):
        what, unknown_fix = 'category', (
            'Add these classes to "categories" of the JSON, or the values to '
            'void_ids of the data set.')
    unknown = run_values == 0
    unknown &= ~np.isin(run_ids, [0] if void_ids is None else void_ids)
    if unknown.any():
        raise CorruptFileError(
            f'{path}: {lengths[unknown].sum()} pixels have {what} ids that '
            'the JSON does not list: '
            f'{np.unique(run_ids[unknown])[:5].tolist()}. {unknown_fix}')
    missing = np.array(ids)[~np.isin(segment_values(len(ids)), run_values)]
    if missing.size:
        raise CorruptFileError(
            f'{path}: the JSON lists segments without a pixel in the PNG: '
            f'ids {missing[:5].tolist()}. {missing_fix}')


def _rgb_to_id(pixels: np.ndarray) -> np.ndarray:
    """uint32 (h * w, ) of RGB pixels (h, w, 3); 255 in the highest byte."""
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA).view('<u4').reshape(-1)
