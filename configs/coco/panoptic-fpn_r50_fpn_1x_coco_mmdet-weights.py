# mmdet's panoptic_fpn_r50_fpn_1x_coco and _mstrain_3x_coco, converted
# (docs/weights.md), evaluated as mmdet does: one NMS of all classes among
# detections above 0.6. AP is mmdet's, too; for COCO's settings,
#   --cfg-options model.test_cfg.rcnn.score_thr=0.05
#                 model.test_cfg.rcnn.nms.class_agnostic=False
# leaves NMS of all classes to the merge, after that of each class.
_base_ = './panoptic-fpn_r50_fpn_1x_coco.py'
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True),
    backbone=dict(style='pytorch', init_cfg=None),
    # as many samples for a bin as it has pixels
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=0)),
        mask_roi_extractor=dict(roi_layer=dict(sampling_ratio=0))),
    test_cfg=dict(
        rcnn=dict(score_thr=0.6, nms=dict(class_agnostic=True)),
        panoptic=dict(score_thr=0.6, nms_iou_thr=0.5)))
