"""What a config takes from the images and objects of a data set.

The size of images, anchors, limits on the number of objects and the merge's
area threshold. What the base says stays where it fits.
"""
from collections import defaultdict
from itertools import chain
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose

from mmengine_exact.stream import seeded

from .schedule import base_data, find

#: Images that objects are measured on, at most.
_SAMPLED = 100
#: Longer and shorter side of the largest images that keep their size: COCO's.
_LARGEST = (1333, 800)
#: Least IoU of an object with an anchor that RPN is trained to find it by.
_MATCHED = 0.7
#: Pixels that stuff needs, of this project's merge and of mmdet's.
_AREA_KEYS = ('test_cfg.panoptic.stuff_area',
              'test_cfg.panoptic.stuff_area_limit')

Scale = Optional[Tuple[int, int]]


def fit_objects(cfg: Config, train: Any, val: Any,
                regions: bool) -> Tuple[Dict[str, Any], Scale, List[str]]:
    """Fit a base to data sets; ``regions``: the model has a region branch.

    Returns:
        tuple: Dotted keys of ``model`` and their values; the (w, h) that
        images are resized to, None as in the base; notes on both.

    Raises:
        InputError: One of up to 100 training images cannot be read.
    """
    sizes = np.array([(info['width'], info['height']) for info in train])
    scale, notes = own_scale(cfg, sizes), []
    keys: Dict[str, Any] = {}
    if scale:
        notes.append('training and evaluation resize images to '
                     f'{scale[0]} x {scale[1]} pixels')
    if regions and cfg.model.get('rpn_head'):
        most = max(len(info['instances']) for info in chain(train, val))
        limit = cfg.model.test_cfg.rcnn.max_per_img
        if 0 < limit < most:
            keys.update(raised_limits(cfg, -(-most // 100) * 100))
            notes.append(f'up to {most} objects in an image, where the base '
                         f'finds {limit}: max_per_img is raised')
        anchors = cfg.model.rpn_head.anchor_generator
        sides = median_sides(
            with_scale(cfg.train_dataloader.dataset.pipeline, scale), train)
        scales = anchor_scales(anchors, list(sides.values()))
        if scales and scales != anchors.scales:
            keys['rpn_head.anchor_generator.scales'] = scales
            name = min(sides, key=lambda key: sides[key])
            notes.append(
                f'anchors from {scales[0] * min(anchors.strides):.0f} pixels '
                f'on: half of the objects of class {name!r} are below '
                f'{sides[name]:.0f} pixels as the network sees them')
    known = base_data(cfg)
    area_key = next((key for key in _AREA_KEYS if find(cfg.model, key)), '')
    if known and area_key:
        area = find(cfg.model, area_key)
        share = np.median(sizes.prod(axis=1)) / known[1]
        if share < 0.75:  # smaller images than the base's
            area = max(1, round(area * share))
            keys[area_key] = area
            notes.append(f'stuff below {area} pixels is dropped by the merge, '
                         'for images of this size')
    return keys, scale, notes


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


def raised_limits(cfg: Config, objects: int) -> Dict[str, int]:
    """Keys of ``model`` that are too low for so many objects in an image and
    twice as many proposals."""
    needed = {
        'test_cfg.rcnn.max_per_img': objects,
        'test_cfg.rpn.nms_pre': 2 * objects,
        'test_cfg.rpn.max_per_img': 2 * objects,
        'train_cfg.rpn_proposal.nms_pre': 2 * objects,
        'train_cfg.rpn_proposal.max_per_img': 2 * objects
    }
    return {
        key: least
        for key, least in needed.items()
        if 0 < (find(cfg.model, key) or 0) < least
    }
