"""Seconds of one core for a training image: from files to packed sample.

Example:
    OMP_NUM_THREADS=1 python -m benchmarks.input_pipeline
    SAMPLE_PHOTOGRAPHS=/data/coco_sample python -m benchmarks.input_pipeline

Ours are the pipelines of ``configs/_base_/datasets``, mmdet's its own steps
on the same files, from the same random states. Images are drawn
(``inputs.py``); ``SAMPLE_PHOTOGRAPHS`` names a folder with ``panoptic.json``,
``images/`` and ``panoptic/`` in COCO's format that takes the place of the
drawn photograph.

Each round is the mean of the same ``DRAWS`` random scales and windows. Exit
code: 0 measured, 2 wrong arguments.
"""
import json
import os
import sys
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Callable, Dict, List, Optional

import cv2
import numpy as np
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

import panoptic_fpn  # noqa: F401
from benchmarks import harness, inputs
from panoptic_fpn.data.instance_masks import compact_mask
from panoptic_fpn.labels import LabelSpace, rgb_to_id

STAGE = 'input pipeline'
DATASETS = harness.ROOT / 'configs' / '_base_' / 'datasets'
#: Random states of a round.
DRAWS = 8

#: Of mmdet, for Cityscapes and COCO.
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadPanopticAnnotations')]
#: Boxes and masks of the instances JSON, the semantic map of the PNG.
LOAD_INSTANCES = [
    LOAD[0],
    dict(LOAD[1], with_bbox=False, with_label=False, with_mask=False),
    dict(type='LoadAnnotations', with_mask=True)
]
RESIZE = dict(type='Resize', scale=(1333, 800), keep_ratio=True)
PACK = [dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]
CROP = [
    dict(
        type='RandomResize',
        scale=(2048, 1024),
        ratio_range=(0.5, 2.0),
        keep_ratio=True),
    dict(type='RandomCrop', crop_size=(1024, 512))
]


def build(steps: List[dict]) -> Compose:
    return Compose([TRANSFORMS.build(step) for step in steps])


def ours(dataset: str, resize: Optional[dict] = None) -> Compose:
    """The training pipeline of a config, perhaps with a fixed size."""
    path = DATASETS / f'{dataset}.py'
    steps = Config.fromfile(path)['train_pipeline']
    if resize:
        steps[2] = dict(resize, type='PanopticResize')
    return build(steps)


def repeated(pipeline: Compose, information: List[dict]) -> Callable:
    """A round: each random state once, the images in turn."""

    def run():
        for i in range(DRAWS):
            np.random.seed(i)
            # as the data set does: transforms may change what they are given
            pipeline(dict(information[i % len(information)]))

    return run


def compare(case: str, pair: Dict[str, Callable], rounds: int,
            **options) -> harness.Row:
    seconds = {
        name: [value / DRAWS for value in values]
        for name, values in harness.alternate(pair, rounds).items()
    }
    return harness.Row(STAGE, case, seconds['ours'], seconds['theirs'],
                       **options)


def agreement(ours: Compose, theirs: Compose, information: dict) -> str:
    """How the samples of both compare, from the same random state."""
    packed = []
    for pipeline in (ours, theirs):
        np.random.seed(0)
        packed.append(pipeline(dict(information)))
    images = [one['inputs'].numpy().astype(int) for one in packed]
    maps = [one['data_samples'].gt_sem_seg.sem_seg for one in packed]
    other = 100 * (maps[0] != maps[1]).double().mean()
    return (f'pixels within {abs(images[0] - images[1]).max()} of mmdet\'s; '
            f'{other:.1f} % of the labels differ, at borders: OpenCV\'s '
            'INTER_NEAREST in mmdet, INTER_NEAREST_EXACT in ours')


