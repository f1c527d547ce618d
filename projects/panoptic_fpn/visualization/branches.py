"""What each branch says of an image, and their merge, as pictures.

Images are RGB uint8 (h, w, 3) at the size of the results drawn on them.
"""
from typing import Dict, Optional

import numpy as np
from mmdet.structures import DetDataSample

from ..labels import IGNORE_LABEL, LabelSpace
from .drawing import draw_semantic
from .samples import draw_boxes, draw_prediction, to_array


def semantic_labels(sample: DetDataSample,
                    space: LabelSpace) -> Optional[np.ndarray]:
    """Label of each pixel by the semantic branch alone.

    Args:
        sample (:obj:`DetDataSample`): With ``pred_sem_seg``, or without.
        space (LabelSpace): The classes.

    Returns:
        np.ndarray | None: Integers of shape (h, w), -1 where the branch says
        'other' (a thing); None without ``pred_sem_seg``.
    """
    if 'pred_sem_seg' not in sample:
        return None
    channels = to_array(sample.pred_sem_seg.sem_seg)[0]
    if sample.pred_sem_seg.metainfo.get('predict_things'):
        return channels
    stuff = np.arange(space.num_things, space.num_classes)
    return np.append(stuff, IGNORE_LABEL)[channels]


def draw_branches(image: np.ndarray,
                  sample: DetDataSample,
                  space: LabelSpace,
                  score_thr: float = 0.5,
                  scale: Optional[int] = None) -> Dict[str, np.ndarray]:
    """Pictures of the instances, the semantic map and the panoptic map.

    Args:
        image (np.ndarray): RGB uint8 of shape (h, w, 3).
        sample (:obj:`DetDataSample`): What the model returned.
        space (LabelSpace): The classes.
        score_thr (float): Least score of the instances that are drawn; the
            panoptic map has been merged.
        scale (int, optional): Enlargement.

    Returns:
        dict[str, np.ndarray]: ``instances``, ``semantic`` and ``panoptic``,
        RGB uint8; what belongs to a branch the model lacks is absent.
    """
    pictures = {}
    if 'pred_instances' in sample:
        found = sample.pred_instances
        pictures['instances'] = draw_boxes(
            image, found[found.scores >= score_thr], space, scale=scale)
    labels = semantic_labels(sample, space)
    if labels is not None:
        pictures['semantic'] = draw_semantic(
            image, labels, space.names, space.palette, scale=scale)
    if 'pred_panoptic_seg' in sample:
        pictures['panoptic'] = draw_prediction(
            image, sample, space, scale=scale)
    return pictures
