# Detectron2's panoptic_fpn_R_50_1x and _3x, converted (docs/weights.md), with
# the settings of its zoo; those that are not here are the paper's as well:
# images, anchors, NMS, AP and merge.
_base_ = './panoptic-fpn_r50_fpn_1x_coco.py'
model = dict(
    backbone=dict(init_cfg=None),
    # as many samples for a bin as it has pixels
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=0)),
        mask_roi_extractor=dict(roi_layer=dict(sampling_ratio=0))))