def sample_photographs(folder: Path) -> List[dict]:
    """Of a panoptic JSON, for both pipelines."""
    data = json.loads((folder / 'panoptic.json').read_text())
    space = LabelSpace.from_coco(data['categories'], 'panoptic.json')
    images = {image['id']: image for image in data['images']}
    found = []
    for annotation in data['annotations']:
        image = images[annotation['image_id']]
        segments, instances = [], []
        for entry in annotation['segments_info']:
            label = space.label(entry['category_id'])
            thing = label < space.num_things
            segments.append(
                dict(
                    id=entry['id'],
                    category=label,
                    iscrowd=entry['iscrowd'],
                    is_thing=thing))
            if thing:
                x, y, w, h = entry['bbox']
                instances.append(
                    dict(
                        bbox=[x, y, x + w, y + h],
                        bbox_label=label,
                        ignore_flag=0))
        found.append(
            dict(
                img_id=image['id'],
                img_path=str(folder / 'images' / image['file_name']),
                height=image['height'],
                width=image['width'],
                seg_map_path=str(folder / 'panoptic' /
                                 annotation['file_name']),
                segments_info=segments,
                instances=instances,
                label_space=space))
    return found


def measure(rounds: int, seed: int = 0) -> List[harness.Row]:
    """Rows of Cityscapes with both kinds of PNG, and of COCO."""
    init_default_scope('mmdet')
    with TemporaryDirectory() as folder:
        return [
            *measure_street(Path(folder), rounds, seed),
            *measure_photographs(Path(folder), rounds, seed)
        ]


def measure_street(folder: Path, rounds: int, seed: int) -> List[harness.Row]:
    rgb, ids = inputs.street(seed).write(folder, '.png')
    size = Path(rgb['img_path']).stat().st_size / 1e6
    theirs = repeated(build(LOAD + CROP + PACK), [rgb])
    pipeline = ours('cityscapes_panoptic')
    case = '2048x1024 PNG, 51 segments, scale 0.5-2, crop 512x1024'
    return [
        compare(
            case,
            dict(ours=repeated(pipeline, [rgb]), theirs=theirs),
            rounds,
            ask=8,
            note=f'image of {size:.1f} MB, panoptic PNG in RGB, '
            f'{len(rgb["instances"])} things; ours also checks that JSON and '
            'PNG list the same segments'),
        compare(
            f'{case}, instanceIds.png',
            dict(ours=repeated(pipeline, [ids]), theirs=theirs),
            rounds,
            note='what our config reads, Cityscapes\' own 16-bit PNG; theirs '
            'the RGB PNG')
    ]


def measure_photographs(folder: Path, rounds: int,
                        seed: int) -> List[harness.Row]:
    given = os.environ.get('SAMPLE_PHOTOGRAPHS')
    if given:
        found, what = sample_photographs(Path(given)), 'photographs'
    else:
        found = inputs.photograph(seed).write(folder, '.jpg')[:1]
        what = 'drawn photograph'
    sizes = [Path(one['img_path']).stat().st_size / 1e3 for one in found]
    number = mean(len(one['segments_info']) for one in found)
    pipeline = ours('coco_panoptic', RESIZE)
    their_pipeline = build([*LOAD, RESIZE, *PACK])
    case = 'COCO photograph to 800x1199'
    drawn = [with_instances(one) for one in found]
    return [
        compare(
            case,
            dict(
                ours=repeated(pipeline, found),
                theirs=repeated(their_pipeline, found)),
            rounds,
            ask=3,
            note=f'{what}, JPEG of {mean(sizes):.0f} kB, {number:.0f} '
            f'segments; {agreement(pipeline, their_pipeline, found[0])}'),
        compare(
            f'{case}, instances JSON',
            dict(
                ours=repeated(pipeline, drawn),
                theirs=repeated(
                    build([*LOAD_INSTANCES, RESIZE, *PACK]), drawn)),
            rounds,
            note='the same; boxes and masks of '
            f'{mean(len(one["instances"]) for one in drawn):.0f} instances '
            'are those of polygons around them')
    ]


def with_instances(information: dict) -> dict:
    """The same image, with its things as an instances JSON has them, for both
    pipelines."""
    pixels = np.array(Image.open(information['seg_map_path']))
    ids = rgb_to_id(pixels)
    instances, masks = [], []
    for one in information['segments_info']:
        mask = ids == one['id']
        polygons = inputs.polygons(mask) if one['is_thing'] else []
        if polygons:
            x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
            instances.append(
                dict(
                    bbox=[x, y, x + w, y + h],
                    bbox_label=one['category'],
                    ignore_flag=one['iscrowd'],
                    mask=polygons))
            masks.append(compact_mask(polygons, mask.shape))
    return dict(information, instances=instances, instance_masks=masks)


if __name__ == '__main__':
    sys.exit(harness.stage_main(measure, __doc__))
