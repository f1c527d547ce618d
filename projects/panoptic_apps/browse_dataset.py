"""Pictures of panoptic ground truth after a dataset's pipeline.

``inputs`` of a packed sample is (3, h, w), BGR, uint8 or float; a training
map has its size, a test map the size of the original image.
"""
import os.path as osp
import random
from typing import Any, Dict, List, Optional, Union

import cv2
import numpy as np
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor

from mmengine_exact.errors import InputError
from mmengine_exact.stream import derive_seed, seeded
from panoptic_fpn.inference.inference import load_config
from panoptic_fpn.labels import LabelSpace
from panoptic_fpn.ops.to_host import to_array
from panoptic_fpn.training.test_options import require_panoptic
from panoptic_fpn.visualization.drawing import (display_scale, draw_instances,
                                                draw_semantic, side_by_side)
from panoptic_fpn.visualization.image_io import write_image
from panoptic_fpn.visualization.samples import draw_ground_truth, resize_map

#: Panels of smaller samples are enlarged, so that names can be read.
PANEL_SIZE = 640
#: Pixels of a picture's width, at most: larger samples are made smaller before
#: anything is drawn on them. And what each gap between panels may take of it.
MAX_WIDTH, _GAP = 2000, 20


def browse_dataset(config: Union[str, Config],
                   split: str = 'train',
                   num: int = 8,
                   out_dir: str = 'work_dirs/browse',
                   seed: int = 0,
                   cfg_options: Optional[dict] = None) -> List[str]:
    """Draw samples of a dataset as the model gets them.

    Args:
        config (str | Config): A config with dataloaders.
        split (str): 'train', 'val' or 'test'.
        num (int): How many samples, drawn at random; fewer in a smaller set.
        out_dir (str): Folder of the pictures, whose paths are returned.
        seed (int): Which samples, and how they are augmented.
        cfg_options (dict, optional): Keys of the config to override.

    Raises:
        InputError: The config has no such dataloader, or the data cannot
            be used.
    """
    config = load_config(config, cfg_options)
    loader = config.get(f'{split}_dataloader')
    if loader is None:
        raise InputError(f'{config.filename}: no {split}_dataloader. '
                         'Choose another split or add it.')
    require_panoptic(config, 'browsing')
    init_default_scope('mmdet')
    _keep_panoptic_map(loader.dataset)
    dataset = DATASETS.build(loader.dataset)
    space = LabelSpace.from_metainfo(dataset.metainfo)
    num = min(num, len(dataset))
    chosen = random.Random(seed).sample(range(len(dataset)), num)
    written = []
    for number, index in enumerate(chosen):
        with seeded(derive_seed('browse', seed, number)):
            packed = dataset[index]
        sample = packed['data_samples']
        stem = osp.splitext(osp.basename(sample.img_path))[0]
        path = osp.join(out_dir, f'{split}_{number:03d}_{stem}.png')
        write_image(path, draw_sample(packed['inputs'], sample, space))
        written.append(path)
    return written


def _keep_panoptic_map(config: Any) -> None:
    """Let the pipelines of a dataset keep the map, which training drops."""
    if isinstance(config, dict):
        if config.get('type') == 'DerivePanopticTargets':
            config['panoptic'] = True
        config = list(config.values())
    for entry in config if isinstance(config, (list, tuple)) else ():
        _keep_panoptic_map(entry)


def draw_sample(inputs: Tensor, sample: DetDataSample,
                space: LabelSpace) -> np.ndarray:
    """The image of a packed sample, BGR (3, h, w), and everything it is
    annotated with: panels beside one another, RGB uint8."""
    image = to_array(inputs)[::-1].transpose(1, 2, 0)
    image = np.ascontiguousarray(image.clip(0, 255).astype(np.uint8))
    count = 1 + ('gt_sem_seg' in sample) + ('gt_panoptic_seg' in sample)
    room = (MAX_WIDTH - _GAP * (count + 1)) // count
    height, width = image.shape[:2]
    if width > room:
        image = cv2.resize(
            image, (room, max(1, round(height * room / width))),
            interpolation=cv2.INTER_AREA)
    scale = min(display_scale(image.shape, PANEL_SIZE), room // image.shape[1])
    panels: Dict[str, Any] = {}
    if 'bboxes' in sample.get('gt_instances', ()):
        panels['Image and boxes'] = _draw_objects(image, sample, space, scale,
                                                  image.shape[1] / width)
    else:
        panels['Image'] = cv2.resize(image, None, fx=scale, fy=scale)
    if 'gt_sem_seg' in sample:
        semantic = to_array(sample.gt_sem_seg.sem_seg)[0]
        panels['Semantic'] = draw_semantic(
            image, resize_map(semantic, image.shape), space, scale=scale)
    if 'gt_panoptic_seg' in sample:
        panels['Panoptic'] = draw_ground_truth(
            image, sample, space, scale=scale)
    return side_by_side(panels)


def _draw_objects(image: np.ndarray, sample: DetDataSample, space: LabelSpace,
                  scale: int, factor: float) -> np.ndarray:
    """Draw boxes, masks and names of the instances; crowd is marked. Boxes
    are multiplied by ``factor``."""
    found, notes = sample.gt_instances, [''] * len(sample.gt_instances)
    if 'bboxes' in sample.get('ignored_instances', ()):
        notes += ['(crowd)'] * len(sample.ignored_instances)
        found = InstanceData.cat([found, sample.ignored_instances])
    masks = None
    if 'masks' in found:
        masks = resize_map(to_array(found.masks), image.shape)
    return draw_instances(
        image,
        to_array(found.bboxes) * factor,
        to_array(found.labels),
        space,
        masks,
        notes,
        scale=scale)
