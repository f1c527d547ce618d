_base_ = '../../cityscapes/panoptic-fpn_r50_fpn_65k_cityscapes.py'
# Table 2b: lambda_s = 0.0, lambda_i = 1 (AP 32.2, PQ_th 51.3)
# no semantic branch: Mask R-CNN
model = dict(loss_weights=dict(instance=1.0, semantic=0.0))
default_hooks = dict(checkpoint=dict(save_best='cityscapes/mAP'))
