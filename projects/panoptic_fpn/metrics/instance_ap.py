"""Box and mask AP of the region branch, with the scores of CocoMetric.

In    ``pred_instances``: boxes (n, 4) as x1, y1, x2, y2 in pixels of the
      original image, scores (n, ), labels (n, ) 0..T-1, masks (n, h, w) bool
Row   of an image: its size, boxes, scores, labels and RLEs; and, where no
      instances JSON is named, the instances of the ground truth
Out   mmdet's keys (``bbox_mAP``, ``segm_mAP_50``, ...), fractions

Without an instances JSON, the things of ``gt_panoptic_seg`` are the ground
truth. They do not overlap, unlike the polygons of an instances JSON, so the
log and the table call this AP derived.

An instance as Python objects (dict, list, numbers, RLE) takes twice the
memory of what they say. So a row holds arrays and all RLEs of an image as one
string of bytes; dicts are made of one image at a time.
"""
import io
from contextlib import redirect_stdout
from itertools import count
from typing import (Any, Dict, Iterator, List, NamedTuple, Optional, Sequence,
                    Tuple, Union)

import numpy as np
from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS
from mmengine.logging import print_log
from pycocotools.cocoeval import COCOeval

from ..ops.run_length import encode_segments, segment_boxes
from ..ops.to_host import encode_masks, to_array
from .base import (PerImageMetric, Row, check_labels, check_same_shape,
                   labels_of_codes, log_classes, mean_of_known)
from .coco_ap import (STATS, CocoImage, InstancesFile, choose_backend,
                      evaluate_images)

#: What the log and the table say of AP without an instances JSON.
DERIVED = 'AP (ground truth derived from the panoptic annotation)'


class Instances(NamedTuple):
    """Instances of an image, detected or annotated."""

    #: int16 (n, ), 0..T-1.
    labels: np.ndarray
    #: (n, 4) in pixels: x1, y1, x2, y2 of detections; x, y, width, height of
    #: the ground truth.
    boxes: np.ndarray
    #: (n, ), scores of detections, areas of the ground truth's masks.
    values: np.ndarray
    #: bool (n, ), of the ground truth.
    crowd: Optional[np.ndarray]
    #: The counts of n compressed RLEs, with blanks between them.
    masks: Optional[bytes]


class ImageRow(NamedTuple):
    """Size (h, w) of an image and what is compared; ``truth`` is None where
    an instances JSON has it."""
    shape: Tuple[int, int]
    found: Instances
    truth: Optional[Instances]


def join_rles(rles: Sequence[Dict]) -> bytes:
    """Compressed RLEs of one image as one string of bytes."""
    counts = (rle['counts'] for rle in rles)
    return b' '.join(c.encode() if isinstance(c, str) else c for c in counts)


def split_rles(masks: bytes, shape: Tuple[int, int]) -> List[Dict]:
    """The RLEs again, as JSON holds them: ``size`` [h, w], ``counts`` str."""
    return [
        dict(size=list(shape), counts=counts)
        for counts in masks.decode().split()
    ]


