# mmdet's Panoptic FPN with ResNet-50; this project's runtime.
_base_ = '../default_runtime.py'
from mmengine.hub import get_config  # noqa: E402

model = get_config('mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py').model
model.data_preprocessor.update(
    type='PanopticDataPreprocessor', non_blocking=True)
# One pass gives instances and semantic map, too. AP has COCO's settings;
# score and NMS of all classes, which mmdet has for both, are the merge's.
model.type = 'MMDetPanopticFPN'
model.panoptic_fusion_head.type = 'BranchKeepingFusionHead'
model.test_cfg.panoptic.update(score_thr=0.6, nms_iou_thr=0.5)
model.test_cfg.rcnn.score_thr = 0.05
model.test_cfg.rcnn.nms.class_agnostic = False
