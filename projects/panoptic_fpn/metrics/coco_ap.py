"""AP of COCO's protocol: pycocotools' numbers from one of two backends.

In    images one after the other: size (h, w), annotations and detections as
      in COCO's JSON files
Out   ``stats`` (12, ) and ``eval`` of ``pycocotools.cocoeval.COCOeval``

'hotcoco' matches each image as it comes, in compiled code, and keeps the
matches alone; 'pycocotools' takes all images at once and goes through them in
Python. Precision and recall are the same to the last bit, as the tests check.
The scores are pycocotools' means of them in both cases.
"""
import logging
from collections import Counter
from importlib.util import find_spec
from typing import Any, Dict, Iterable, List, Optional, Tuple

import numpy as np
from mmdet.datasets.api_wrappers import COCO
from mmengine.logging import print_log
from pycocotools.cocoeval import COCOeval

from mmengine_exact.errors import InputError
from mmengine_exact.files import read_bytes

from ..coco_format import instances_faults, parse_object, raise_first
from ..coco_format.segmentations import to_rle

#: mmdet's names of the entries of ``stats``.
STATS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l', 'AR@100',
         'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000')

#: Size (h, w), annotations, detections. Annotations have ``id``,
#: ``category_id`` from 1, ``iscrowd``, ``area``, ``bbox`` and, for masks,
#: ``segmentation`` (RLE); detections ``category_id``, ``score`` and either
#: ``bbox`` or ``segmentation``, as areas are those of what is judged.
CocoImage = Tuple[Tuple[int, int], List[Dict], List[Dict]]


def default_backend() -> str:
    """'hotcoco' where it is installed, else 'pycocotools'."""
    return 'hotcoco' if find_spec('hotcoco') else 'pycocotools'


def evaluate_images(images: Iterable[CocoImage], num_classes: int,
                    iou_type: str, backend: str, **params: Any) -> COCOeval:
    """Evaluate detections; prints as pycocotools does.

    Args:
        images (Iterable[tuple]): All images.
        num_classes (int): Category ids are 1..num_classes.
        iou_type (str): 'bbox' or 'segm'.
        backend (str): 'hotcoco' or 'pycocotools'.
        params: ``maxDets`` and ``iouThrs`` of pycocotools' ``Params``.
    """
    judged = COCOeval(iouType=iou_type)
    vars(judged.params).update(params)
    judged.params.catIds = list(range(1, num_classes + 1))
    evaluate = dict(hotcoco=_by_hotcoco, pycocotools=_by_pycocotools)[backend]
    evaluate(images, judged)
    judged.summarize()
    return judged


def _by_hotcoco(images: Iterable[CocoImage], judged: COCOeval) -> None:
    from hotcoco import Params, StreamingEval
    asked = judged.params
    params = Params(asked.iouType)
    params.max_dets = sorted(asked.maxDets)
    params.iou_thrs = list(asked.iouThrs)
    stream = StreamingEval(_categories(judged), asked.iouType, params=params)
    for number, image in enumerate(images, 1):
        stream.update(*_numbered(number, *image))
    found = stream.finalize()
    found.accumulate()
    shape = [
        len(axis) for axis in (asked.iouThrs, asked.recThrs, asked.catIds,
                               asked.areaRng, asked.maxDets)
    ]
    assert found.eval is not None  # accumulate() sets it
    judged.eval = dict(
        precision=np.array(found.eval['precision']).reshape(shape),
        recall=np.array(found.eval['recall']).reshape(shape[:1] + shape[2:]))


def _by_pycocotools(images: Iterable[CocoImage], judged: COCOeval) -> None:
    truth = COCO()
    dataset: Dict[str, List] = dict(
        images=[], annotations=[], categories=_categories(judged))
    detections: List[Dict] = []
    for number, image in enumerate(images, 1):
        images_, annotations, found = _numbered(number, *image)
        dataset['images'] += images_
        dataset['annotations'] += annotations
        detections += found
    truth.dataset = dataset
    truth.createIndex()
    # pycocotools fails on an empty list; category -1 is not evaluated
    nothing = dict(image_id=1, category_id=-1, bbox=[0, 0, 1, 1], score=0.)
    judged.cocoGt = truth
    judged.cocoDt = truth.loadRes(detections or [nothing])
    judged.params.imgIds = [image['id'] for image in dataset['images']]
    judged.evaluate()
    judged.accumulate()


