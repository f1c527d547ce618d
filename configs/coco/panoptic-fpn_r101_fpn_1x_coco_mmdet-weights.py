_base_ = './panoptic-fpn_r50_fpn_1x_coco_mmdet-weights.py'
# mmdet's panoptic_fpn_r101_fpn_1x_coco and _mstrain_3x_coco (docs/weights.md).
model = dict(backbone=dict(depth=101))
