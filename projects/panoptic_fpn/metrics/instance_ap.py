"""Box and mask AP of the region branch, with the scores of CocoMetric.

In    ``pred_instances``: boxes (n, 4) as x1, y1, x2, y2 in pixels of the
      original image, scores (n, ), labels (n, ) 0..T-1, masks (n, h, w) bool
Row   of an image: boxes, scores, labels, RLEs; and, where no instances JSON is
      named, the RLEs of the ground truth; see ``instance_rows.py``
Out   mmdet's keys (``bbox_mAP``, ``segm_mAP_50``, ...), fractions

Without an instances JSON, the things of ``gt_panoptic_seg`` are the ground
truth. They do not overlap, unlike the polygons of an instances JSON, so the
log and the table call this AP derived.
"""
import io
from contextlib import redirect_stdout
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS
from mmengine.logging import print_log
from pycocotools.cocoeval import COCOeval
from torch import nn

from mmengine_exact.errors import InputError

from ..ops.run_length import encode_mask
from .by_class import ByClass
from .coco_ap import STATS, Part, choose_backend, evaluate_parts
from .instance_rows import (Detections, ImageRow, Table, detection_entries,
                            join_instances, join_rles, split_rles)
from .instance_truth import (DerivedTruth, GroundTruth, NamedTruth,
                             check_id_types, check_images, check_mask_sizes,
                             instance_truth, read_instances,
                             thing_category_ids)
from .per_image import (PerImageMetric, Row, check_same_shape,
                        check_thing_labels, format_classwise,
                        require_all_instances, to_array)
from .semantic_iou import mean_of_known

