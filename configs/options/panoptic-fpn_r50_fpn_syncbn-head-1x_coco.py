# Batch norm over all GPUs in FPN and all heads, that of boxes with four
# convolutions and one fully connected layer. In one process it is batch norm.
_base_ = '../coco/panoptic-fpn_r50_fpn_1x_coco.py'
norm_cfg = dict(type='SyncBN')
model = dict(
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg)),
    semantic_head=dict(norm_cfg=norm_cfg))
