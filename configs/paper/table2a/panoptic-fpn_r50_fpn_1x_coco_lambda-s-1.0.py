_base_ = '../../coco/panoptic-fpn_r50_fpn_1x_coco.py'
# Table 2a: lambda_s = 1.0, lambda_i = 1 (AP 32.1, PQ_th 44.6)
model = dict(loss_weights=dict(semantic=1.0))
