# Semantic FPN ResNeXt-101-FPN of Table 1a (mIoU 79.1). The paper does not
# name the groups: 32x8d, as in its code base.
_base_ = './semantic-fpn_r101_fpn_65k_cityscapes.py'
model = dict(
    # these weights were trained on images divided by their deviation
    data_preprocessor=dict(std=[57.375, 57.120, 58.395]),
    backbone=dict(
        type='ResNeXt',
        groups=32,
        base_width=8,
        style='pytorch',
        init_cfg=dict(checkpoint='open-mmlab://detectron2/resnext101_32x8d')))
