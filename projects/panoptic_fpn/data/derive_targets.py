"""From the map after the geometry to targets, and their packing.

Instances and the semantic map are derived once, from what the transforms left
of the map, so a box can never be without its mask and an instance that a crop
removed is gone with its box, mask and label. So with those of an instances
JSON, which are drawn here.
"""
from collections import Counter
from typing import Dict, List, Sequence, Tuple

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import PackDetInputs
from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import PixelData

from mmengine_exact.errors import InputError

from ..labels import IGNORE_LABEL, encode_panoptic
from ..ops.index_map_masks import IndexMapMasks
from ..ops.run_length import contiguous, look_up, segment_boxes
from .instance_masks import draw_masks, geometry_of, pack_layers
from .load_map import PADDING, segment_values


@TRANSFORMS.register_module()
class DerivePanopticTargets(BaseTransform):
    """Instances, semantic map and panoptic map from the index map.

    Required Keys: gt_seg_map (absent: nothing is done), segments_info,
    label_space; ignored_ids (optional); instances and instance_masks, of an
    instances JSON, in place of the instances of the map (optional)

    Modified Keys: gt_seg_map (with ``semantic``: labels int16, -1 = void;
    otherwise removed)

    Added Keys:

    - with ``instances``: gt_bboxes (HorizontalBoxes), gt_bboxes_labels,
      gt_masks (IndexMapMasks), gt_ignore_flags (crowd)
    - with ``panoptic``: gt_panoptic_map int32 (h, w), label + 1000 * number;
      gt_codes, the value of each entry of segments_info in it; crowd_codes.
      The n-th of ``ignored_ids`` is void + 1000 * n: void by its label, one
      instance by its code.

    Args:
        instances (bool): Derive instances; not needed for Semantic FPN.
        semantic (bool): Derive the semantic map.
        panoptic (bool): Derive the panoptic map, which evaluation reads.
        min_area (int): Instances with fewer pixels left are dropped; their
            pixels stay in the semantic map.
    """

    def __init__(self,
                 instances: bool = True,
                 semantic: bool = True,
                 panoptic: bool = False,
                 min_area: int = 1) -> None:
        self.instances = instances
        self.semantic = semantic
        self.panoptic = panoptic
        self.min_area = min_area

    def transform(self, results: dict) -> dict:
        if results.get('gt_seg_map') is None:
            return results
        index_map = contiguous(results.pop('gt_seg_map'))
        segments = results['segments_info']
        num_ignored = len(results.get('ignored_ids', []))
        values = segment_values(len(segments) + num_ignored)
        # beyond the segments: instances of classes that nobody evaluates
        values, ignored = np.split(values, [len(segments)])
        labels = np.array([s['category'] for s in segments], np.int64)
        num_values = max([PADDING, *values, *ignored]) + 1
        if self.instances and results.get('instance_masks') is not None:
            self._draw_instances(results, index_map.shape)
        elif self.instances:
            self._derive_instances(results, index_map, num_values, values,
                                   labels)
        if self.semantic:
            table = np.full(num_values, IGNORE_LABEL, np.int16)
            table[values] = labels
            results['gt_seg_map'] = look_up(table, index_map)
            results['ignore_index'] = IGNORE_LABEL
        if self.panoptic:
            self._derive_panoptic(results, index_map, num_values, values,
                                  labels, ignored)
        return results

    def _derive_instances(self, results: dict, index_map: np.ndarray,
                          num_values: int, values: np.ndarray,
                          labels: np.ndarray) -> None:
        segments = results['segments_info']
        crowd = np.array([s['iscrowd'] for s in segments], bool)
        thing = labels < results['label_space'].num_things
        found, found_areas, found_boxes = segment_boxes(index_map)
        found_boxes[:, 2:] += found_boxes[:, :2]  # x1, y1, x2, y2
        areas = np.zeros(num_values, np.int64)
        boxes = np.zeros((num_values, 4), np.int64)
        areas[found], boxes[found] = found_areas, found_boxes
        chosen = np.flatnonzero(thing & (areas[values] >= self.min_area))
        # torch hardly knows uint16, and no negative strides
        dtype = np.uint8 if index_map.dtype == np.uint8 else np.int32
        _add_instances(results, boxes[values[chosen]], labels[chosen],
                       crowd[chosen], index_map.astype(dtype, order='C'),
                       values[chosen].astype(dtype))

    def _draw_instances(self, results: dict, size: Tuple[int, int]) -> None:
        drawn = draw_masks(results['instance_masks'],
                           geometry_of(results, size))
        windows, rows = [], []
        for window, one in zip(drawn, results['instances']):
            if window and cv2.countNonZero(window[2]) >= max(1, self.min_area):
                x, y, width, height = cv2.boundingRect(window[2])
                x, y = x + window[1], y + window[0]
                windows.append(window)
                rows.append((x, y, x + width, y + height, one['bbox_label'],
                             one['ignore_flag']))
        table = np.array(rows, np.int64).reshape(-1, 6)
        _add_instances(results, table[:, :4], table[:, 4],
                       table[:, 5].astype(bool), *pack_layers(windows, size))

    def _derive_panoptic(self, results: dict, index_map: np.ndarray,
                         num_values: int, values: np.ndarray,
                         labels: np.ndarray, ignored: np.ndarray) -> None:
        # n-th segment of its class: unique codes, for stuff too
        numbers: List[int] = []
        seen: Dict[int, int] = Counter()
        for label in labels.tolist():
            numbers.append(seen[label])
            seen[label] += 1
        codes = encode_panoptic(labels, np.array(numbers, np.int64))
        void = results['label_space'].void
        table = np.full(num_values, void, np.int32)
        table[values] = codes
        table[ignored] = encode_panoptic(
            np.full(len(ignored), void), np.arange(1,
                                                   len(ignored) + 1))
        results['gt_panoptic_map'] = look_up(table, index_map)
        results['gt_codes'] = codes.tolist()
        results['crowd_codes'] = [
            int(code) for code, s in zip(codes, results['segments_info'])
            if s['iscrowd']
        ]

    def __repr__(self) -> str:
        return f'{type(self).__name__}({vars(self)})'


