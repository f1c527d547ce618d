_base_ = '../../coco/panoptic-fpn_r50_fpn_1x_coco.py'
# Table 3d: each branch sees 128 of FPN's 256 channels (PQ 38.8)
model = dict(
    fpn_groups=dict(instance=128, semantic=128),
    rpn_head=dict(in_channels=128),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(in_channels=128),
        mask_roi_extractor=dict(out_channels=128),
        mask_head=dict(in_channels=128)),
    semantic_head=dict(in_channels=[128] * 4))
