"""Inputs of the scaling curves, and the calls that are timed on them.

A case is one drawn image, twice as wide as high, in COCO's panoptic format; a
stage gives {'ours': call, 'mmdet': call} on it. Seconds are for one image.
"""
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, Dict

import cv2
import numpy as np

from panoptic_fpn.labels import id_to_rgb, rgb_to_id

from . import inputs, merge, panoptic_metric
from .harness import ROOT

Calls = Dict[str, Callable]


@dataclass(frozen=True)
class Case:
    """Half of the classes are things; beside instances there is some stuff.
    In the merge the classes are channels of the semantic branch.

    Args:
        folder (Path): Where :func:`write` has put files.
    """
    folder: Path
    seed: int = 0
    megapixels: float = 0.5
    instances: int = 50
    classes: int = 20

    @property
    def shape(self):
        """(h, w), multiples of 32."""
        height = 32 * round((self.megapixels * 1e6 / 2)**0.5 / 32)
        return height, 2 * height

    @property
    def num_things(self):
        return (self.classes + 1) // 2


def write(case: Case) -> Case:
    """``images/0.png``, ``panoptic/0.png`` and ``panoptic/panoptic.json``."""
    bands = len(inputs.BANDS)
    scene = inputs.street(case.seed, case.shape, case.instances + bands)
    things = np.array(scene.labels) < inputs.NUM_THINGS
    numbers = np.arange(len(things))
    labels = np.where(
        things, numbers % case.num_things,
        case.num_things + numbers % (case.classes - case.num_things))
    for name in ('images', 'panoptic'):
        (case.folder / name).mkdir()
    cv2.imwrite(str(case.folder / 'images' / '0.png'), scene.image[..., ::-1])
    ids = 1 + numbers * 7919
    pixels = id_to_rgb(np.append(0, ids)[scene.index_map])
    cv2.imwrite(str(case.folder / 'panoptic' / '0.png'), pixels[..., ::-1])
    segments = []
    for number, (id_, label) in enumerate(zip(ids, labels), 1):
        y, x = np.nonzero(scene.index_map == number)
        box = x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1
        segments.append(
            dict(
                id=int(id_),
                category_id=int(label) + 1,
                iscrowd=0,
                area=len(y),
                bbox=[int(v) for v in box]))
    height, width = case.shape
    content = dict(
        images=[dict(id=1, file_name='0.png', height=height, width=width)],
        annotations=[
            dict(image_id=1, file_name='0.png', segments_info=segments)
        ],
        categories=[
            dict(
                id=i + 1, name=f'class {i}', isthing=int(i < case.num_things))
            for i in range(case.classes)
        ])
    (case.folder / 'panoptic' / 'panoptic.json').write_text(
        json.dumps(content))
    return case


def datasets(case: Case) -> dict:
    """Training sets of the image, with Cityscapes' transforms for its size
    and crops of half a side."""
    from mmdet.registry import DATASETS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    import panoptic_fpn  # noqa: F401
    init_default_scope('mmdet')
    height, width = case.shape
    scale, crop = (width, height), (height // 2, width // 2)
    config = Config.fromfile(ROOT / 'configs' / '_base_' / 'datasets' /
                             'cityscapes_panoptic.py')
    ours = config.train_pipeline
    for transform in ours:
        if 'scale' in transform:
            transform['scale'] = scale
        if 'crop_size' in transform:
            transform['crop_size'] = crop
    mmdet = [
        dict(type='LoadImageFromFile'),
        dict(
            type='LoadPanopticAnnotations',
            with_bbox=True,
            with_mask=True,
            with_seg=True),
        dict(
            type='RandomResize',
            scale=scale,
            ratio_range=(0.5, 2.0),
            keep_ratio=True),
        # theirs is (w, h)
        dict(type='RandomCrop', crop_size=crop[::-1]),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackDetInputs')
    ]
    names = [f'class {i}' for i in range(case.classes)]
    metainfo = dict(
        classes=names,
        thing_classes=names[:case.num_things],
        stuff_classes=names[case.num_things:])
    common = dict(
        data_root=str(case.folder),
        ann_file='panoptic/panoptic.json',
        data_prefix=dict(img='images', seg='panoptic'))
    return dict(
        ours=DATASETS.build(
            dict(common, type='CocoPanopticFPNDataset', pipeline=ours)),
        mmdet=DATASETS.build(
            dict(
                common,
                type='CocoPanopticDataset',
                metainfo=metainfo,
                pipeline=mmdet)))


def input_pipeline(case: Case) -> Calls:
    """A training sample: always the same scale and crop."""
    from mmengine_exact.stream import seeded

    def load(dataset):
        with seeded(case.seed):
            return dataset[0]

    return {
        name: partial(load, dataset)
        for name, dataset in datasets(case).items()
    }


def metric(case: Case) -> Calls:
    """PQ of one image whose map is a little off; ground truth on disk."""
    data = datasets(case)['ours']
    truth = data.get_data_info(0)
    height, width = case.shape
    judged = panoptic_metric.Case(height, width, case.instances, 0,
                                  case.num_things,
                                  case.classes - case.num_things)
    folder = case.folder / 'panoptic'
    png = cv2.imread(str(folder / '0.png'))
    ids = rgb_to_id(png[..., ::-1])
    table = np.full(ids.max() + 1, judged.void)
    for number, segment in enumerate(truth['segments_info']):
        code = segment['category'] + 1000 * number * segment['is_thing']
        table[segment['id']] = code
    codes = panoptic_metric.predicted(
        np.random.default_rng(case.seed), table[ids], judged.void)
    names = dict(ours='ours', mmdet='theirs')
    return {
        name: panoptic_metric.CALLS[side](folder, judged, [codes])
        for name, side in names.items()
    }


def merged(case: Case) -> Calls:
    """From logits and 28 x 28 masks to the panoptic map."""
    judged = merge.Case(
        case.shape,
        case.shape,
        case.instances,
        case.num_things,
        case.classes - 1,
        regions=30)
    outputs = merge.network_outputs(judged, case.seed)
    return {
        side: partial(merge.merge_of(side, judged), outputs)
        for side in ('ours', 'mmdet')
    }


#: By the name in tables.
STAGES = {
    'input pipeline': input_pipeline,
    'merge': merged,
    'PQ metric': metric
}
