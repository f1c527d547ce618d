"""AP of boxes and masks: ours beside mmdet's, from the same detections.

Both get bitmaps in memory as the model leaves them, and an instances JSON,
and end with the twelve scores, which have to be equal: encoding of the masks,
matching and accumulation count. Ours has the backend that is installed.
"""
import io
import json
import logging
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import cv2
import numpy as np

from benchmarks import harness

#: Instances of a scene that are annotated.
ANNOTATED = 10


@dataclass(frozen=True)
class Case:
    """Images are a few scenes that come again under other ids."""
    height: int
    width: int
    detections: int
    classes: int
    images: int
    scenes: int

    def __str__(self) -> str:
        return (f'{self.images} images {self.width}x{self.height}, '
                f'{self.detections} masks each')


COCO = Case(480, 640, 100, 80, 100, 8)
CITYSCAPES = Case(1024, 2048, 60, 8, 20, 2)


def ellipse(case: Case, shape: np.ndarray) -> np.ndarray:
    """Mask bool (h, w) of x, y, two axes and an angle in degrees."""
    x, y, a, b, angle = shape.tolist()
    mask = np.zeros((case.height, case.width), np.uint8)
    cv2.ellipse(mask, ((x, y), (a, b), angle), 1, -1)
    return mask.view(bool)


def random_shape(rng: np.random.Generator, case: Case) -> np.ndarray:
    a, b = np.exp(rng.uniform(np.log(12), np.log(case.height / 2), 2))
    return np.array([
        rng.uniform(0, case.width),
        rng.uniform(0, case.height), a, b,
        rng.uniform(0, 180)
    ])


def box_of(mask: np.ndarray) -> List[int]:
    """x1, y1, x2, y2; zeros without a pixel."""
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return [0, 0, 0, 0]
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def random_scene(rng: np.random.Generator,
                 case: Case) -> Tuple[List[Dict], Dict]:
    """Annotations, and ``pred_instances``: two in five are an annotated one,
    moved and stretched."""
    import torch
    from pycocotools import mask as mask_util
    shapes = [random_shape(rng, case) for _ in range(ANNOTATED)]
    classes = rng.integers(0, case.classes, ANNOTATED)
    annotations = []
    for shape, label in zip(shapes, classes):
        mask = ellipse(case, shape)
        rle = mask_util.encode(np.asfortranarray(mask.view(np.uint8)))
        x1, y1, x2, y2 = map(int, box_of(mask))
        annotations.append(
            dict(
                category_id=int(label) + 1,
                iscrowd=int(rng.random() < 0.05),
                area=int(mask.sum()),
                bbox=[x1, y1, x2 - x1, y2 - y1],
                segmentation=dict(
                    size=rle['size'], counts=rle['counts'].decode())))
    masks, labels = [], rng.integers(0, case.classes, case.detections)
    for i in range(case.detections):
        shape = random_shape(rng, case)
        if rng.random() < 0.4:
            near = rng.integers(ANNOTATED)
            labels[i] = classes[near]
            size = 0.1 * np.sqrt(shapes[near][2:4].prod())
            shape = shapes[near] + np.append(rng.normal(0, size, 4), 0)
            shape[2:4] = shape[2:4].clip(8)
        masks.append(ellipse(case, shape))
    boxes = np.array([box_of(mask) for mask in masks], np.float32)
    return annotations, dict(
        bboxes=torch.from_numpy(boxes),
        scores=torch.from_numpy(rng.random(len(masks)).astype(np.float32)),
        labels=torch.from_numpy(labels),
        masks=torch.from_numpy(np.stack(masks)))


def write_data(path: Path, case: Case, seed: int) -> List[Dict]:
    """Instances JSON; data samples (dicts) with predictions."""
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng, case) for _ in range(case.scenes)]
    size = dict(height=case.height, width=case.width)
    images, annotations, samples = [], [], []
    for image_id in range(1, case.images + 1):
        truth, found = scenes[image_id % case.scenes]
        images.append(dict(size, id=image_id, file_name=f'{image_id}.jpg'))
        for ann in truth:
            annotations.append(
                dict(ann, id=len(annotations) + 1, image_id=image_id))
        samples.append(
            dict(
                img_id=image_id,
                ori_shape=(case.height, case.width),
                pred_instances=found))
    path.write_text(
        json.dumps(
            dict(
                images=images,
                annotations=annotations,
                categories=[
                    dict(id=i + 1, name=f'class {i}')
                    for i in range(case.classes)
                ])))
    return samples


def call_of(metric, samples: List[Dict], names: List[str]) -> Callable:
    """Scores of all samples by a metric, without its prints."""
    metric.dataset_meta = dict(
        classes=names, thing_classes=names, stuff_classes=[])

    def run():
        with redirect_stdout(io.StringIO()):
            for sample in samples:
                metric.process(None, [sample])
            return metric.evaluate(len(samples))

    return run


def measure_case(case: Case, rounds: int, seed: int) -> harness.Row:
    """Seconds of an image."""
    from mmdet.evaluation import CocoMetric

    from panoptic_fpn.metrics import PanopticInstanceAPMetric
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'instances.json'
        samples = write_data(path, case, seed)
        names = [f'class {i}' for i in range(case.classes)]
        ours = PanopticInstanceAPMetric(ann_file=str(path))
        with redirect_stdout(io.StringIO()):
            theirs = CocoMetric(ann_file=str(path), metric=['bbox', 'segm'])
        calls = dict(
            ours=call_of(ours, samples, names),
            theirs=call_of(theirs, samples, names))
        scores = {side: call() for side, call in calls.items()}
        for key, value in scores['theirs'].items():
            found = scores['ours'][key]
            if found != value and not (value == -1 and np.isnan(found)):
                raise ValueError(f'{case}: {key} is {found}, mmdet: {value}')
        # this was the warm-up
        seconds = harness.alternate(calls, rounds, warmup=0)
    return harness.Row(
        stage='AP of boxes and masks',
        case=str(case),
        ours=[s / case.images for s in seconds['ours']],
        theirs=[s / case.images for s in seconds['theirs']],
        note=f'the same 12 scores (mask AP {scores["ours"]["coco/segm_mAP"]})'
        f'; backend {ours.backend}')


def measure(rounds: int, seed: int = 0) -> List[harness.Row]:
    """Rows of small images with many classes and of large ones with few."""
    from mmengine.registry import init_default_scope

    import panoptic_fpn  # noqa: F401
    init_default_scope('mmdet')
    logging.disable(logging.INFO)
    try:
        return [measure_case(c, rounds, seed) for c in (COCO, CITYSCAPES)]
    finally:
        logging.disable(logging.NOTSET)


if __name__ == '__main__':
    sys.exit(harness.stage_main(measure, __doc__))
