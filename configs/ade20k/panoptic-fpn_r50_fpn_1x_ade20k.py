# ADE20K with COCO's model, scales and schedule: a start, not of the paper.
_base_ = [
    '../_base_/models/panoptic-fpn_r50_fpn.py',
    '../_base_/datasets/ade20k_panoptic.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]
num_things = 100
num_stuff = 50
counts = dict(num_things_classes=num_things, num_stuff_classes=num_stuff)
model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=num_things),
        mask_head=dict(num_classes=num_things)),
    semantic_head=counts,
    panoptic_fusion_head=counts)
