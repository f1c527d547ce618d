# mmdet's panoptic_fpn_r50_fpn_1x_coco and _mstrain_3x_coco, converted
# (docs/weights.md), with the settings of its zoo. There one NMS of all classes
# among detections above 0.6 serves the merge and AP; here the merge alone.
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
    test_cfg=dict(panoptic=dict(score_thr=0.6, nms_iou_thr=0.5)))
