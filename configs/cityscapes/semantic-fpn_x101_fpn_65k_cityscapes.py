# Semantic FPN ResNeXt-101-FPN of Table 1a (mIoU 79.1). The paper does not
# name the groups; 64x4d has the compute that it prints (tools/complexity.py).
_base_ = './semantic-fpn_r101_fpn_65k_cityscapes.py'
model = dict(
    # these weights were trained on RGB images divided by their deviation
    data_preprocessor=dict(
        mean=[123.675, 116.280, 103.530],
        std=[58.395, 57.120, 57.375],
        bgr_to_rgb=True),
    backbone=dict(
        type='ResNeXt',
        groups=64,
        base_width=4,
        style='pytorch',
        init_cfg=dict(checkpoint='open-mmlab://resnext101_64x4d')))
