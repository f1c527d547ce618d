"""mmdet's data preprocessor, without waits and copies that nobody needs."""
from typing import Any

from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample


@MODELS.register_module()
class PanopticDataPreprocessor(DetDataPreprocessor):
    """mmdet's ``DetDataPreprocessor``: the same batch in less time.

    Copies to a GPU do not wait for it; the ground truth of an evaluation,
    ``gt_panoptic_seg``, stays on the host, where metrics read it.

    Args:
        non_blocking (bool): Whether the host goes on while data is copied to
            a GPU.
        **kwargs: Same as ``DetDataPreprocessor``.
    """

    def __init__(self, non_blocking: bool = True, **kwargs: Any) -> None:
        super().__init__(non_blocking=non_blocking, **kwargs)

    def cast_data(self, data: Any) -> Any:
        """Data on the model's device, but for ``gt_panoptic_seg``."""
        if not (isinstance(data, DetDataSample) and 'gt_panoptic_seg' in data):
            return super().cast_data(data)
        others = data.new()
        del others.gt_panoptic_seg
        moved = super().cast_data(others)
        moved.gt_panoptic_seg = data.gt_panoptic_seg
        return moved
