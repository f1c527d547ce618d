_base_ = '../../cityscapes/semantic-fpn_r101_fpn_65k_cityscapes.py'
# Figures 4 and 5c: a mirrored ResNet-101 as decoder; the head on its stride 4.
model = dict(
    neck=dict(_delete_=True, type='SymmetricDecoder', depth=101),
    semantic_head=dict(in_channels=[256], feature_strides=[4]))
