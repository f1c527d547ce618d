_base_ = '../../coco/panoptic-fpn_r50_fpn_1x_coco.py'
# Table 2a: lambda_s = 0.75, lambda_i = 1 (AP 32.6, PQ_th 45.0)
model = dict(loss_weights=dict(semantic=0.75))
