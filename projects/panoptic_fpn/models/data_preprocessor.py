"""mmdet's data preprocessor, without copies that nobody needs."""
from typing import Any

from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample


@MODELS.register_module()
class PanopticDataPreprocessor(DetDataPreprocessor):
    """mmdet's ``DetDataPreprocessor``, with less to copy.

    The ground truth of an evaluation, ``gt_panoptic_seg``, stays on the host,
    where metrics read it.
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
