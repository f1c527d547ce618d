# Pascal VOC 2012: 20 thing classes, and the background. Our schedule, not of
# the paper.
_base_ = [
    '../_base_/models/panoptic-fpn_r50_fpn.py',
    '../_base_/datasets/pascal_voc.py',
    '../_base_/schedules/schedule_30k.py',
    '../_base_/default_runtime.py',
]
num_things = 20
num_stuff = 1
counts = dict(num_things_classes=num_things, num_stuff_classes=num_stuff)
model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=num_things),
        mask_head=dict(num_classes=num_things)),
    semantic_head=counts,
    panoptic_fusion_head=counts)
