"""Hand-made images and panoptic maps for the tests of pictures.

Classes: things 0 disk, 1 box; stuff 2 sky, 3 grass; void 4.
"""
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData

from panoptic_fpn.labels import Category, LabelSpace

SPACE = LabelSpace([
    Category(7, 'disk', True, (220, 60, 60)),
    Category(9, 'box', True, (60, 90, 220)),
    Category(2, 'sky-other-merged', False, (120, 190, 230)),
    Category(4, 'grass', False, (120, 200, 110)),
])
DISK, BOX, SKY, GRASS, VOID = 0, 1, 2, 3, 4


def scene(height=60, width=90):
    """Sky over grass, three boxes and a disk, a void corner.

    Returns:
        tuple[np.ndarray, np.ndarray]: RGB image and panoptic map (h, w).
    """
    rng = np.random.default_rng(0)
    image = rng.integers(30, 226, (height, width, 3)).astype(np.uint8)
    panoptic = np.full((height, width), SKY, np.int32)
    panoptic[height // 2:] = GRASS
    for number, left in enumerate((0.05, 0.35, 0.65), start=1):
        rows = slice(int(0.3 * height), int(0.7 * height))
        columns = slice(int(left * width), int((left + 0.25) * width))
        panoptic[rows, columns] = BOX + 1000 * number
    panoptic[int(0.75 * height):int(0.9 * height), :width // 4] = DISK + 4000
    panoptic[:height // 5, -width // 4:] = VOID
    return image, panoptic


def sample(panoptic=None, truth=None, scores=(), **metainfo):
    """A ``DetDataSample`` with a prediction, a ground truth or both.

    Args:
        scores (Sequence[float]): Of the boxes 1, 2, ... and the disk.
    """
    result = DetDataSample(metainfo=metainfo)
    if panoptic is not None:
        result.pred_panoptic_seg = PixelData(
            sem_seg=torch.from_numpy(panoptic)[None],
            metainfo=dict(instance_indices=list(range(len(scores)))))
    if len(scores):
        result.pred_instances = InstanceData(
            scores=torch.tensor(scores),
            labels=torch.tensor([BOX] * (len(scores) - 1) + [DISK]),
            bboxes=torch.zeros(len(scores), 4))
    if truth is not None:
        result.gt_panoptic_seg = PixelData(
            sem_seg=torch.from_numpy(truth)[None])
    return result