def _add_instances(results: dict, boxes: np.ndarray, labels: np.ndarray,
                   crowd: np.ndarray, index_map: np.ndarray,
                   values: np.ndarray) -> None:
    results['gt_bboxes'] = HorizontalBoxes(
        boxes.astype(np.float32), dtype=torch.float32)
    results['gt_bboxes_labels'] = labels
    results['gt_ignore_flags'] = crowd
    results['gt_masks'] = IndexMapMasks(torch.from_numpy(index_map), values)


class PinnableDataSample(DetDataSample):
    """mmdet's ``DetDataSample`` with a method that torch's loaders call."""

    def pin_memory(self) -> 'PinnableDataSample':
        """Bring what is copied to a GPU to pinned memory: the host waits for
        copies of other memory."""
        for part in (self.get('gt_instances'), self.get('gt_sem_seg')):
            for key, value in part.items() if part else ():
                if hasattr(value, 'pin_memory'):
                    part.set_field(value.pin_memory(), key)
        return self


@TRANSFORMS.register_module()
class PackPanopticInputs(PackDetInputs):
    """mmdet's ``PackDetInputs`` that packs the panoptic map too.

    Required Keys: as ``PackDetInputs``; gt_panoptic_map (optional)

    The sample gets ``gt_panoptic_seg.sem_seg`` (1, h, w), and the metainfo
    ``gt_codes`` and ``crowd_codes`` besides the keys below.

    Raises:
        InputError: Targets and image differ in size.
    """

    def __init__(self,
                 meta_keys: Sequence[str] = ('img_id', 'img_path', 'ori_shape',
                                             'img_shape', 'scale_factor',
                                             'flip', 'flip_direction',
                                             'seg_map_path', 'segments_info',
                                             'gt_codes', 'crowd_codes')):
        super().__init__(meta_keys=tuple(meta_keys))

    def transform(self, results: dict) -> dict:
        self._check_sizes(results)
        # mmdet copies images several times as slowly
        apart = {'img', *self.meta_keys}
        packed = super().transform({
            key: value
            for key, value in results.items() if key not in apart
        })
        sample = PinnableDataSample(
            metainfo={
                key: results[key]
                for key in self.meta_keys if key in results
            },
            **dict(packed['data_samples'].items()))
        if 'gt_panoptic_map' in results:
            panoptic = np.ascontiguousarray(results['gt_panoptic_map'])
            sample.gt_panoptic_seg = PixelData(
                sem_seg=torch.from_numpy(panoptic)[None])
        return dict(
            inputs=torch.from_numpy(_planes(results['img'])),
            data_samples=sample)

    @staticmethod
    def _check_sizes(results: dict) -> None:
        """Refuse targets of another part of the scene, which train silently.

        Raises:
            InputError: Targets and image differ in size.
        """
        size = results['img'].shape[:2]
        masks = results.get('gt_masks')
        found = dict(
            gt_seg_map=getattr(results.get('gt_seg_map'), 'shape', size),
            gt_masks=size if masks is None else (masks.height, masks.width))
        for key, shape in found.items():
            if tuple(shape) != size:
                raise InputError(
                    f'{results.get("img_path")}: {key} is {tuple(shape)} (h, '
                    f'w), its image {size}. Put LoadPanopticMap before the '
                    'resizing, cropping and padding of train_pipeline, and '
                    'DerivePanopticTargets after them.')


def _planes(image: np.ndarray) -> np.ndarray:
    """(channels, h, w), C-contiguous, of (h, w, channels) or (h, w)."""
    image = contiguous(image)
    if image.ndim == 2:
        return image[None]
    height, width, channels = image.shape
    planes = np.empty((channels, height, width), image.dtype)
    cv2.split(image, list(planes))
    return planes
