_base_ = '../../coco/panoptic-fpn_r50_fpn_1x_coco.py'
# Table 2a: lambda_s = 0.0, lambda_i = 1 (AP 33.9, PQ_th 46.6)
# no semantic branch: Mask R-CNN
model = dict(loss_weights=dict(semantic=0.0))
default_hooks = dict(checkpoint=dict(save_best='coco/segm_mAP'))
