# ResNeXt-101 32x8d
_base_ = './semantic-fpn_r50_fpn_1x_coco.py'
model = dict(
    # these weights were trained on images divided by their deviation
    data_preprocessor=dict(std=[57.375, 57.120, 58.395]),
    backbone=dict(
        type='ResNeXt',
        depth=101,
        groups=32,
        base_width=8,
        style='pytorch',
        init_cfg=dict(checkpoint='open-mmlab://detectron2/resnext101_32x8d')))
