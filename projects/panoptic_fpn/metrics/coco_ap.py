"""AP of COCO's protocol: pycocotools' numbers from one of two backends.

In    COCO index of the ground truth, detections as in a COCO results JSON
Out   ``stats`` (12, ) and ``eval`` of ``pycocotools.cocoeval.COCOeval``

'pycocotools' goes through images, classes and areas in Python, on one core
while all other processes of an evaluation wait. 'hotcoco' does that in
compiled code; its precision and recall are the same to the last bit, which
the tests hold. The scores are pycocotools' means of them in both cases.
"""
from importlib.util import find_spec
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence

import numpy as np
from mmdet.datasets.api_wrappers import COCO
from pycocotools.cocoeval import COCOeval

from mmengine_exact.errors import InputError

BACKENDS = ('pycocotools', 'hotcoco')

#: mmdet's names of the entries of ``stats``.
STATS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l', 'AR@100',
         'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000')


def choose_backend(name: Optional[str] = None) -> str:
    """A backend that is installed.

    Args:
        name (str, optional): One of ``BACKENDS``. By default hotcoco where
            it is installed.

    Raises:
        InputError: There is no such backend, or it is not installed.
    """
    installed = find_spec('hotcoco') is not None
    if name is None:
        return 'hotcoco' if installed else 'pycocotools'
    if name not in BACKENDS:
        raise InputError(
            f'PanopticInstanceAPMetric.backend={name!r}: choose one of '
            f'{list(BACKENDS)}, or leave it out.')
    if name == 'hotcoco' and not installed:
        raise InputError(
            "PanopticInstanceAPMetric.backend='hotcoco' is not installed: "
            'pip install hotcoco, or leave backend out for pycocotools.')
    return name


def as_text(rle: Dict) -> Dict:
    """A compressed RLE as JSON holds it."""
    counts = rle['counts']
    if isinstance(counts, bytes):
        counts = counts.decode()
    return dict(size=rle['size'], counts=counts)


def coco_evaluation(truth: COCO, found: List[Dict], iou_type: str,
                    backend: str, **params: Any) -> COCOeval:
    """Evaluate detections; prints as pycocotools does.

    Args:
        truth (COCO): Index of the ground truth.
        found (list[dict]): Detections as in a COCO results JSON; an entry has
            either its box or its mask, as areas are those of what is judged.
        iou_type (str): 'bbox' or 'segm'.
        backend (str): One of ``BACKENDS``.
        params: Attributes of pycocotools' ``Params``: ``imgIds``, ``catIds``,
            ``maxDets``, ``iouThrs``.

    Returns:
        COCOeval: With ``stats`` and ``eval``.
    """
    if backend == 'hotcoco' and has_plain_ids(truth.dataset['annotations']):
        judged = HotCOCOeval(truth, found, iou_type)
    else:
        judged = COCOeval(truth, truth.loadRes(found), iou_type)
    for name, value in params.items():
        setattr(judged.params, name, value)
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    return judged


class Part(NamedTuple):
    """Some classes, and all there is of them.

    Attributes:
        truth (COCO): Index of their ground truth.
        found (list[dict]): Their detections, as in a COCO results JSON.
        image_ids (Sequence): Images to evaluate, at least those where the
            ground truth or the detections have one of the classes.
        category_ids (Sequence): The classes.
    """
    truth: COCO
    found: List[Dict]
    image_ids: Sequence
    category_ids: Sequence


def evaluate_parts(parts: Iterable[Part], iou_type: str, backend: str,
                   **params: Any) -> COCOeval:
    """Evaluate classes part by part, with the numbers of all at once.

    No class has an influence on another one, and neither has an image on
    classes that do not occur in it. So the memory is that of one part.

    Args:
        parts (Iterable[Part]): The ids of their categories ascend, also from
            part to part. Each is dropped before the next one is asked for.
        iou_type, backend, params: As for :func:`coco_evaluation`.

    Returns:
        COCOeval: With ``stats`` and the ``eval`` of all classes.
    """
    whole = COCOeval(iouType=iou_type)
    precision, recall, category_ids = [], [], []
    for part in parts:
        judged = coco_evaluation(
            part.truth,
            part.found,
            iou_type,
            backend,
            imgIds=part.image_ids,
            catIds=part.category_ids,
            **params)
        precision.append(judged.eval['precision'])
        recall.append(judged.eval['recall'])
        category_ids += judged.params.catIds
        whole.params = judged.params
        del part, judged
    whole.params.catIds = category_ids
    # (overlaps, recalls, classes, areas, numbers of detections)
    whole.eval = dict(
        precision=np.concatenate(precision, axis=2),
        recall=np.concatenate(recall, axis=1))
    whole.summarize()
    return whole


