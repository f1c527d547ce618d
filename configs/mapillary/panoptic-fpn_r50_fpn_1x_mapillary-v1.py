# Mapillary Vistas v1.2 with COCO's schedule, on crops: a start, not of the
# paper. Many objects an image: twice COCO's limit.
_base_ = [
    '../_base_/models/panoptic-fpn_r50_fpn.py',
    '../_base_/datasets/mapillary_panoptic.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]
num_things = 37
num_stuff = 28
counts = dict(num_things_classes=num_things, num_stuff_classes=num_stuff)
model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=num_things),
        mask_head=dict(num_classes=num_things)),
    semantic_head=counts,
    panoptic_fusion_head=counts,
    test_cfg=dict(rcnn=dict(max_per_img=200)))
