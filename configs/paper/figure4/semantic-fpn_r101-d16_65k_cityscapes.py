_base_ = '../../cityscapes/semantic-fpn_r101_fpn_65k_cityscapes.py'
# Figures 4 and 5b: dilation-16. The semantic head on the one map, stride 16.
model = dict(
    backbone=dict(
        strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), out_indices=(3, )),
    neck=None,
    semantic_head=dict(in_channels=[2048], feature_strides=[16]))
