_base_ = '../../coco/panoptic-fpn_r50_fpn_1x_coco.py'
# Table 2a: lambda_s = 0.1, lambda_i = 1 (AP 34.0, PQ_th 46.8)
model = dict(loss_weights=dict(semantic=0.1))