def has_plain_ids(annotations: Sequence[Dict]) -> bool:
    """Whether pycocotools gives each annotation its own due: it takes the id
    0 for 'unmatched' and the last of several equal ids for all of them."""
    ids = {ann['id'] for ann in annotations}
    return 0 not in ids and len(ids) == len(annotations)


class HotCOCOeval(COCOeval):
    """pycocotools' evaluation with hotcoco's matching and accumulation.

    Images and categories are numbered from 1 in the order of their ids, which
    may be strings. The masks of the ground truth are encoded by pycocotools,
    so that polygons mean the same pixels.

    Args:
        truth (COCO): Index of the ground truth.
        found (list[dict]): Detections, where pycocotools takes their index.
        iou_type (str): 'bbox' or 'segm'.
    """

    def evaluate(self) -> None:
        """Nothing: :meth:`accumulate` does both."""

    def accumulate(self) -> None:
        """Fill ``eval``."""
        import hotcoco
        params = self.params
        params.imgIds = np.unique(params.imgIds).tolist()
        params.catIds = np.unique(params.catIds).tolist()
        params.maxDets = sorted(params.maxDets)
        truth = hotcoco.COCO(self._truth())
        found = truth.load_res(self._numbered(self.cocoDt))
        judged = hotcoco.COCOeval(truth, found, params.iouType)
        judged.params.max_dets = params.maxDets
        judged.params.iou_thrs = list(params.iouThrs)
        judged.evaluate()
        judged.accumulate()
        counts = [
            len(axis)
            for axis in (params.iouThrs, params.recThrs, params.catIds,
                         params.areaRng, params.maxDets)
        ]
        assert judged.eval is not None  # it was accumulated
        precision, recall = (
            np.array(judged.eval[key]) for key in ('precision', 'recall'))
        self.eval = dict(
            params=params,
            counts=counts,
            precision=precision.reshape(counts),
            recall=recall.reshape(counts[:1] + counts[2:]))

    def _numbered(self, anns: Sequence[Dict]) -> List[Dict]:
        """Those of the evaluated images and categories, by their numbers."""
        images = {id_: i for i, id_ in enumerate(self.params.imgIds, 1)}
        categories = {id_: i for i, id_ in enumerate(self.params.catIds, 1)}
        return [
            dict(
                ann,
                image_id=images[ann['image_id']],
                category_id=categories[ann['category_id']]) for ann in anns
            if ann['image_id'] in images and ann['category_id'] in categories
        ]

    def _truth(self) -> Dict:
        """What is evaluated of the ground truth, as a dict."""
        coco, iou_type = self.cocoGt, self.params.iouType
        judged = []
        for ann in coco.loadAnns(coco.getAnnIds(self.params.imgIds)):
            kept = {
                key: ann[key]
                for key in ('image_id', 'category_id', 'area', 'iscrowd')
            }
            # that of masks is counted from masks
            kept['bbox'] = (
                ann['bbox'] if iou_type == 'bbox' else ann.get(
                    'bbox', [0, 0, 0, 0]))
            if iou_type == 'segm':
                kept['segmentation'] = as_text(coco.annToRLE(ann))
            judged.append(kept)
        judged = self._numbered(judged)
        sizes = [coco.imgs[id_] for id_ in self.params.imgIds]
        return dict(
            images=[
                dict(id=i, height=s.get('height', 1), width=s.get('width', 1))
                for i, s in enumerate(sizes, 1)
            ],
            annotations=[dict(a, id=i) for i, a in enumerate(judged, 1)],
            categories=[
                dict(id=i, name=str(i))
                for i in range(1,
                               len(self.params.catIds) + 1)
            ])
