"""Resizing and random crops of image and map by the same geometry.

Targets are derived afterwards (``derive_targets.py``), so these transforms act
on two arrays and nothing else: no box can outlive its mask.
"""
from typing import Any, Optional, Sequence, Tuple, Union

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform, RandomResize
from mmcv.transforms.utils import cache_randomness
from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS

from ..ops.resize_window import nearest_pixels, resize_window, take_pixels
from ..ops.run_length import row_runs
from .load_map import segment_values


@TRANSFORMS.register_module()
class PanopticResize(Resize):
    """mmdet's ``Resize`` whose map follows the image exactly.

    mmcv resizes maps with OpenCV's ``INTER_NEAREST``, which takes the value at
    the edge of a pixel, while the image is interpolated at pixel centres:
    boxes derived from the map are then off by nearly half a pixel.
    ``INTER_NEAREST_EXACT`` takes the value at the centre.

    Also as ``resize_type`` of ``RandomChoiceResize`` and ``RandomResize``.

    Required Keys: img; gt_seg_map (optional)

    Modified Keys: as ``Resize``
    """

    def _resize_img(self, results: dict) -> None:
        size = results['scale']
        if self.keep_ratio:
            size = rescaled_size(results['img'], size)
        results['img'], *factors = mmcv.imresize(
            results['img'],
            size,
            return_scale=True,
            interpolation=self.interpolation,
            backend=self.backend)
        results['img_shape'] = results['img'].shape[:2]
        results['scale_factor'] = tuple(factors)
        results['keep_ratio'] = self.keep_ratio

    def _resize_seg(self, results: dict) -> None:
        index_map = results.get('gt_seg_map')
        if index_map is not None:
            height, width = results['img_shape'][:2]
            results['gt_seg_map'] = cv2.resize(
                index_map, (width, height),
                interpolation=cv2.INTER_NEAREST_EXACT)


