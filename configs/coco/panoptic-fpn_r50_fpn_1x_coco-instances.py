# COCO's 80 things on one stuff class, the background. The base trains on whole
# objects, which may overlap, of instances_train2017.json.
_base_ = [
    '../_base_/models/panoptic-fpn_r50_fpn.py',
    '../_base_/datasets/coco_instances.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]
num_things = 80
num_stuff = 1
counts = dict(num_things_classes=num_things, num_stuff_classes=num_stuff)
model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=num_things),
        mask_head=dict(num_classes=num_things)),
    semantic_head=counts,
    panoptic_fusion_head=counts)
