_base_ = './lambda-s-0.5.py'
# Table 3d: each branch sees half of FPN's channels
model = dict(
    fpn_groups=dict(instance=32, semantic=32),
    rpn_head=dict(in_channels=32),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32),
        bbox_head=dict(in_channels=32),
        mask_roi_extractor=dict(out_channels=32),
        mask_head=dict(in_channels=32)),
    semantic_head=dict(in_channels=[32] * 4))
