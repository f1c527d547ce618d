"""Predictions and ground truth of a ``DetDataSample``, drawn.

Images are RGB uint8 (h, w, 3) at the size of the maps drawn on them; a
picture is ``scale`` times as large (see ``drawing.py``).
"""
from typing import Any, Dict, Optional

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from ..labels import INSTANCE_OFFSET, LabelSpace
from .colors import match_numbers
from .drawing import display_scale, draw_instances, draw_panoptic


def to_array(value: Any) -> np.ndarray:
    """A tensor, box structure or array as a NumPy array."""
    value = getattr(value, 'tensor', value)
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    return np.asarray(value)


def panoptic_map(sample: DetDataSample, key: str) -> Optional[np.ndarray]:
    """The (h, w) map of ``pred_panoptic_seg`` or ``gt_panoptic_seg``."""
    if key not in sample:
        return None
    return to_array(sample.get(key).sem_seg)[0]


def thing_scores(sample: DetDataSample) -> Dict[int, float]:
    """Score of each predicted thing segment, by its code.

    The model notes in ``instance_indices`` which of ``pred_instances`` became
    number ``i + 1``; without the note there are no scores.
    """
    if 'pred_panoptic_seg' not in sample or 'pred_instances' not in sample:
        return {}
    indices = sample.pred_panoptic_seg.metainfo.get('instance_indices', ())
    scores = to_array(sample.pred_instances.scores)
    labels = to_array(sample.pred_instances.labels)
    return {
        int(labels[i]) + INSTANCE_OFFSET * number: float(scores[i])
        for number, i in enumerate(to_array(indices).tolist(), start=1)
    }


def draw_prediction(image: np.ndarray,
                    sample: DetDataSample,
                    space: LabelSpace,
                    alpha: float = 0.6,
                    scale: Optional[int] = None,
                    score_thr: float = 0.3) -> Optional[np.ndarray]:
    """Draw ``pred_panoptic_seg``, or ``pred_instances`` without it.

    A thing has the colour of the ground truth thing it matches, so that the
    two pictures can be compared.

    Args:
        image (np.ndarray): RGB uint8 of shape (h, w, 3).
        sample (:obj:`DetDataSample`): What the model returned.
        space (LabelSpace): The classes.
        alpha (float): Opacity of the colours.
        scale (int, optional): Enlargement.
        score_thr (float): Least score of instances where there is no
            panoptic map (which has the merge's own threshold).

    Returns:
        np.ndarray | None: The picture; None without any prediction.
    """
    panoptic = panoptic_map(sample, 'pred_panoptic_seg')
    if panoptic is None:
        if 'pred_instances' not in sample:
            return None
        found = sample.pred_instances
        return draw_boxes(image, found[found.scores > score_thr], space, alpha,
                          scale)
    notes = {c: f'{score:.2f}' for c, score in thing_scores(sample).items()}
    truth = panoptic_map(sample, 'gt_panoptic_seg')
    if truth is not None and truth.shape == panoptic.shape:
        panoptic, new = match_numbers(panoptic, truth, space.num_things,
                                      space.void)
        notes = {new[c]: note for c, note in notes.items() if c in new}
    return draw_panoptic(
        image,
        panoptic,
        space.names,
        space.palette,
        space.num_things,
        notes,
        alpha,
        scale=scale)


def draw_ground_truth(image: np.ndarray,
                      sample: DetDataSample,
                      space: LabelSpace,
                      alpha: float = 0.6,
                      scale: Optional[int] = None) -> Optional[np.ndarray]:
    """Draw ``gt_panoptic_seg``, or ``gt_instances`` without it.

    Args, returns: As :func:`draw_prediction`.
    """
    panoptic = panoptic_map(sample, 'gt_panoptic_seg')
    if panoptic is None:
        if 'bboxes' not in sample.get('gt_instances', ()):
            return None
        return draw_boxes(image, sample.gt_instances, space, alpha, scale)
    crowds = sample.metainfo.get('crowd_codes', ())
    return draw_panoptic(
        image,
        panoptic,
        space.names,
        space.palette,
        space.num_things, {int(c): '(crowd)'
                           for c in crowds},
        alpha,
        scale=scale)


def draw_boxes(image: np.ndarray,
               instances: InstanceData,
               space: LabelSpace,
               alpha: float = 0.5,
               scale: Optional[int] = None) -> np.ndarray:
    """Draw boxes, and masks and scores where there are any."""
    masks = instances.get('masks')
    if masks is not None:
        masks = to_array(getattr(masks, 'masks', masks))
        masks = masks if len(masks) else None
    scores = instances.get('scores')
    return draw_instances(
        image,
        to_array(instances.bboxes),
        to_array(instances.labels),
        space.names,
        space.palette,
        masks=masks,
        scores=None if scores is None else to_array(scores),
        alpha=alpha,
        scale=scale or display_scale(image.shape[:2]))
