"""mmdet's data preprocessor, without copies that nobody needs."""
from typing import Any, Sequence

from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample

from ..labels import IGNORE_LABEL


@MODELS.register_module()
class PanopticDataPreprocessor(DetDataPreprocessor):
    """mmdet's ``DetDataPreprocessor``, with less to copy.

    The ground truth of an evaluation, ``gt_panoptic_seg``, stays on the host,
    where metrics read it. Void pixels of ``gt_sem_seg`` get the value of
    padding, ``seg_pad_value``: mmdet's heads know void as 255.
    """

    def cast_data(self, data: Any) -> Any:
        """Data on the model's device, but for ``gt_panoptic_seg``."""
        if not (isinstance(data, DetDataSample) and 'gt_panoptic_seg' in data):
            return super().cast_data(data)
        truth = data.gt_panoptic_seg
        del data.gt_panoptic_seg
        moved = super().cast_data(data)
        data.gt_panoptic_seg = moved.gt_panoptic_seg = truth
        return moved

    def pad_gt_sem_seg(self,
                       batch_data_samples: Sequence[DetDataSample]) -> None:
        """Pad semantic maps to the batch; void as padding."""
        super().pad_gt_sem_seg(batch_data_samples)
        if self.seg_pad_value == IGNORE_LABEL:
            return
        for sample in batch_data_samples:
            if 'gt_sem_seg' in sample:
                labels = sample.gt_sem_seg.sem_seg
                sample.gt_sem_seg.sem_seg = labels.masked_fill(
                    labels == IGNORE_LABEL, self.seg_pad_value)
