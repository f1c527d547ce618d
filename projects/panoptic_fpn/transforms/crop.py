"""Random crops of image and map, anywhere or around a pixel of some class.

Targets are derived after the geometry (``targets.py``), so a crop cuts two
arrays and nothing else: no box can outlive its mask.
"""
from typing import Optional, Tuple, Union

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS

from ..errors import PanopticError
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
        PanopticError: ``crop_size`` is no such thing, or there is no map to
            find a class in.
    """

    def __init__(self,
                 crop_size: Union[int, Tuple[int, int]],
                 bootstrap: bool = False) -> None:
        if isinstance(crop_size, int):
            crop_size = (crop_size, crop_size)
        if len(crop_size) != 2 or not all(
                isinstance(side, int) and side > 0 for side in crop_size):
            raise PanopticError(
                f'PanopticRandomCrop.crop_size={crop_size!r}: give (h, w) in '
                'whole pixels, both at least 1.')
        self.crop_size = tuple(crop_size)
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
        moved = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]], np.float32)
        before = results.get('homography_matrix')
        results['homography_matrix'] = (
            moved if before is None else moved @ before)
        return results

    @cache_randomness
    def _offset(self, shape: Tuple[int, int],
                target: Optional[Tuple[int, int]]) -> Tuple[int, int]:
        """Upper left corner (y, x) of a window, around ``target`` if any."""
        corner = []
        for axis, (size, crop) in enumerate(zip(shape, self.crop_size)):
            low, high = 0, max(size - crop, 0)
            if target is not None:
                low = max(low, target[axis] - crop + 1)
                high = min(high, target[axis])
            corner.append(int(np.random.randint(low, high + 1)))
        return corner[0], corner[1]

    @cache_randomness
    def _pixel_of_class(self, results: dict) -> Optional[Tuple[int, int]]:
        """(y, x) of a pixel of a drawn class; None where all is void."""
        index_map = results.get('gt_seg_map')
        segments = results.get('segments_info')
        if not segments:
            return None
        if index_map is None:
            raise PanopticError('PanopticRandomCrop(bootstrap=True) needs the '
                                'map: put LoadPanopticMap before it.')
        labels = np.array([s['category'] for s in segments])
        values = segment_values(len(segments))
        areas = np.bincount(
            index_map.ravel(), minlength=max(PADDING, values.max()) + 1)
        # scaling down may have removed small segments
        present = np.unique(labels[areas[values] > 0])
        if not present.size:
            return None
        label = results.get('drawn_label')
        if label not in present:
            label = np.random.choice(present)
        chosen = np.zeros(len(areas), bool)
        chosen[values[labels == label]] = True
        pixels = np.flatnonzero(chosen[index_map])
        return divmod(
            int(pixels[np.random.randint(len(pixels))]), index_map.shape[1])

    def __repr__(self) -> str:
        return (f'{self.__class__.__name__}(crop_size={self.crop_size}, '
                f'bootstrap={self.bootstrap})')
