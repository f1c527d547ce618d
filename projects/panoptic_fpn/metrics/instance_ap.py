"""Box and mask AP of the region branch, through mmdet's CocoMetric.

In    ``pred_instances``: boxes (n, 4) as x1, y1, x2, y2 in pixels of the
      original image, scores (n, ), labels (n, ) 0..T-1, masks (n, h, w) bool
Row   of an image: boxes, scores, labels, RLEs; and, where no instances JSON is
      named, the RLEs of the ground truth
Out   CocoMetric's keys (``bbox_mAP``, ``segm_mAP_50``, ...), fractions

Without an instances JSON, the things of ``gt_panoptic_seg`` are the ground
truth. They do not overlap, unlike the polygons of an instances JSON, so the
log and the table call this AP derived.
"""
import io
from contextlib import redirect_stdout
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS
from mmengine.logging import print_log

from ..errors import PanopticError
from ..labels import LabelSpace
from .instance_truth import (GroundTruth, check_id_types, check_images,
                             derived_dataset, instance_truth,
                             thing_category_ids)
from .per_image import (PerImageMetric, Row, check_same_shape,
                        check_thing_labels, to_array)
from .runs import encode_mask

#: What the log and the table say of AP without an instances JSON.
DERIVED = 'AP (ground truth derived from the panoptic annotation)'


@METRICS.register_module()
class PanopticInstanceAPMetric(PerImageMetric, CocoMetric):
    """CocoMetric for the things of a panoptic data set.

    Labels meet the category ids of an instances JSON by name, never by
    order. AP covers the images that were evaluated. A score without ground
    truth is NaN ('n/a'); without any detection it is 0.

    Args:
        ann_file (str, optional): Instances JSON with the same image ids. By
            default the ground truth is derived from ``gt_panoptic_seg``.
        metric (str | Sequence[str]): 'bbox', 'segm' or both.
        kwargs: Arguments of :class:`mmdet.evaluation.CocoMetric`.
    """
    default_prefix = 'coco'
    prediction = 'pred_instances'

    def __init__(self,
                 ann_file: Optional[str] = None,
                 metric: Any = ('bbox', 'segm'),
                 **kwargs) -> None:
        metric = [metric] if isinstance(metric, str) else list(metric)
        try:
            with redirect_stdout(io.StringIO()):
                super().__init__(ann_file=ann_file, metric=metric, **kwargs)
            if ann_file is not None:
                for key in ('images', 'annotations', 'categories'):
                    self._coco_api.dataset[key]
        except (OSError, ValueError, KeyError) as error:
            if ann_file is None:
                raise
            raise PanopticError(
                f'PanopticInstanceAPMetric.ann_file={ann_file}: cannot be '
                f'read as an instances JSON ({error}). Correct the path, or '
                'set ann_file=None to derive the ground truth from the '
                'panoptic annotation.') from None
        self.ann_file = ann_file

    @property
    def note(self) -> Optional[str]:
        """What a table must say beside these scores."""
        return None if self.ann_file is not None else DERIVED

    @property
    def keys(self) -> Sequence[str]:
        items = self.metric_items or [
            'mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l'
        ]
        return [
            f'{metric}_{item}' for metric in self.metrics
            if metric in ('bbox', 'segm') for item in items
        ]

    def image_row(self, sample: Dict) -> Dict:
        """Detections with RLEs, the size of the image and its instances.

        Raises:
            PanopticError: A label is no thing, masks have not the image's
                size, or there is nothing to compare with.
        """
        space = self.space
        shape = tuple(int(n) for n in sample['ori_shape'][:2])
        row = dict(
            result=self._detections(sample, shape, space.num_things),
            height=shape[0],
            width=shape[1])
        if self.ann_file is None and not self.format_only:
            truth, codes, crowd = self.ground_truth(
                sample, 'Give the dataset its annotation file, or name an '
                'instances JSON with ann_file.')
            check_same_shape(sample, 'ori_shape', shape, truth.shape)
            row['truth'] = instance_truth(truth, codes, crowd,
                                          space.num_things)
        return row

    def _detections(self, sample: Dict, shape: Tuple[int, int],
                    num_things: int) -> Dict:
        """Boxes, scores, labels and RLEs of one image of (h, w) pixels."""
        pred = sample[self.prediction]
        result = {
            key: to_array(pred[key])
            for key in ('bboxes', 'scores', 'labels')
        }
        check_thing_labels(sample, result['labels'], num_things)
        masks = pred.get('masks')
        if isinstance(masks, (torch.Tensor, np.ndarray)):
            masks = to_array(masks)
            if len(masks):
                check_same_shape(sample, 'pred_instances.masks',
                                 masks.shape[1:], shape)
            masks = [encode_mask(mask) for mask in masks]
        if masks is not None:
            result['masks'] = masks
        return result

    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """CocoMetric's scores, NaN instead of its -1.

        Raises:
            PanopticError: Image ids of both types, images that are missing in
                ``ann_file`` or have another size there.
        """
        scores = {key: float('nan') for key in self.keys}
        space = self.space
        if space.num_things == 0:
            return {} if self.format_only else scores
        check_id_types([image_id for image_id, _ in rows])
        if self.note and not self.format_only:
            print_log(f'{self.note}.', logger='current')
        truth, category_ids = self._truth(rows, space)
        # CocoMetric lists classes in the order of cat_ids, COCOeval by id.
        order = np.argsort(category_ids)
        rank = np.argsort(order)
        pairs = [(None,
                  dict(
                      row['result'],
                      img_id=image_id,
                      labels=rank[row['result']['labels']]))
                 for image_id, row in rows]
        self.img_ids = [image_id for image_id, _ in rows]
        self.cat_ids = [category_ids[i] for i in order]
        scores.update(self._evaluate_pairs(pairs, truth))
        if self.format_only:
            return {}
        return {k: v if v >= 0 else float('nan') for k, v in scores.items()}

    def _evaluate_pairs(self, pairs: List, truth: COCO) -> Dict[str, float]:
        """CocoMetric's own evaluation, without pycocotools' prints."""
        kept = self._coco_api, self.metrics
        self._coco_api = truth
        if not all('masks' in result for _, result in pairs):
            self.metrics = [m for m in self.metrics if m != 'segm']
        try:
            with redirect_stdout(io.StringIO()):
                return CocoMetric.compute_metrics(self, pairs)
        finally:
            self._coco_api, self.metrics = kept

    def _truth(self, rows: List[Row],
               space: LabelSpace) -> Tuple[COCO, List[int]]:
        """Index of the ground truth, and category id of each thing."""
        if self.ann_file is None:
            dataset = derived_dataset(rows, space)
            ids = list(space.category_ids[:space.num_things])
        else:
            dataset = self._coco_api.dataset
            check_images(rows, dataset['images'], self.ann_file)
            ids = thing_category_ids(space, dataset['categories'],
                                     self.ann_file)
        with redirect_stdout(io.StringIO()):
            return GroundTruth(dataset), ids
