# Group norm in FPN and in the heads of boxes (four convolutions and one fully
# connected layer) and masks (Wu and He, Group Normalization, ECCV 2018). The
# semantic branch has it anyway.
_base_ = '../coco/panoptic-fpn_r50_fpn_1x_coco.py'
norm_cfg = dict(type='GN', num_groups=32)
model = dict(
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg)))
