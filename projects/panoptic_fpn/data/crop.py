"""Random crops of image and map, anywhere or around a pixel of some class.

Targets are derived after the geometry (``targets.py``), so a crop cuts two
arrays and nothing else: no box can outlive its mask.
"""
from typing import Any, Optional, Tuple, Union

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS

from mmengine_exact.errors import InputError

from ..ops.mask_runs import contiguous, runs_of
from .loading import PADDING, segment_values


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

    Raises:
        InputError: ``crop_size`` is no such thing, or there is no map to
            find a class in.
    """

    def __init__(self,
                 crop_size: Union[int, Tuple[int, int]],
                 bootstrap: bool = False) -> None:
        self.crop_size = checked_crop_size(crop_size, type(self).__name__)
        self.bootstrap = bootstrap

    def transform(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        target = self._pixel_of_class(results) if self.bootstrap else None
        y, x = self._offset((height, width), target)
        crop_h, crop_w = self.crop_size
        for key in ('img', 'gt_seg_map'):
            if results.get(key) is not None:
                # a copy: a view would keep the whole image alive in a batch
                results[key] = np.ascontiguousarray(results[key][y:y + crop_h,
                                                                 x:x + crop_w])
        results['img_shape'] = results['img'].shape[:2]
        move(results, [[1, 0, -x], [0, 1, -y], [0, 0, 1]])
        return results

    @cache_randomness
    def _offset(self, shape: Tuple[int, int],
                target: Optional[Tuple[int, int]]) -> Tuple[int, int]:
        return draw_corner(shape, self.crop_size, target)

    @cache_randomness
    def _pixel_of_class(self, results: dict) -> Optional[Tuple[int, int]]:
        return draw_pixel(results, type(self).__name__)

    def __repr__(self) -> str:
        return (f'{self.__class__.__name__}(crop_size={self.crop_size}, '
                f'bootstrap={self.bootstrap})')


def checked_crop_size(crop_size: Union[int, Tuple[int, int]],
                      name: str) -> Tuple[int, int]:
    """(h, w) of a side or of both.

    Raises:
        InputError: It is no such thing; says which transform's.
    """
    if isinstance(crop_size, int):
        crop_size = (crop_size, crop_size)
    if len(crop_size) != 2 or not all(
            isinstance(side, int) and side > 0 for side in crop_size):
        raise InputError(
            f'{name}.crop_size={crop_size!r}: give (h, w) in whole pixels, '
            'both at least 1.')
    height, width = crop_size
    return height, width


def move(results: dict, matrix: Any) -> None:
    """Record a step of the geometry in ``homography_matrix``."""
    matrix = np.array(matrix, np.float32)
    before = results.get('homography_matrix')
    results['homography_matrix'] = (
        matrix if before is None else matrix @ before)


def draw_corner(shape: Tuple[int, int], crop_size: Tuple[int, int],
                target: Optional[Tuple[int, int]]) -> Tuple[int, int]:
    """Upper left corner (y, x) of a window, around ``target`` if any."""
    corner = []
    for axis, (size, crop) in enumerate(zip(shape, crop_size)):
        low, high = 0, max(size - crop, 0)
        if target is not None:
            low = max(low, target[axis] - crop + 1)
            high = min(high, target[axis])
        corner.append(int(np.random.randint(low, high + 1)))
    return corner[0], corner[1]


def draw_pixel(results: dict,
               name: str,
               rows: Optional[np.ndarray] = None,
               cols: Optional[np.ndarray] = None) -> Optional[Tuple[int, int]]:
    """A pixel of a drawn class, uniformly among its pixels.

    Args:
        results (dict): gt_seg_map, segments_info, drawn_label (optional).
        name (str): Of the transform, for the error.
        rows (np.ndarray, optional): Where the map is yet to be resized: the
            row of the map that each resized one shows, ascending. Classes and
            pixels are then those of the resized map.
        cols (np.ndarray, optional): Likewise.

    Returns:
        tuple[int, int], optional: (y, x); None where all is void.

    Raises:
        InputError: There is no map.
    """
    index_map = results.get('gt_seg_map')
    segments = results.get('segments_info')
    if not segments:
        return None
    if index_map is None:
        raise InputError(f'{name}(bootstrap=True) needs the map: put '
                            'LoadPanopticMap before it.')
    height, width = index_map.shape
    rows = np.arange(height) if rows is None else rows
    cols = np.arange(width) if cols is None else cols
    # resized columns (rows) that lie before each column (row) of the map
    before_x = np.searchsorted(cols, np.arange(width + 1))
    before_y = np.searchsorted(rows, np.arange(height + 1))
    runs = runs_of(contiguous(index_map))
    lengths = before_x[runs.ends] - before_x[runs.begins]
    repeats = np.diff(before_y)[runs.rows]

    values = segment_values(len(segments))
    # beyond the segments: instances that nobody evaluates
    largest = int(runs.values.max())
    label_of = np.full(max(PADDING, values.max(), largest) + 1, -1)
    label_of[values] = [s['category'] for s in segments]
    labels = label_of[runs.values]
    # scaling down may have removed small segments
    present = np.unique(labels[(labels >= 0) & (lengths * repeats > 0)])
    if not present.size:
        return None
    label = results.get('drawn_label')
    if label not in present:
        label = np.random.choice(present)

    chosen = (labels == label) & (lengths > 0)
    lengths, begins = lengths[chosen], before_x[runs.begins[chosen]]
    per_row = np.bincount(runs.rows[chosen], weights=lengths, minlength=height)
    until = np.cumsum(per_row[rows].astype(np.int64))
    number = np.random.randint(until[-1])
    y = int(np.searchsorted(until, number, side='right'))
    number -= until[y] - per_row[rows[y]]
    in_row = np.flatnonzero(runs.rows[chosen] == rows[y])
    until = np.cumsum(lengths[in_row])
    run = int(np.searchsorted(until, number, side='right'))
    number -= until[run] - lengths[in_row[run]]
    return y, int(begins[in_row[run]] + number)
