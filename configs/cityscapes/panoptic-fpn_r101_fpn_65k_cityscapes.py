_base_ = './panoptic-fpn_r50_fpn_65k_cityscapes.py'
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint='open-mmlab://detectron2/resnet101_caffe')))
