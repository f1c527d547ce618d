_base_ = './panoptic-fpn_r50_fpn_1x_coco_detectron2-weights.py'
# Detectron2's panoptic_fpn_R_101_3x (docs/weights.md).
model = dict(backbone=dict(depth=101))
