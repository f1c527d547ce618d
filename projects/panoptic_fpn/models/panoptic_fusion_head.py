"""Merge of the two branches as a part of the detector: thresholds, no weights.

The thresholds are the merge's own. The region branch keeps COCO's settings for
AP (score 0.05, 100 detections); one setting that serves both would cost AP.
"""
from typing import Optional, Tuple

import torch
from mmdet.registry import MODELS
from mmdet.utils import OptConfigType
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor

from mmengine_exact.errors import InputError

from ..fusion import fuse
from ..labels import channel_labels
from ..ops import use_fast
from ..ops.pattern_merge import merge_patterns

#: Thresholds of the merge that ``test_cfg.panoptic`` does not give.
DEFAULTS = dict(
    score_thr=0.5, overlap_thr=0.5, stuff_area=4096, nms_iou_thr=None)


@MODELS.register_module()
class PanopticFusionHead(BaseModule):
    """Instances over stuff (section 3.2 of the paper).

    Args:
        num_things_classes (int): T.
        num_stuff_classes (int): S.
        test_cfg (dict): ``score_thr`` (least score of an instance on the
            map, default 0.5), ``overlap_thr`` (largest fraction of an
            instance that more confident ones may cover, default 0.5),
            ``stuff_area`` (least pixels of a stuff class in an image,
            default 4096, COCO's) and ``nms_iou_thr`` (largest IoU with the
            box of a more confident instance of any class; off by default,
            0.5 in mmdet's zoo).

    Raises:
        InputError: Another key in ``test_cfg``.
    """

    def __init__(self,
                 num_things_classes: int = 80,
                 num_stuff_classes: int = 53,
                 test_cfg: OptConfigType = None) -> None:
        super().__init__()
        self.num_things_classes = num_things_classes
        self.num_stuff_classes = num_stuff_classes
        #: Also the value of a void pixel.
        self.num_classes = num_things_classes + num_stuff_classes
        self.thresholds = dict(DEFAULTS, **(test_cfg or {}))
        unknown = sorted(set(self.thresholds) - set(DEFAULTS))
        if unknown:
            raise InputError(
                f'model.test_cfg.panoptic has {unknown}; known keys are '
                f'{sorted(DEFAULTS)}. Correct the name.')

    def predict(self, instances: Optional[InstanceData],
                channels: Optional[Tensor], predict_things: bool,
                shape: Tuple[int, int]) -> Tuple[Tensor, Tensor]:
        """Panoptic map of one image from the branches that the model has.

        Args:
            instances (InstanceData, optional): ``masks`` (n, h, w) bool,
                ``bboxes`` (n, 4), ``scores``, ``labels``.
            channels (Tensor, optional): (h, w), the semantic branch's
                channel of each pixel.
            predict_things (bool): Whether the semantic branch has a channel
                for each thing class.
            shape (tuple[int, int]): (h, w).

        Returns:
            tuple[Tensor, Tensor]: int32 map (h, w) and the indices of the
            instances on it, as :func:`panoptic_fpn.fusion.fuse`.
        """
        score_thr, overlap_thr, stuff_area, nms_iou_thr = (
            self.thresholds[key] for key in DEFAULTS)
        if instances is not None and len(instances):
            pasted = (instances.masks, instances.bboxes, instances.scores,
                      instances.labels)
        else:  # mmdet's empty masks always have the original size
            known = channels if instances is None else instances.bboxes
            assert known is not None
            none = torch.zeros(0, device=known.device)
            pasted = (none.bool().reshape(0, *shape), none.reshape(0, 4), none,
                      none.long())
        stuff = torch.from_numpy(
            channel_labels(self.num_things_classes, self.num_stuff_classes,
                           predict_things))
        # on a CPU nothing waits: the plain way takes at most half the time
        patterns = pasted[0].is_cuda and use_fast()
        merge = merge_patterns if patterns else fuse
        return merge(*pasted, channels, stuff, score_thr, overlap_thr,
                     stuff_area, self.num_classes, nms_iou_thr)
