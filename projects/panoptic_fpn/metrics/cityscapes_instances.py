"""Mask AP of Cityscapes' instance task.

In    ``pred_instances``: scores (n, ), labels (n, ) 0..T-1, masks (n, h, w)
      bool; ground truth, map (h, w) of ``label + 1000 * number``
Row   of an image: labels, scores and areas of predictions and instances, and
      the pixels that pairs of the same class have in common
Out   mAP and AP@50, fractions

See ``cityscapes_ap`` for the protocol.
"""
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from mmdet.registry import METRICS
from mmengine.logging import print_log
from torch import nn

from mmengine_exact.errors import InputError

from ..coco_format.results import file_part
from .by_class import scores_by_class
from .cityscapes_ap import image_overlaps, instance_ap, join_overlaps
from .cityscapes_results import (instance_files, instances_folder,
                                 write_instances)
from .per_image import (Row, check_same_shape, check_thing_labels,
                        format_classwise, image_name, require_all_instances,
                        to_array)
from .result_files import NO_TRUTH, WritingMetric
from .semantic_iou import mean_of_known


@METRICS.register_module()
class CityscapesInstanceAPMetric(WritingMetric):
    """AP of masks as ``evalInstanceLevelSemanticLabeling`` computes it.

    Keys are those of mmdet's ``CityScapesMetric``; files are written only
    where ``outfile_prefix`` asks for them, and none is read.

    Args:
        classwise (bool): Whether to print a line for each class.
        format_only (bool): Whether to write the server's format and compute
            nothing, as for images without annotation.
        outfile_prefix (str, optional): Write ``PREFIX.instances/``. Several
            machines must share the folder.
        prefix (str, optional): First part of the keys. Defaults to
            'cityscapes'.

    Raises:
        InputError: ``format_only`` without ``outfile_prefix``.
    """
    default_prefix = 'cityscapes'
    prediction = 'pred_instances'
    score_keys = ('mAP', 'AP@50')

    def __init__(self,
                 classwise: bool = False,
                 format_only: bool = False,
                 outfile_prefix: Optional[str] = None,
                 prefix: Optional[str] = None) -> None:
        super().__init__(format_only, outfile_prefix, prefix)
        self.classwise = classwise

    def folder(self) -> str:
        assert self.outfile_prefix is not None  # else nothing is written
        return instances_folder(self.outfile_prefix)

    def check_model(self, model: nn.Module) -> None:
        """Refuse a model that leaves instances out."""
        require_all_instances(model)

    def image_row(self, sample: Dict) -> Dict:
        """Overlaps of one image, and how many masks were written.

        Raises:
            InputError: A label is no thing, masks are missing or have not
                the image's size, or there is nothing to compare with.
        """
        space = self.space
        row: Dict[str, Any] = {}
        labels, scores, masks = self._predictions(sample)
        if not self.format_only:
            gt, codes, crowd = self.ground_truth(sample, NO_TRUTH)
            if len(masks):
                check_same_shape(sample, 'pred_instances.masks',
                                 masks.shape[1:], gt.shape)
            row['overlaps'] = image_overlaps(gt, codes[crowd],
                                             space.num_things, space.void,
                                             labels, scores, masks)
        if self.outfile_prefix is not None:
            ids = [space.category_ids[label] for label in labels]
            row['num_masks'] = write_instances(self.outfile_prefix,
                                               file_part(sample['img_id']),
                                               ids,
                                               scores, masks)
        return row

    def _predictions(
            self, sample: Dict) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels (n, ), scores (n, ) and masks (n, h, w) of one image."""
        pred = sample[self.prediction]
        if pred.get('masks') is None:
            raise InputError(
                f'{image_name(sample)}: pred_instances has no masks, which '
                f'{type(self).__name__} judges. Give the model a mask head, '
                'or leave this metric out.')
        labels, scores, masks = (
            to_array(pred[key]) for key in ('labels', 'scores', 'masks'))
        check_thing_labels(sample, labels, self.space.num_things)
        return labels, scores, masks

    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """AP of all images; NaN where no class has an instance."""
        if self.outfile_prefix is not None:
            files = [
                name for image_id, row in rows
                for name in instance_files(image_id, row['num_masks'])
            ]
            self.finish_folder(files)
        if self.format_only:
            return {}
        names = self.space.thing_names
        found = join_overlaps([row['overlaps'] for _, row in rows])
        scores = instance_ap(found, len(names))
        columns = dict(AP=scores.mean(axis=1), AP50=scores[:, 0])
        self.by_class = scores_by_class(names, columns)
        if self.classwise:
            percent = {key: 100 * values for key, values in columns.items()}
            print_log(
                format_classwise('Mask AP (Cityscapes) by class', names,
                                 percent),
                logger='current')
        return {
            'mAP': mean_of_known(scores),
            'AP@50': mean_of_known(scores[:, 0])
        }
