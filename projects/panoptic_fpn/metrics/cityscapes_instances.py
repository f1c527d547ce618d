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
from typing import Dict, List, Tuple

import numpy as np
from mmdet.registry import METRICS

from ..coco_format.results import file_part, write_image, write_result
from ..ops.to_host import to_array, to_bitmaps
from .base import WritingMetric, check_labels, mean_of_known
from .cityscapes_ap import InstanceOverlaps, image_overlaps, instance_ap

#: Labels (n, ), scores (n, ) and masks (n, h, w) of one image.
Predicted = Tuple[np.ndarray, np.ndarray, np.ndarray]


@METRICS.register_module()
class CityscapesInstanceAPMetric(WritingMetric):
    """AP of masks as ``evalInstanceLevelSemanticLabeling`` computes it.

    Keys are those of mmdet's ``CityScapesMetric``. With ``outfile_prefix`` it
    writes ``PREFIX.instances/``. See :class:`WritingMetric` for the
    arguments.
    """
    default_prefix = 'cityscapes'
    prediction = 'pred_instances'
    task = 'instances'
    score_keys = ('mAP', 'AP@50')

    def predicted(self, sample: Dict) -> Predicted:
        """Labels, scores and masks of one image."""
        pred = sample[self.prediction]
        labels, scores = to_array(pred['labels']), to_array(pred['scores'])
        check_labels(labels, self.space.num_things, 'thing label')
        return labels, scores, to_bitmaps(pred['masks'])

    def judge(self, sample: Dict, pred: Predicted) -> InstanceOverlaps:
        """Overlaps of predictions and instances of one image."""
        labels, scores, masks = pred
        gt, codes, crowd = self.ground_truth(
            sample, shape=masks.shape[1:] if len(masks) else None)
        return image_overlaps(gt, codes[crowd], self.space.num_things,
                              self.space.void, labels, scores, masks)

    def write(self, sample: Dict, pred: Predicted) -> List[str]:
        """Write the instances of one image, also where there are none.

        Masks without a pixel are left out. Those of an earlier export of the
        image that are not replaced are removed.
        """
        folder, image_id = self.task_folder, file_part(sample['img_id'])
        lines: List[str] = []
        names: List[str] = []
        for label, score, mask in zip(*pred):
            if mask.any():
                names.append(f'masks/{image_id}_{len(names)}.png')
                write_image(folder / names[-1],
                            mask.astype(bool) * np.uint8(255))
                # the score reads back exactly
                lines.append(f'{names[-1]} {self.space.category_ids[label]} '
                             f'{float(score)!r}\n')
        text = f'{image_id}_pred.txt'
        write_result(folder / text, ''.join(lines).encode())
        old = len(names)
        while (path := folder / f'masks/{image_id}_{old}.png').exists():
            path.unlink(missing_ok=True)
            old += 1
        return [text, *names]

    def score(self, counts: List[InstanceOverlaps]) -> Dict[str, float]:
        """AP of all images; NaN where no class has an instance."""
        names = self.space.thing_names
        scores = instance_ap(counts, len(names))
        self.report_classes(
            'Mask AP (Cityscapes) by class',
            names,
            dict(AP=scores.mean(axis=1), AP50=scores[:, 0]),
            percent=.01)
        return {
            'mAP': mean_of_known(scores),
            'AP@50': mean_of_known(scores[:, 0])
        }
