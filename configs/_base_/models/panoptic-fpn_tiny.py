# A small Panoptic FPN that learns from scratch on a CPU: the R50 model with a
# ResNet-18 at half width, a quarter of FPN's channels, lighter heads, and no
# frozen part.
_base_ = './panoptic-fpn_r50_fpn.py'

channels = 64
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(std=[57.375, 57.120, 58.395]),
    backbone=dict(
        depth=18,
        base_channels=32,
        frozen_stages=-1,
        norm_cfg=norm_cfg,
        norm_eval=False,
        style='pytorch',
        zero_init_residual=True,
        init_cfg=None),
    neck=dict(
        in_channels=[32, 64, 128, 256],
        out_channels=channels,
        norm_cfg=norm_cfg),
    # anchors from 16 pixels on: images are small, and so are things in them
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(scales=[4])),
    roi_head=dict(
        # on a CPU RoIAlign's backward is most of an iteration
        bbox_roi_extractor=dict(
            out_channels=channels, roi_layer=dict(sampling_ratio=1)),
        bbox_head=dict(in_channels=channels, fc_out_channels=256),
        mask_roi_extractor=dict(
            out_channels=channels, roi_layer=dict(sampling_ratio=1)),
        mask_head=dict(
            num_convs=2, in_channels=channels, conv_out_channels=channels)),
    semantic_head=dict(in_channels=[channels] * 4, channels=channels),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=48))),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)))