#: Classes are judged together until they have so many detections: what the
#: annotations of one take (some 4 kB at the peak) is then bounded.
PART = 50_000

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
        InputError: ``ann_file`` cannot be read, or there is no such
            metric, score or backend.
    """
    default_prefix = 'coco'
    prediction = 'pred_instances'

    def __init__(self,
                 ann_file: Optional[str] = None,
                 metric: Union[str, Sequence[str]] = ('bbox', 'segm'),
                 backend: Optional[str] = None,
                 **kwargs: Any) -> None:
        metric = [metric] if isinstance(metric, str) else list(metric)
        self.backend = choose_backend(backend)
        self._check_names('metric', metric, ('bbox', 'segm'))
        self._check_names('metric_items', kwargs.get('metric_items'), STATS)
        try:
            with redirect_stdout(io.StringIO()):
                super().__init__(metric=metric, **kwargs)
                if ann_file is not None:
                    self._coco_api = GroundTruth(
                        read_instances(ann_file, self.backend_args, 'segm'
                                       in metric))
        except ValueError as error:
            if ann_file is None:
                raise
            raise InputError(
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
            raise InputError(
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

    def image_row(self, sample: Dict) -> ImageRow:
        """Detections with RLEs, the size of the image and its instances.

        Raises:
            InputError: A label is no thing, masks have not the image's
                size, or there is nothing to compare with.
        """
        num_things = self.space.num_things
        height, width = map(int, sample['ori_shape'][:2])
        shape = height, width
        found, instances = self._detections(sample, shape, num_things), None
        if self.ann_file is None and not self.format_only:
            truth, codes, crowd = self.ground_truth(
                sample, 'Give the dataset its annotation file, or name an '
                'instances JSON with ann_file.')
            check_same_shape(sample, 'ori_shape', shape, truth.shape)
            instances = join_instances(
                instance_truth(truth, codes, crowd, num_things), shape)
        return ImageRow(height, width, found, instances)

    def _detections(self, sample: Dict, shape: Tuple[int, int],
                    num_things: int) -> Detections:
        """Boxes, scores, labels and RLEs of one image of (h, w) pixels;
        copies, as views would keep what they are taken from."""
        pred = sample[self.prediction]
        labels = to_array(pred['labels'])
        check_thing_labels(sample, labels, num_things)
        masks = pred.get('masks')
        if isinstance(masks, (torch.Tensor, np.ndarray)):
            masks = to_array(masks)
            if len(masks):
                check_same_shape(sample, 'pred_instances.masks',
                                 masks.shape[1:], shape)
            masks = [encode_mask(mask) for mask in masks]
        return Detections(
            labels=labels.astype(np.int16),
            boxes=np.array(to_array(pred['bboxes'])).reshape(-1, 4),
            scores=np.array(to_array(pred['scores'])),
            masks=None if masks is None else join_rles(masks, shape))

    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """CocoMetric's scores, NaN instead of its -1.

        Raises:
            InputError: Image ids of both types, images that are missing in
                ``ann_file`` or have another size there.
        """
        scores = {key: float('nan') for key in self.keys}
        space = self.space
        if space.num_things == 0:
            return {} if self.format_only else scores
        check_id_types([image_id for image_id, _ in rows])
        if self.note and not self.format_only:
            print_log(f'{self.note}.', logger='current')
        ids = list(space.category_ids[:space.num_things])
        if self.ann_file is not None:
            dataset = self._coco_api.dataset
            check_images(rows, dataset['images'], self.ann_file)
            if 'segm' in self.metrics:
                check_mask_sizes(rows, dataset['annotations'], self.ann_file)
            ids = thing_category_ids(space, dataset['categories'],
                                     self.ann_file)
        if self.outfile_prefix is not None:
            self._write(rows, ids)
        if self.format_only:
            return {}
        scores.update(self._evaluate_rows(rows, ids))
        return {k: v if v >= 0 else float('nan') for k, v in scores.items()}

    def _write(self, rows: List[Row], category_ids: Sequence[int]) -> None:
        """Files of the results, as CocoMetric writes them."""
        self.cat_ids = list(category_ids)
        results = []
        for image_id, row in rows:
            labels, boxes, scores, masks = row.found
            result = dict(
                img_id=image_id, labels=labels, bboxes=boxes, scores=scores)
            if masks is not None:
                result['masks'] = split_rles(masks, (row.height, row.width))
            results.append(result)
        self.results2json(results, self.outfile_prefix)

    def _evaluate_rows(self, rows: List[Row],
                       category_ids: Sequence[int]) -> Dict[str, float]:
        """Scores of the rows of all images, -1 where there is none.

        Args:
            rows (list[tuple]): Image ids and rows.
            category_ids (Sequence[int]): Of each thing.
        """
        found = Table([row.found for _, row in rows],
                      [(row.height, row.width) for _, row in rows])
        scores = {}
        self.by_class: ByClass = {}
        for metric in self.metrics:
            if metric == 'segm' and not found.has_masks:
                continue
            with redirect_stdout(io.StringIO()):
                judged = evaluate_parts(
                    self._parts(rows, found, category_ids, metric),
                    metric,
                    self.backend,
                    maxDets=list(self.proposal_nums),
                    iouThrs=np.array(self.iou_thrs))
            stats = dict(zip(STATS, judged.stats))
            scores.update({
                f'{metric}_{item}': float(round(stats[item], 3))
                for item in self.metric_items or STATS[:6]
            })
            # COCOeval lists classes by id
            names = [
                self.space.thing_names[i] for i in np.argsort(category_ids)
            ]
            known = self._class_scores(metric, judged, names)
            for name, value in known.items():
                self.by_class.setdefault(name, {})[f'{metric}_AP'] = value
            if self.classwise:
                scores.update({
                    f'{name}_precision': float(np.round(value, 3))
                    for name, value in known.items()
                })
        return scores

    def _class_scores(self, metric: str, judged: COCOeval,
                      names: Sequence[str]) -> Dict[str, float]:
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
        if self.classwise:
            print_log(
                format_classwise(f'AP by class, {metric}', names, {
                    k: 100 * np.array(v)
                    for k, v in columns.items()
                }),
                logger='current')
        return dict(zip(names, columns['AP']))

    def _parts(self, rows: List[Row], found: Table,
               category_ids: Sequence[int], metric: str) -> Iterator[Part]:
        """Classes by their ids, as many together as have no more than
        ``PART`` detections, with the images where they occur."""
        ids = [image_id for image_id, _ in rows]
        if self.ann_file is None:
            truth: Union[DerivedTruth,
                         NamedTruth] = DerivedTruth(rows, category_ids)
        else:
            truth = NamedTruth(rows, category_ids,
                               self._coco_api.dataset['annotations'])
        place = {image_id: i for i, image_id in enumerate(ids)}
        order = np.argsort(category_ids).tolist()
        if not truth.separable:
            yield Part(
                GroundTruth(self._coco_api.dataset),
                detection_entries(found, np.arange(len(found.labels)), ids,
                                  category_ids, metric), ids,
                [category_ids[i] for i in order])
            return
        numbers = np.bincount(found.labels, minlength=len(order)).tolist()
        for labels in joined_classes(order, numbers, PART):
            chosen = np.flatnonzero(np.isin(found.labels, labels))
            annotations = truth.annotations(labels)
            places = set(found.image[chosen].tolist())
            places.update(place[ann['image_id']] for ann in annotations)
            images = sorted(places) or [0]
            yield Part(
                GroundTruth(
                    dict(
                        images=[
                            dict(
                                id=ids[i],
                                height=rows[i][1].height,
                                width=rows[i][1].width) for i in images
                        ],
                        annotations=annotations,
                        categories=[
                            dict(
                                id=category_ids[i],
                                name=self.space.thing_names[i]) for i in labels
                        ])),
                detection_entries(found, chosen, ids, category_ids, metric),
                [ids[i] for i in images], [category_ids[i] for i in labels])


def joined_classes(order: Sequence[int], numbers: Sequence[int],
                   most: int) -> Iterator[List[int]]:
    """Neighbours, as long as they have no more than ``most`` detections
    together; a class that has more is alone.

    Args:
        order (Sequence[int]): Labels in the order to keep.
        numbers (Sequence[int]): Detections of each label.
        most (int): See above.
    """
    joined: List[int] = []
    total = 0
    for label in map(int, order):
        if joined and total + numbers[label] > most:
            yield joined
            joined, total = [], 0
        joined.append(label)
        total += numbers[label]
    if joined:
        yield joined
