"""Resizing of image and map by the same geometry.

mmcv resizes maps with OpenCV's ``INTER_NEAREST``, which takes the value at
the edge of a pixel, while the image is interpolated at pixel centres: boxes
derived from the map are then off by nearly half a pixel.
``INTER_NEAREST_EXACT`` takes the value at the centre.
"""
import cv2
from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PanopticResize(Resize):
    """mmdet's ``Resize`` whose map follows the image exactly.

    Also as ``resize_type`` of ``RandomChoiceResize`` and ``RandomResize``.

    Required Keys: img; gt_seg_map (optional)

    Modified Keys: as ``Resize``
    """

    def _resize_seg(self, results: dict) -> None:
        index_map = results.get('gt_seg_map')
        if index_map is not None:
            height, width = results['img_shape'][:2]
            results['gt_seg_map'] = cv2.resize(
                index_map, (width, height),
                interpolation=cv2.INTER_NEAREST_EXACT)
