"""Random scale and random window in one step: only what is left is resized."""
from typing import Optional, Sequence, Tuple, Union

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform, RandomResize
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS

from ..ops.resize_window import nearest_pixels, resize_window, take_pixels
from .crop import checked_crop_size, draw_corner, draw_pixel, move


@TRANSFORMS.register_module()
class PanopticRandomResizeCrop(BaseTransform):
    """``RandomResize`` of ``PanopticResize``, then ``PanopticRandomCrop``,
    several times as fast (section 4.1).

    From the same random state it draws the same scale and window as the two:
    map and homography are equal bit by bit, the image (bilinear) within one
    grey level. What ``bootstrap`` means is said there; classes and pixels are
    those of the resized image here too.

    Required Keys: img; gt_seg_map, segments_info, drawn_label (optional)

    Modified Keys: img, img_shape, gt_seg_map, homography_matrix

    Added Keys: scale, scale_factor (w, h), keep_ratio

    Args:
        scale (tuple | Sequence[tuple]): (w, h), or two of them to draw
            between, as of ``RandomResize``.
        crop_size (int | tuple[int, int]): Side of a square, or (h, w) of the
            window, in pixels.
        ratio_range (tuple[float, float], optional): What ``scale`` is
            multiplied by.
        keep_ratio (bool): Whether ``scale`` only limits the sides.
        bootstrap (bool): Whether to crop around drawn classes.

    Raises:
        InputError: ``crop_size`` is no such thing, or there is no map to
            find a class in.
    """

    def __init__(self,
                 scale: Union[Tuple[int, int], Sequence[Tuple[int, int]]],
                 crop_size: Union[int, Tuple[int, int]],
                 ratio_range: Optional[Tuple[float, float]] = None,
                 keep_ratio: bool = True,
                 bootstrap: bool = False) -> None:
        self.crop_size = checked_crop_size(crop_size, type(self).__name__)
        self.keep_ratio = keep_ratio
        self.bootstrap = bootstrap
        self._resize = RandomResize(scale, ratio_range)

    def transform(self, results: dict) -> dict:
        image = results['img']
        height, width = image.shape[:2]
        scale = self._scale()
        new_w, new_h = scale
        if self.keep_ratio:
            new_w, new_h = mmcv.rescale_size((width, height), scale)
        rows, cols = nearest_pixels(height,
                                    new_h), nearest_pixels(width, new_w)
        target = None
        if self.bootstrap:
            target = self._pixel_of_class(results, rows, cols)
        y, x = self._offset((new_h, new_w), target)
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
        move(results, np.diag([*results['scale_factor'], 1]))
        move(results, [[1, 0, -x], [0, 1, -y], [0, 0, 1]])
        return results

    @cache_randomness
    def _scale(self) -> Tuple[int, int]:
        """(w, h), drawn."""
        return self._resize._random_scale()

    @cache_randomness
    def _offset(self, shape: Tuple[int, int],
                target: Optional[Tuple[int, int]]) -> Tuple[int, int]:
        return draw_corner(shape, self.crop_size, target)

    @cache_randomness
    def _pixel_of_class(self, results: dict, rows: np.ndarray,
                        cols: np.ndarray) -> Optional[Tuple[int, int]]:
        return draw_pixel(results, type(self).__name__, rows, cols)

    def __repr__(self) -> str:
        return (f'{self.__class__.__name__}(scale={self._resize.scale}, '
                f'crop_size={self.crop_size}, '
                f'ratio_range={self._resize.ratio_range}, '
                f'keep_ratio={self.keep_ratio}, bootstrap={self.bootstrap})')