@TRANSFORMS.register_module()
class PanopticRandomCrop(BaseTransform):
    """Cut the same random window out of image and map (section 4.1).

    An image that is smaller than the window keeps that side; the data
    preprocessor pads the batch.

    ``bootstrap=True`` is this project's reading of the paper's 'crop
    bootstrapping [5]'. Reference [5] (Rota Bulo et al., In-Place Activated
    BatchNorm) samples training images so that all classes appear about
    equally often; for crops that means: draw a class uniformly, then one of
    the images in which it occurs, then one of its pixels, then a window from
    those that contain the pixel, all uniformly. Class and image are drawn by
    ``ClassUniformInfiniteSampler``; with another sampler the class is drawn
    from those of the image.

    Required Keys: img; gt_seg_map, segments_info, drawn_label (optional)

    Modified Keys: img, img_shape, gt_seg_map, homography_matrix

    Args:
        crop_size (int | tuple[int, int]): Side of a square, or (h, w) of the
            window, in pixels.
        bootstrap (bool): Whether to crop around drawn classes.
    """

    def __init__(self,
                 crop_size: Union[int, Tuple[int, int]],
                 bootstrap: bool = False) -> None:
        if isinstance(crop_size, int):
            crop_size = (crop_size, crop_size)
        self.crop_size = crop_size
        self.bootstrap = bootstrap

    def transform(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        y, x = self._draw_corner(results, np.arange(height), np.arange(width))
        crop_h, crop_w = self.crop_size
        for key in ('img', 'gt_seg_map'):
            if results.get(key) is not None:
                # a copy: a view would keep the whole image alive in a batch
                results[key] = np.ascontiguousarray(results[key][y:y + crop_h,
                                                                 x:x + crop_w])
        results['img_shape'] = results['img'].shape[:2]
        _record(results, [[1, 0, -x], [0, 1, -y], [0, 0, 1]])
        return results

    @cache_randomness
    def _draw_corner(self, results: dict, rows: np.ndarray,
                     cols: np.ndarray) -> Tuple[int, int]:
        """Upper left corner (y, x) of the window in the resized image; see
        :func:`draw_pixel` for the arguments."""
        target = draw_pixel(results, rows, cols) if self.bootstrap else None
        corner = []
        sizes = zip((len(rows), len(cols)), self.crop_size)
        for axis, (size, crop) in enumerate(sizes):
            low, high = 0, max(size - crop, 0)
            if target is not None:
                low = max(low, target[axis] - crop + 1)
                high = min(high, target[axis])
            corner.append(int(np.random.randint(low, high + 1)))
        return corner[0], corner[1]

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(crop_size={self.crop_size}, '
                f'bootstrap={self.bootstrap})')


@TRANSFORMS.register_module()
class PanopticRandomResizeCrop(PanopticRandomCrop):
    """``RandomResize`` of ``PanopticResize``, then ``PanopticRandomCrop``,
    several times as fast (section 4.1): only the window is resized.

    From the same random state it draws the same scale and window as the two:
    map and homography are equal bit by bit, the image (bilinear) within one
    grey level. With ``bootstrap`` classes and pixels are those of the resized
    image here too.

    Required Keys: img; gt_seg_map, segments_info, drawn_label (optional)

    Modified Keys: img, img_shape, gt_seg_map, homography_matrix

    Added Keys: scale, scale_factor (w, h), keep_ratio

    Args:
        scale (tuple | Sequence[tuple]): (w, h), or two of them to draw
            between, as in ``RandomResize``.
        ratio_range (tuple[float, float], optional): What ``scale`` is
            multiplied by.
        keep_ratio (bool): Whether ``scale`` only limits the sides.
        crop_size, bootstrap: Same as ``PanopticRandomCrop``.
    """

    def __init__(self,
                 scale: Union[Tuple[int, int], Sequence[Tuple[int, int]]],
                 crop_size: Union[int, Tuple[int, int]],
                 ratio_range: Optional[Tuple[float, float]] = None,
                 keep_ratio: bool = True,
                 bootstrap: bool = False) -> None:
        super().__init__(crop_size, bootstrap)
        self.keep_ratio = keep_ratio
        self._resize = RandomResize(scale, ratio_range)

    def transform(self, results: dict) -> dict:
        image = results['img']
        height, width = image.shape[:2]
        scale = new_w, new_h = self._draw_scale()
        if self.keep_ratio:
            new_w, new_h = rescaled_size(image, scale)
        rows, cols = nearest_pixels(height,
                                    new_h), nearest_pixels(width, new_w)
        y, x = self._draw_corner(results, rows, cols)
        crop_h = min(self.crop_size[0], new_h)
        crop_w = min(self.crop_size[1], new_w)
        results['img'] = resize_window(image, (new_h, new_w),
                                       (y, x, crop_h, crop_w))
        if results.get('gt_seg_map') is not None:
            results['gt_seg_map'] = take_pixels(results['gt_seg_map'],
                                                rows[y:y + crop_h],
                                                cols[x:x + crop_w])
        results['scale'] = scale
        results['scale_factor'] = (new_w / width, new_h / height)
        results['keep_ratio'] = self.keep_ratio
        results['img_shape'] = (crop_h, crop_w)
        _record(results, np.diag([*results['scale_factor'], 1]))
        _record(results, [[1, 0, -x], [0, 1, -y], [0, 0, 1]])
        return results

    @cache_randomness
    def _draw_scale(self) -> Tuple[int, int]:
        """A drawn scale (w, h)."""
        return self._resize._random_scale()

    def __repr__(self) -> str:
        return (f'{super().__repr__()[:-1]}, keep_ratio={self.keep_ratio}, '
                f'resize={self._resize})')


def rescaled_size(image: np.ndarray, scale: Tuple[int,
                                                  int]) -> Tuple[int, int]:
    """``mmcv.rescale_size`` (w, h) of an image; each side at least 1, however
    long and thin the image is."""
    width, height = mmcv.rescale_size(image.shape[1::-1], scale)
    return max(1, width), max(1, height)


def _record(results: dict, matrix: Any) -> None:
    """Add a step of the geometry to ``homography_matrix``."""
    before = results.get('homography_matrix', np.eye(3, dtype=np.float32))
    results['homography_matrix'] = np.array(matrix, np.float32) @ before


def draw_pixel(results: dict, rows: np.ndarray,
               cols: np.ndarray) -> Optional[Tuple[int, int]]:
    """A pixel of a drawn class, uniformly among its pixels.

    Classes and pixels are those of the map once it is resized.

    Args:
        results (dict): gt_seg_map (h, w), segments_info, drawn_label
            (optional).
        rows (np.ndarray): (H, ), the row of the map that each row of the
            resized one shows, ascending.
        cols (np.ndarray): (W, ), likewise.

    Returns:
        tuple[int, int], optional: (y, x) in the resized map; None where all
        is void.
    """
    segments = results.get('segments_info')
    if not segments:
        return None
    height, width = results['gt_seg_map'].shape
    # resized columns (rows) that lie before each column (row) of the map
    before_x = np.searchsorted(cols, np.arange(width + 1))
    before_y = np.searchsorted(rows, np.arange(height + 1))
    runs = row_runs(results['gt_seg_map'])
    lengths = before_x[runs.ends] - before_x[runs.begins]
    repeats = np.diff(before_y)[runs.rows]

    values = segment_values(len(segments))
    # beyond the segments: instances that nobody evaluates, and padding
    largest = max(int(values.max()), int(runs.values.max()))
    label_of = np.full(largest + 1, -1)
    label_of[values] = [s['category'] for s in segments]
    labels = label_of[runs.values]
    # scaling down may have removed small segments
    present = np.unique(labels[(labels >= 0) & (lengths * repeats > 0)])
    if not present.size:
        return None
    label = results.get('drawn_label')
    if label not in present:
        label = np.random.choice(present)

    chosen = labels == label
    per_row = np.bincount(
        runs.rows[chosen], weights=lengths[chosen], minlength=height)
    until = np.cumsum(per_row[rows].astype(np.int64))
    pixel = np.random.randint(until[-1])
    y = int(np.searchsorted(until, pixel, side='right'))
    row = label_of[results['gt_seg_map'][rows[y], cols]]
    # counted from the end of the row
    return y, int(np.flatnonzero(row == label)[pixel - until[y]])
