_base_ = './panoptic-fpn_r50_fpn_1x_coco.py'
# Table 3b: R101-FPN (PQ 40.3).
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint='open-mmlab://detectron2/resnet101_caffe')))
