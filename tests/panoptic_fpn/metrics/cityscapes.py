"""Data samples of Cityscapes scenes, as a data set and a model fill them.

Codes are ``label + 1000 * number``; void is 19, an instance of a class that
the evaluation ignores 19 + 1000 * number with a number from 1.
"""
import numpy as np
import torch

from panoptic_fpn.cityscapes import label_space
from tests.oracles.cityscapes_scenes import STUFF, THINGS

from .data import as_map

LABELS = THINGS + STUFF
META = label_space().metainfo()


def truth_of(scene):
    """Map (h, w), codes of the segments and codes of the groups."""
    codes, segments, groups = np.full(scene.values.shape, 19), [], []
    for value in np.unique(scene.values).tolist():
        single = value >= 1000
        id_ = value // 1000 if single else value
        number = value % 1000 + 1 if single else 0
        code = 1000 * number + (LABELS.index(id_) if id_ in LABELS else 19)
        codes[scene.values == value] = code
        if id_ in LABELS:
            segments.append(code)
            if id_ in THINGS and not single:
                groups.append(code)
    return codes, segments, groups


def instances_of(scene):
    """``pred_instances`` of a scene; boxes are not what is judged."""
    shape = (len(scene.instances), *scene.values.shape)
    masks = np.array([m for _, _, m in scene.instances], bool).reshape(shape)
    ids = [LABELS.index(id_) for id_, _, _ in scene.instances]
    scores = np.array([s for _, s, _ in scene.instances], np.float32)
    return dict(
        bboxes=torch.zeros(len(ids), 4),
        labels=torch.tensor(ids, dtype=torch.int64),
        scores=torch.from_numpy(scores),
        masks=torch.from_numpy(masks))


def panoptic_of(scene):
    codes = np.full(scene.values.shape, 19)
    for number, id_ in scene.categories.items():
        thing = 1000 * number if id_ in THINGS else 0
        codes[scene.panoptic == number] = LABELS.index(id_) + thing
    return codes


def sample_of(scene, annotated=True):
    """Data sample (dict) of a scene."""
    city = scene.image_id.split('_')[0]
    channel = np.zeros(34, np.int64)
    channel[LABELS] = np.arange(19)
    sample = dict(
        img_id=scene.image_id,
        img_path=f'leftImg8bit/val/{city}/{scene.image_id}_leftImg8bit.png',
        ori_shape=scene.values.shape,
        pred_instances=instances_of(scene),
        pred_sem_seg=dict(
            as_map(channel[scene.semantic]), predict_things=True),
        pred_panoptic_seg=as_map(panoptic_of(scene)))
    if annotated:
        codes, segments, groups = truth_of(scene)
        sample.update(
            seg_map_path=f'{scene.image_id}_gtFine_instanceIds.png',
            gt_panoptic_seg=as_map(codes),
            gt_codes=segments,
            crowd_codes=groups)
    return sample
