"""Mask AP of Cityscapes' instance task, and its results as files.

In    ``pred_instances``: scores (n, ), labels (n, ) 0..T-1, masks (n, h, w)
      bool; ground truth, map (h, w) of ``label + 1000 * number``
Row   of an image: labels, scores and areas of predictions and instances, and
      the pixels that pairs of the same class have in common
Out   mAP and AP@50, fractions; see ``cityscapes_ap`` for the protocol

Files, as the benchmark server and the official script take them; ID is
``<city>_<sequence>_<frame>``:

``PREFIX.instances/ID_pred.txt``     a line for each instance: mask, id of the
                                     label table, confidence
``PREFIX.instances/masks/ID_N.png``  its mask, one channel, 0 or 255

The folder is handed in, or named by CITYSCAPES_RESULTS, by itself: the scripts
search it for names that begin with ID, and would take a mask for a semantic
map.
"""
from pathlib import Path
from typing import Any, Dict, List, Sequence, Union

import numpy as np
from mmdet.registry import METRICS
from torch import nn

from ..coco_format.results import file_part, write_image, write_result
from .base import (NO_TRUTH, ImageId, Row, WritingMetric, check_labels,
                   check_same_shape, log_classes, mean_of_known,
                   require_all_instances, scores_by_class, to_array)
from .cityscapes_ap import image_overlaps, instance_ap, join_overlaps


def instance_files(image_id: ImageId, num_masks: int) -> List[str]:
    """Files of an image, relative to the folder, the text file first."""
    masks = [f'masks/{image_id}_{n}.png' for n in range(num_masks)]
    return [f'{image_id}_pred.txt', *masks]


def write_instances(folder: Path, image_id: ImageId, ids: Sequence[int],
                    scores: Union[np.ndarray, Sequence[float]],
                    masks: Union[np.ndarray, Sequence[np.ndarray]]) -> int:
    """Write the instances of one image, also where there are none.

    Masks of an earlier export of the image that are not replaced are
    removed.

    Args:
        folder (Path): ``PREFIX.instances``.
        image_id (int | str): The image.
        ids (Sequence[int]): n ids of the label table.
        scores (np.ndarray | Sequence[float]): n confidences; they read back
            exactly.
        masks (np.ndarray | Sequence[np.ndarray]): n masks (h, w); those
            without a pixel are left out.

    Returns:
        int: Number of masks.

    Raises:
        InputError: A file cannot be written.
    """
    kept = [i for i, mask in enumerate(masks) if mask.any()]
    text, *names = instance_files(image_id, len(kept))
    lines = []
    for i, name in zip(kept, names):
        write_image(folder / name, masks[i].astype(bool) * np.uint8(255))
        lines.append(f'{name} {int(ids[i])} {float(scores[i])!r}\n')
    write_result(folder / text, ''.join(lines).encode())
    old = len(kept)
    while (path := folder / f'masks/{image_id}_{old}.png').exists():
        path.unlink(missing_ok=True)
        old += 1
    return len(kept)


@METRICS.register_module()
class CityscapesInstanceAPMetric(WritingMetric):
    """AP of masks as ``evalInstanceLevelSemanticLabeling`` computes it.

    Keys are those of mmdet's ``CityScapesMetric``; files are written only
    where ``outfile_prefix`` asks for them, and none is read.

    Args:
        classwise (bool): Whether to log a line for each class.
        format_only (bool): Whether to write the server's format and compute
            nothing, as for images without annotation.
        outfile_prefix (str, optional): Write ``PREFIX.instances/``. Several
            machines must share the folder.
        prefix (str, optional): First part of the keys. Defaults to
            'cityscapes'.
    """
    default_prefix = 'cityscapes'
    prediction = 'pred_instances'
    task = 'instances'
    score_keys = ('mAP', 'AP@50')

    def check_model(self, model: nn.Module) -> None:
        """Refuse a model that leaves instances out."""
        require_all_instances(model)

    def image_row(self, sample: Dict) -> Dict:
        """Overlaps of one image, and how many masks were written.

        Raises:
            InputError: Masks have not the image's size, or there is nothing
                to compare with.
            CodeError: A label is no thing.
        """
        space, pred = self.space, sample[self.prediction]
        row: Dict[str, Any] = {}
        labels, scores, masks = (
            to_array(pred[key]) for key in ('labels', 'scores', 'masks'))
        check_labels(labels, space.num_things, 'thing label')
        if not self.format_only:
            gt, codes, crowd = self.ground_truth(sample, NO_TRUTH)
            if len(masks):
                check_same_shape(sample, 'pred_instances.masks',
                                 masks.shape[1:], gt.shape)
            row['overlaps'] = image_overlaps(gt, codes[crowd],
                                             space.num_things, space.void,
                                             labels, scores, masks)
        if self.outfile_prefix is not None:
            row['num_masks'] = write_instances(
                self.task_folder, file_part(sample['img_id']),
                [space.category_ids[label] for label in labels], scores, masks)
        return row

    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """AP of all images; NaN where no class has an instance."""
        if self.outfile_prefix is not None:
            self.finish_folder(
                name for image_id, row in rows
                for name in instance_files(image_id, row['num_masks']))
        if self.format_only:
            return {}
        names = self.space.thing_names
        found = join_overlaps([row['overlaps'] for _, row in rows])
        scores = instance_ap(found, len(names))
        columns = dict(AP=scores.mean(axis=1), AP50=scores[:, 0])
        self.by_class = scores_by_class(names, columns)
        if self.classwise:
            percent = {key: 100 * values for key, values in columns.items()}
            log_classes('Mask AP (Cityscapes) by class', names, percent)
        return {
            'mAP': mean_of_known(scores),
            'AP@50': mean_of_known(scores[:, 0])
        }
