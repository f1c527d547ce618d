# ResNeXt-101 64x4d
_base_ = './semantic-fpn_r50_fpn_1x_coco.py'
model = dict(
    # these weights were trained on RGB images divided by their deviation
    data_preprocessor=dict(
        mean=[123.675, 116.280, 103.530],
        std=[58.395, 57.120, 57.375],
        bgr_to_rgb=True),
    backbone=dict(
        type='ResNeXt',
        depth=101,
        groups=64,
        base_width=4,
        style='pytorch',
        init_cfg=dict(checkpoint='open-mmlab://resnext101_64x4d')))