def _categories(judged: COCOeval) -> List[Dict]:
    return [dict(id=id_, name=str(id_)) for id_ in judged.params.catIds]


def _numbered(number: int, shape: Tuple[int, int], annotations: List[Dict],
              found: List[Dict]) -> Tuple[List[Dict], List[Dict], List[Dict]]:
    """One image with its number as id, which may be a string elsewhere."""
    for entry in annotations + found:
        entry['image_id'] = number
    image = dict(id=number, height=shape[0], width=shape[1])
    return [image], annotations, found


class InstancesFile:
    """Ground truth of an instances JSON.

    It is logged where pycocotools would misread the ids of annotations, which
    do not matter here.

    Args:
        path (str): The file.
        backend_args (dict, optional): Arguments of mmengine's fileio.
        masks (bool): Whether masks are evaluated, not boxes alone.

    Raises:
        InputError: The file cannot be read, or an entry has a value that
            pycocotools would stop at or count wrongly.
    """

    def __init__(self, path: str, backend_args: Optional[dict],
                 masks: bool) -> None:
        content = raise_first(
            instances_faults(
                parse_object(
                    read_bytes(path, 'instances JSON', backend_args), path),
                path,
                scored=True,
                masks=masks))
        self.path = path
        self._categories = content['categories']
        self._images = {image['id']: image for image in content['images']}
        self._annotations: Dict[Any, List[Dict]] = {}
        for entry in content['annotations']:
            self._annotations.setdefault(entry['image_id'], []).append(entry)
        counts = Counter(entry['id'] for entry in content['annotations'])
        wrong = [i for i, count in counts.items() if count > 1 or i == 0]
        if wrong:
            print_log(
                f'{path}: annotation ids are 0 or occur several times, such '
                f'as {wrong[0]!r}. Annotations are numbered anew here; '
                'pycocotools would take 0 for "no match" and compute another '
                'AP: count from 1 in the file, too.',
                logger='current',
                level=logging.WARNING)

    def category_ids(self, names: Iterable[str]) -> List:
        """Category id of each class, found by its name."""
        ids: Dict[str, List] = {}
        for category in self._categories:
            ids.setdefault(category['name'], []).append(category['id'])
        wrong = [name for name in names if len(ids.get(name, [])) != 1]
        if wrong:
            raise InputError(
                f'{self.path}: its categories do not name the thing classes '
                f'{wrong} exactly once. Use the instances file of the same '
                'classes, or leave ann_file out to derive the ground truth.')
        return [ids[name][0] for name in names]

    def check_images(self, sizes: Dict[Any, Tuple[int, int]]) -> None:
        """Raise where images (id -> (h, w)) that are evaluated are missing
        here or have another size."""
        for image_id, size in sizes.items():
            image = self._images.get(image_id)
            stated = image and tuple(
                image.get(k) or n for k, n in zip(('height', 'width'), size))
            if stated != size:
                raise InputError(
                    f'{self.path}: image {image_id!r} is {size} (h, w) in the '
                    f'data set and {stated or "not listed"} there; the first '
                    f'id there is {next(iter(self._images), None)!r}. Use the '
                    'instances file of the same images, or leave ann_file '
                    'out to derive the ground truth.')

    def annotations(self, image_id: Any, shape: Tuple[int, int],
                    numbers: Dict[Any, int], masks: bool) -> List[Dict]:
        """Annotations of an image as :func:`evaluate_images` takes them, but
        for their ids.

        Args:
            image_id (int | str): The image.
            shape (tuple[int, int]): Its size (h, w).
            numbers (dict): Category id -> number from 1; others are left out.
            masks (bool): Whether masks are evaluated.
        """
        found = []
        for entry in self._annotations.get(image_id, ()):
            if entry['category_id'] not in numbers:
                continue
            kept = {key: entry[key] for key in ('area', 'bbox')}
            kept.update(
                category_id=numbers[entry['category_id']],
                iscrowd=int(entry['iscrowd']))
            if masks:
                kept['segmentation'] = to_rle(entry['segmentation'], shape)
            found.append(kept)
        return found
