# ResNet-50 with heads of full width on the shapes: weights that are really
# trained, within minutes on a CPU; benchmarks/agreement.py compares with them.
_base_ = './panoptic-fpn_tiny_synthetic.py'

channels = 256
model = dict(
    backbone=dict(depth=50, base_channels=64),
    neck=dict(in_channels=[256, 512, 1024, 2048], out_channels=channels),
    rpn_head=dict(in_channels=channels, feat_channels=channels),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels),
        bbox_head=dict(in_channels=channels, fc_out_channels=1024),
        mask_roi_extractor=dict(out_channels=channels),
        mask_head=dict(
            num_convs=4, in_channels=channels, conv_out_channels=channels)),
    semantic_head=dict(in_channels=[channels] * 4, channels=128))

max_iters = 400
optim_wrapper = dict(optimizer=dict(lr=0.0005))
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=50,
        end=max_iters,
        eta_min=1e-6)
]