def instance_truth(segments: np.ndarray, codes: np.ndarray, crowd: np.ndarray,
                   num_things: int) -> Instances:
    """Instances of a panoptic ground truth: every thing with a pixel.

    Args:
        segments, codes, crowd: See :meth:`PerImageMetric.ground_truth`.
        num_things (int): T; labels below it are things.
    """
    found, areas, boxes = segment_boxes(segments)
    kept = (labels_of_codes(codes) < num_things) & np.isin(codes, found)
    codes, index = codes[kept], np.searchsorted(found, codes[kept])
    return Instances(
        labels=labels_of_codes(codes).astype(np.int16),
        boxes=boxes[index].astype(np.int32),
        values=areas[index].astype(np.int32),
        crowd=crowd[kept],
        masks=join_rles(encode_segments(segments, codes)))


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
        backend (str, optional): 'pycocotools' or 'hotcoco', which give the
            same scores. By default hotcoco where it is installed.
        kwargs: Arguments of :class:`mmdet.evaluation.CocoMetric`;
            ``use_mp_eval`` has no effect.

    Raises:
        InputError: ``ann_file`` cannot be read, or there is no such backend.
    """
    default_prefix = 'coco'
    prediction = 'pred_instances'

    def __init__(self,
                 ann_file: Optional[str] = None,
                 metric: Union[str, Sequence[str]] = ('bbox', 'segm'),
                 backend: Optional[str] = None,
                 **kwargs: Any) -> None:
        metric = [metric] if isinstance(metric, str) else list(metric)
        super().__init__(metric=metric, **kwargs)
        self.backend = choose_backend(backend)
        self.items = self.metric_items or STATS[:6]
        self.keys = [
            f'{kind}_{item}' for kind in metric for item in self.items
        ]
        self.instances: Optional[InstancesFile] = None
        if ann_file is not None:
            self.instances = InstancesFile(ann_file, self.backend_args, 'segm'
                                           in metric)

    @property
    def note(self) -> Optional[str]:
        """Note for a table of these scores."""
        return DERIVED if self.instances is None else None

    @property
    def needs_truth(self) -> bool:
        return self.instances is None and super().needs_truth

    def check_images(self, images: Sequence[Dict]) -> None:
        """Refuse an instances JSON of other images or classes."""
        self._category_ids({
            image['img_id']: (image['height'], image['width'])
            for image in images
        })

    def _category_ids(self, sizes: Dict[Any, Tuple[int, int]]) -> List:
        """Category id of each thing in the ground truth of images of these
        sizes (h, w)."""
        names = self.space.thing_names
        if self.instances is None or not names:
            return list(self.space.category_ids[:len(names)])
        self.instances.check_images(sizes)
        return self.instances.category_ids(names)

    def image_row(self, sample: Dict) -> ImageRow:
        """Detections with RLEs, the size of the image and its instances."""
        height, width = map(int, sample['ori_shape'][:2])
        found, truth = self._detections(sample, (height, width)), None
        if self.needs_truth:
            truth = instance_truth(
                *self.ground_truth(sample, shape=(height, width)),
                self.space.num_things)
        return ImageRow((height, width), found, truth)

    def _detections(self, sample: Dict, shape: Tuple[int, int]) -> Instances:
        """Detections of one image of (h, w) pixels; copies, since views would
        keep the whole arrays alive."""
        pred = sample[self.prediction]
        labels = to_array(pred['labels'])
        check_labels(labels, self.space.num_things, 'thing label')
        masks = pred.get('masks')
        if masks is not None:
            masks = encode_masks(masks)
        for rle in masks or ():
            check_same_shape(sample, 'pred_instances.masks', rle['size'],
                             shape)
        return Instances(
            labels=labels.astype(np.int16),
            boxes=np.array(to_array(pred['bboxes'])).reshape(-1, 4),
            values=np.array(to_array(pred['scores'])),
            crowd=None,
            masks=None if masks is None else join_rles(masks))

    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """CocoMetric's scores, NaN instead of its -1."""
        scores = {key: float('nan') for key in self.keys}
        if not self.space.thing_names:
            return {} if self.format_only else scores
        category_ids = self._category_ids({i: row.shape for i, row in rows})
        if self.needs_truth:
            print_log(f'{DERIVED}.', logger='current')
        if self.outfile_prefix is not None:
            self._write(rows, category_ids)
        if self.format_only:
            return {}
        self.by_class = {}
        has_masks = all(row.found.masks is not None for _, row in rows)
        for kind in self.metrics:
            if kind == 'bbox' or has_masks:
                scores.update(self._scores(rows, category_ids, kind))
        return {k: v if v >= 0 else float('nan') for k, v in scores.items()}

    def _write(self, rows: List[Row], category_ids: List) -> None:
        """Files of the results, as CocoMetric writes them."""
        self.cat_ids = category_ids
        results = []
        for image_id, (shape, found, _) in rows:
            result = dict(
                img_id=image_id,
                labels=found.labels,
                bboxes=found.boxes,
                scores=found.values)
            if found.masks is not None:
                result['masks'] = split_rles(found.masks, shape)
            results.append(result)
        self.results2json(results, self.outfile_prefix)

    def _scores(self, rows: List[Row], category_ids: List,
                kind: str) -> Dict[str, float]:
        """Scores of 'bbox' or 'segm', -1 where there is none; also by class.
        """
        # COCOeval lists classes by their ids
        order = np.argsort(category_ids).tolist()
        names = [self.space.thing_names[label] for label in order]
        with redirect_stdout(io.StringIO()):
            judged = evaluate_images(
                self._images(rows, category_ids, order, kind),
                len(order),
                kind,
                self.backend,
                maxDets=list(self.proposal_nums),
                iouThrs=np.array(self.iou_thrs))
        stats = dict(zip(STATS, judged.stats))
        scores = {
            f'{kind}_{item}': float(round(stats[item], 3))
            for item in self.items
        }
        columns = class_columns(judged)
        for name, value in zip(names, columns['AP']):
            self.by_class.setdefault(name, {})[f'{kind}_AP'] = value
            if self.classwise:
                scores[f'{name}_precision'] = float(np.round(value, 3))
        if self.classwise:
            percent = {k: 100 * np.array(v) for k, v in columns.items()}
            log_classes(f'AP by class, {kind}', names, percent)
        return scores

    def _images(self, rows: List[Row], category_ids: List, order: List[int],
                kind: str) -> Iterator[CocoImage]:
        """Images with what is judged of them; numbers of classes follow
        ``order``, a list of labels."""
        number_of = np.argsort(order) + 1
        known = {category_ids[label]: int(number_of[label]) for label in order}
        ids = count(1)
        for image_id, (shape, found, truth) in rows:
            if self.instances is None:
                annotations = entries(truth, shape, number_of, kind)
            else:
                annotations = self.instances.annotations(
                    image_id, shape, known, kind == 'segm')
            for entry in annotations:
                entry['id'] = next(ids)
            yield shape, annotations, entries(found, shape, number_of, kind)


