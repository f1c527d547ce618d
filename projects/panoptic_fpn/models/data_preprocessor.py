"""mmdet's data preprocessor, without waits and copies that nobody needs."""
from typing import Any, Sequence

from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample


@MODELS.register_module()
class PanopticDataPreprocessor(DetDataPreprocessor):
    """mmdet's ``DetDataPreprocessor``: the same batch in less time.

    Copies to a GPU do not wait for it; the ground truth of an evaluation,
    ``gt_panoptic_seg``, stays on the host, where metrics read it; masks and
    semantic maps of the batch's size are not copied to be padded.

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

    def pad_gt_masks(self,
                     batch_data_samples: Sequence[DetDataSample]) -> None:
        """Pad the masks of instances that are smaller than the batch."""
        for sample in batch_data_samples:
            masks = sample.gt_instances.get('masks')
            if masks is not None and sample.batch_input_shape != (masks.height,
                                                                  masks.width):
                super().pad_gt_masks([sample])

    def pad_gt_sem_seg(self,
                       batch_data_samples: Sequence[DetDataSample]) -> None:
        """Pad semantic maps that are smaller than the batch."""
        for sample in batch_data_samples:
            semantic = sample.get('gt_sem_seg')
            if semantic is not None and (sample.batch_input_shape
                                         != semantic.shape):
                super().pad_gt_sem_seg([sample])
