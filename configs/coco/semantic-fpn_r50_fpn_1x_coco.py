# Semantic FPN on COCO's panoptic stuff (Tables 1c and 1d, mIoU 40.2):
# Panoptic FPN without its region branch.
_base_ = [
    '../_base_/models/panoptic-fpn_r50_fpn.py',
    '../_base_/datasets/coco_semantic.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]
# Table 2c: lambda_i = 0, lambda_s = 1
model = dict(loss_weights=dict(instance=0.0, semantic=1.0))
default_hooks = dict(checkpoint=dict(save_best='mIoU'))
