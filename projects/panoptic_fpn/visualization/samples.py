"""Predictions and ground truth of a ``DetDataSample``, drawn.

Images are RGB uint8 (h, w, 3) at the size of the maps drawn on them; a
picture is ``scale`` times as large. ``drawing.py`` says what ``alpha`` and
``scale`` are.
"""
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from ..labels import IGNORE_LABEL, INSTANCE_OFFSET, LabelSpace
from ..ops.resize_window import nearest_pixels
from ..ops.to_host import to_array, to_plane
from .colors import match_numbers
from .drawing import draw_instances, draw_panoptic, draw_semantic


def panoptic_map(sample: DetDataSample, key: str = 'pred_panoptic_seg') -> Any:
    """The (h, w) map of ``pred_panoptic_seg`` or ``gt_panoptic_seg``; None
    without it."""
    return to_plane(sample.get(key).sem_seg) if key in sample else None


def resize_map(maps: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Maps (..., h, w) at the size of an image (H, W, ...), by the nearest
    pixel."""
    if maps.shape[-2:] == tuple(shape[:2]):
        return maps
    rows, cols = map(nearest_pixels, maps.shape[-2:], shape)
    return maps[..., rows[:, None], cols]


def semantic_labels(sample: DetDataSample,
                    space: LabelSpace) -> Optional[np.ndarray]:
    """Label of each pixel (h, w) by the semantic branch alone, -1 where it
    says 'other' (a thing); None without ``pred_sem_seg``."""
    if 'pred_sem_seg' not in sample:
        return None
    channels = to_plane(sample.pred_sem_seg.sem_seg)
    if sample.pred_sem_seg.metainfo.get('predict_things'):
        return channels
    stuff = np.arange(space.num_things, space.num_classes)
    return np.append(stuff, IGNORE_LABEL)[channels]


def thing_scores(sample: DetDataSample) -> Dict[int, float]:
    """Score of each predicted thing segment, by its code.

    The model notes in ``instance_indices`` which of ``pred_instances`` became
    number ``i + 1``; without the note there are no scores.
    """
    if 'pred_panoptic_seg' not in sample or 'pred_instances' not in sample:
        return {}
    indices = sample.pred_panoptic_seg.metainfo.get('instance_indices', ())
    found = sample.pred_instances
    scores, labels = to_array(found.scores), to_array(found.labels)
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
    two pictures can be compared. ``score_thr`` is the least score of instances
    where there is no panoptic map (which has the merge's own threshold).

    Returns:
        np.ndarray | None: The picture; None without any prediction.
    """
    panoptic = panoptic_map(sample)
    if panoptic is None:
        found = sample.get('pred_instances')
        return None if found is None else draw_boxes(
            image, found[found.scores > score_thr], space, alpha, scale)
    truth = panoptic_map(sample, 'gt_panoptic_seg')
    return draw_numbered(image, sample, space, truth, alpha, scale)[0]


def draw_numbered(
        image: np.ndarray,
        sample: DetDataSample,
        space: LabelSpace,
        reference: Optional[np.ndarray],
        alpha: float = 0.6,
        scale: Optional[int] = None) -> Tuple[np.ndarray, np.ndarray]:
    """Draw ``pred_panoptic_seg`` with scores, its things numbered as those
    they match in a reference map (h, w), if it has the same size; the picture,
    and the map as drawn."""
    panoptic = panoptic_map(sample)
    notes = {c: f'{score:.2f}' for c, score in thing_scores(sample).items()}
    if reference is not None and reference.shape == panoptic.shape:
        panoptic, new = match_numbers(panoptic, reference, space.num_things,
                                      space.void)
        notes = {new[c]: note for c, note in notes.items() if c in new}
    picture = draw_panoptic(image, panoptic, space, notes, alpha, scale=scale)
    return picture, panoptic


def draw_ground_truth(image: np.ndarray,
                      sample: DetDataSample,
                      space: LabelSpace,
                      alpha: float = 0.6,
                      scale: Optional[int] = None) -> Optional[np.ndarray]:
    """Draw ``gt_panoptic_seg``, of any size, or ``gt_instances`` without it;
    None without both."""
    panoptic = panoptic_map(sample, 'gt_panoptic_seg')
    if panoptic is None:
        if 'bboxes' not in sample.get('gt_instances', ()):
            return None
        return draw_boxes(image, sample.gt_instances, space, alpha, scale)
    crowds = sample.metainfo.get('crowd_codes', ())
    notes = {int(code): '(crowd)' for code in crowds}
    panoptic = resize_map(panoptic, image.shape)
    return draw_panoptic(image, panoptic, space, notes, alpha, scale=scale)


def draw_boxes(image: np.ndarray,
               instances: InstanceData,
               space: LabelSpace,
               alpha: float = 0.5,
               scale: Optional[int] = None) -> np.ndarray:
    """Draw boxes, and masks and scores where there are any."""
    masks = to_array(instances.masks) if 'masks' in instances else None
    scores = to_array(instances.get('scores', ()))
    notes = [f'{score:.2f}' for score in scores]
    return draw_instances(image, to_array(instances.bboxes),
                          to_array(instances.labels), space, masks, notes,
                          alpha, scale)


def draw_branches(image: np.ndarray,
                  sample: DetDataSample,
                  space: LabelSpace,
                  score_thr: float = 0.5,
                  scale: Optional[int] = None) -> Dict[str, np.ndarray]:
    """Pictures ``instances`` (of at least this score), ``semantic`` and
    ``panoptic``, without those of a branch that the model lacks."""
    pictures = {}
    if 'pred_instances' in sample:
        found = sample.pred_instances
        pictures['instances'] = draw_boxes(
            image, found[found.scores >= score_thr], space, scale=scale)
    labels = semantic_labels(sample, space)
    if labels is not None:
        pictures['semantic'] = draw_semantic(image, labels, space, scale=scale)
    if 'pred_panoptic_seg' in sample:
        pictures['panoptic'] = draw_prediction(
            image, sample, space, scale=scale)
    return pictures