def entries(instances: Optional[Instances], shape: Tuple[int, int],
            number_of: np.ndarray, kind: str) -> List[Dict]:
    """Instances of an image as in COCO's JSON files.

    Detections have either ``bbox`` or ``segmentation``, as areas are those of
    what is judged.

    Args:
        instances (Instances): Annotations, or detections.
        shape (tuple[int, int]): Size (h, w) of the image.
        number_of (np.ndarray): (T, ), category id of each label.
        kind (str): 'bbox' or 'segm'.
    """
    assert instances is not None
    labels, boxes, values, crowd, masks = instances
    columns: Dict[str, Sequence] = dict(category_id=number_of[labels].tolist())
    if crowd is not None:
        columns.update(
            bbox=boxes.tolist(),
            area=values.tolist(),
            iscrowd=crowd.astype(int).tolist())
    else:
        columns['score'] = values.tolist()
        if kind == 'bbox':
            boxes = boxes.astype(np.float64)
            boxes[:, 2:] -= boxes[:, :2]
            columns['bbox'] = boxes.tolist()
    if kind == 'segm':
        assert masks is not None  # every image has them
        columns['segmentation'] = split_rles(masks, shape)
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def class_columns(judged: COCOeval) -> Dict[str, List[float]]:
    """AP of each class: all, at two overlaps, and by size; NaN where there is
    nothing to find."""
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
    return {
        name: [mean_of_known(part[:, :, i]) for i in range(part.shape[2])]
        for name, part in parts.items()
    }
