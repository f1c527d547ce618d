"""What a config takes from the images and objects of a data set.

The size of images, anchors, limits on the number of objects and the merge's
area threshold. What the base says stays where it fits.
"""
from collections import defaultdict
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose

from mmengine_exact.stream import seeded

from .schedule import base_data

#: Images that objects are measured on, at most.
_SAMPLED = 100
#: Longer and shorter side of the largest images that keep their size: COCO's.
_LARGEST = (1333, 800)
#: Least IoU of an object with an anchor that RPN is trained to find it by.
_MATCHED = 0.7

Scale = Optional[Tuple[int, int]]


def fit_objects(cfg: Config, train: Any, val: Any,
                regions: bool) -> Tuple[Dict[str, Dict], Scale, List[str]]:
    """Fit a base to data sets; ``regions``: the model has a region branch.

    Returns:
        tuple: Keys of ``model``; the (w, h) that images are resized to, None
        as in the base; notes on both.

    Raises:
        InputError: One of up to 100 training images cannot be read.
    """
    sizes, most = _read_infos(train)
    scale, model, notes = own_scale(cfg, sizes), {}, []
    if scale:
        notes.append('training and evaluation resize images to '
                     f'{scale[0]} x {scale[1]} pixels')
    if regions and cfg.model.get('rpn_head'):
        most = max(most, _read_infos(val)[1])
        limit = cfg.model.test_cfg.rcnn.max_per_img
        if 0 < limit < most:
            model.update(raised_limits(cfg, -(-most // 100) * 100))
            notes.append(f'up to {most} objects in an image, where the base '
                         f'finds {limit}: max_per_img is raised')
        anchors = cfg.model.rpn_head.anchor_generator
        sides = median_sides(
            with_scale(cfg.train_dataloader.dataset.pipeline, scale), train)
        scales = anchor_scales(anchors, list(sides.values()))
        if scales and scales != anchors.scales:
            model['rpn_head'] = dict(anchor_generator=dict(scales=scales))
            name = min(sides, key=lambda key: sides[key])
            notes.append(
                f'anchors from {scales[0] * min(anchors.strides):.0f} pixels '
                f'on: half of the objects of class {name!r} are below '
                f'{sides[name]:.0f} pixels as the network sees them')
    area = _stuff_area(cfg, sizes)
    if area is not None:
        model.setdefault('test_cfg', {})['panoptic'] = dict(stuff_area=area)
        notes.append(f'stuff below {area} pixels is dropped by the merge, '
                     'for images of this size')
    return model, scale, notes


def _read_infos(dataset: Any) -> Tuple[np.ndarray, int]:
    """Sizes (n, 2) as (w, h) of all images, and the most objects in one."""
    sizes, most = [], 0
    for info in map(dataset.get_data_info, range(len(dataset))):
        sizes.append((info['width'], info['height']))
        most = max(most, sum(s['is_thing'] for s in info['segments_info']))
    return np.array(sizes), most


def own_scale(cfg: Config, sizes: np.ndarray) -> Scale:
    """Longer and shorter side of the data's own images, for a base whose
    images are drawn; None for others."""
    if not cfg.train_dataloader.dataset.get('generate'):
        return None
    short, long = np.median(np.sort(sizes), axis=0)
    factor = min(1, _LARGEST[0] / long, _LARGEST[1] / short)
    return round(long * factor), round(short * factor)


def with_scale(pipeline: Sequence[dict], scale: Scale) -> List[dict]:
    """A pipeline that resizes to another scale, if one is given."""
    return [
        dict(step, scale=scale) if scale and 'scale' in step else step
        for step in pipeline
    ]


def median_sides(pipeline: Sequence[dict], dataset: Any) -> Dict[str, float]:
    """Median of the objects' sizes by thing class: square roots of the areas
    of boxes, in pixels, as a pipeline of training leaves them."""
    steps, names = Compose(pipeline), dataset.label_space.thing_names
    sides = defaultdict(list)
    number = min(len(dataset), _SAMPLED)
    with seeded(0):
        for index in np.linspace(0, len(dataset) - 1, number, dtype=int):
            sample = steps(dataset.get_data_info(int(index)))['data_samples']
            found = sample.gt_instances
            for label, area in zip(found.labels, found.bboxes.areas):
                sides[names[label]].append(float(area)**0.5)
    return {name: float(np.median(of)) for name, of in sides.items()}


def anchor_scales(anchors: Dict, sides: List[float]) -> Optional[List[float]]:
    """Scales of a generator for objects of such sides, all taken for squares;
    its own where its smallest anchor matches the smallest objects."""
    scales = anchors.get('scales')
    finest, coarsest = min(anchors['strides']), max(anchors['strides'])
    least = min(sides, default=np.inf) / finest
    if not scales or least >= _MATCHED**0.5 * min(scales):
        return scales
    # an anchor below the stride of its map has gaps beside it
    new = max(1., round(least, 1))
    fits = _MATCHED**0.5 * max(sides) <= new * coarsest
    return [new] if fits else [new, *scales]


def raised_limits(cfg: Config, objects: int) -> Dict[str, Dict]:
    """Keys of ``model`` that are too low for so many objects in an image and
    twice as many proposals."""
    model: Dict[str, Dict] = {}
    for part, name, least in (('test_cfg', 'rcnn',
                               objects), ('test_cfg', 'rpn', 2 * objects),
                              ('train_cfg', 'rpn_proposal', 2 * objects)):
        base = cfg.model[part].get(name) or {}
        for key in ('nms_pre', 'max_per_img'):
            if 0 < base.get(key, -1) < least:
                keys = model.setdefault(part, {}).setdefault(name, {})
                keys[key] = least
    return model


def _stuff_area(cfg: Config, sizes: np.ndarray) -> Optional[int]:
    """The merge's least stuff area for images smaller than the base's."""
    known = base_data(cfg)
    settings = (cfg.model.get('test_cfg') or {}).get('panoptic') or {}
    if known is None or 'stuff_area' not in settings:
        return None
    pixels = np.median(sizes.prod(axis=1))
    if pixels >= 0.75 * known[1]:
        return None
    return max(1, round(settings['stuff_area'] * pixels / known[1]))
