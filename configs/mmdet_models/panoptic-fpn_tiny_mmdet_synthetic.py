# mmdet's Panoptic FPN, small, from scratch on synthetic shapes, on a CPU.
_base_ = [
    '../_base_/mmdet/panoptic-fpn_r50.py',
    '../_base_/datasets/synthetic_panoptic.py',
    '../_base_/schedules/schedule_500_tiny.py',
]
custom_imports = dict(imports=['panoptic_fpn', 'panoptic_apps.toy_data'])
num_things = 4
num_stuff = 5
counts = dict(num_things_classes=num_things, num_stuff_classes=num_stuff)
channels = 64
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(
        depth=18,
        base_channels=32,
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None),
    neck=dict(
        in_channels=[32, 64, 128, 256],
        out_channels=channels,
        norm_cfg=norm_cfg),
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(scales=[4])),
    roi_head=dict(
        # on a CPU RoIAlign's backward is most of an iteration
        bbox_roi_extractor=dict(
            out_channels=channels, roi_layer=dict(sampling_ratio=1)),
        bbox_head=dict(
            in_channels=channels, fc_out_channels=256, num_classes=num_things),
        mask_roi_extractor=dict(
            out_channels=channels, roi_layer=dict(sampling_ratio=1)),
        mask_head=dict(
            num_convs=2,
            in_channels=channels,
            conv_out_channels=channels,
            num_classes=num_things)),
    semantic_head=dict(
        in_channels=channels, inner_channels=channels, **counts),
    panoptic_fusion_head=counts,
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=48))),
    test_cfg=dict(
        rpn=dict(nms_pre=200, max_per_img=100),
        panoptic=dict(stuff_area_limit=64)))
auto_scale_lr = dict(enable=False, base_batch_size=8, scale_schedule=True)
default_hooks = dict(checkpoint=dict(interval=200))
