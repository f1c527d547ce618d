"""Box and mask AP of the region branch, with the scores of CocoMetric.

In    ``pred_instances``: boxes (n, 4) as x1, y1, x2, y2 in pixels of the
      original image, scores (n, ), labels (n, ) 0..T-1, masks (n, h, w) bool
Row   of an image: boxes, scores, labels, RLEs; and, where no instances JSON is
      named, the RLEs of the ground truth
Out   mmdet's keys (``bbox_mAP``, ``segm_mAP_50``, ...), fractions

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
from pycocotools.cocoeval import COCOeval
from torch import nn

from ..errors import PanopticError
from ..labels import LabelSpace
from .coco_ap import STATS, choose_backend, coco_evaluation, list_detections
from .instance_truth import (GroundTruth, check_id_types, check_images,
                             derived_dataset, instance_truth,
                             thing_category_ids)
from .per_image import (PerImageMetric, Row, check_same_shape,
                        check_thing_labels, format_classwise,
                        require_all_instances, to_array)
from .runs import encode_mask
from .semantic_iou import mean_of_known

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
        backend (str, optional): What matches and accumulates, 'pycocotools'
            or 'hotcoco'; the scores are the same. By default hotcoco where it
            is installed, see :mod:`coco_ap`.
        kwargs: Arguments of :class:`mmdet.evaluation.CocoMetric`;
            ``use_mp_eval`` has no effect.

    Raises:
        PanopticError: ``ann_file`` cannot be read, or there is no such
            metric, score or backend.
    """
    default_prefix = 'coco'
    prediction = 'pred_instances'

    def __init__(self,
                 ann_file: Optional[str] = None,
                 metric: Any = ('bbox', 'segm'),
                 backend: Optional[str] = None,
                 **kwargs) -> None:
        metric = [metric] if isinstance(metric, str) else list(metric)
        self.backend = choose_backend(backend)
        self._check_names('metric', metric, ('bbox', 'segm'))
        self._check_names('metric_items', kwargs.get('metric_items'), STATS)
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

    @staticmethod
    def _check_names(key: str, names: Optional[Sequence[str]],
                     known: Sequence[str]) -> None:
        unknown = sorted(set(names or ()) - set(known))
        if unknown:
            raise PanopticError(
                f'PanopticInstanceAPMetric.{key}: {unknown} is not among '
                f'{list(known)}. Correct the name.')

    @property
    def note(self) -> Optional[str]:
        """What a table must say beside these scores."""
        return None if self.ann_file is not None else DERIVED

    @property
    def keys(self) -> Sequence[str]:
        items = self.metric_items or STATS[:6]
        return [
            f'{metric}_{item}' for metric in self.metrics for item in items
        ]

    def check_model(self, model: nn.Module) -> None:
        """Refuse a model that leaves instances out."""
        require_all_instances(model)

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
        # COCOeval lists classes by id, whatever the order of cat_ids.
        order = np.argsort(category_ids)
        rank = np.argsort(order)
        results = [
            dict(
                row['result'],
                img_id=image_id,
                labels=rank[row['result']['labels']]) for image_id, row in rows
        ]
        self.img_ids = [image_id for image_id, _ in rows]
        self.cat_ids = [category_ids[i] for i in order]
        scores.update(self._evaluate_results(results, truth))
        if self.format_only:
            return {}
        return {k: v if v >= 0 else float('nan') for k, v in scores.items()}

    def _evaluate_results(self, results: List[Dict],
                          truth: COCO) -> Dict[str, float]:
        """Scores of the results of all images, -1 where there is none; files
        where ``outfile_prefix`` asks for them."""
        if self.outfile_prefix is not None:
            self.results2json(results, self.outfile_prefix)
        if self.format_only:
            return {}
        scores = {}
        self.by_class = {}
        for metric in self.metrics:
            if metric == 'segm' and not all('masks' in r for r in results):
                continue
            with redirect_stdout(io.StringIO()):
                judged = coco_evaluation(
                    truth,
                    list_detections(results, self.cat_ids, metric),
                    metric,
                    self.backend,
                    imgIds=self.img_ids,
                    catIds=self.cat_ids,
                    maxDets=list(self.proposal_nums),
                    iouThrs=np.array(self.iou_thrs))
            stats = dict(zip(STATS, judged.stats))
            scores.update({
                f'{metric}_{item}': float(round(stats[item], 3))
                for item in self.metric_items or STATS[:6]
            })
            known = self._class_scores(metric, judged)
            for name, value in known.items():
                self.by_class.setdefault(name, {})[f'{metric}_AP'] = value
            if self.classwise:
                scores.update({
                    f'{name}_precision': float(np.round(value, 3))
                    for name, value in known.items()
                })
        return scores

    def _class_scores(self, metric: str, judged: COCOeval) -> Dict[str, float]:
        """AP of each class; ``classwise`` breaks it down in the log."""
        # (overlaps, recalls, classes, areas, numbers of detections)
        precision = judged.eval['precision'][..., -1]
        precision = np.where(precision > -1, precision, np.nan)
        parts = dict(
            AP=precision[..., 0],
            AP50=precision[:1, ..., 0],
            AP75=precision[5:6, ..., 0],
            APs=precision[..., 1],
            APm=precision[..., 2],
            APl=precision[..., 3])
        columns = {
            name: [mean_of_known(part[:, :, i]) for i in range(part.shape[2])]
            for name, part in parts.items()
        }
        names = [c['name'] for c in judged.cocoGt.loadCats(self.cat_ids)]
        if self.classwise:
            print_log(
                format_classwise(f'AP by class, {metric}', names, {
                    k: 100 * np.array(v)
                    for k, v in columns.items()
                }),
                logger='current')
        return dict(zip(names, columns['AP']))

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
