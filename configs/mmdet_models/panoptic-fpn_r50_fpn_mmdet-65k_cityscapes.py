# mmdet's Panoptic FPN (docs/mmdet_models.md) on Cityscapes, which mmdet has no
# config for; the schedule is the paper's.
_base_ = [
    '../_base_/mmdet/panoptic-fpn_r50.py',
    '../_base_/datasets/cityscapes_panoptic.py',
    '../_base_/schedules/schedule_65k_cityscapes.py',
]
num_things = 8
num_stuff = 11
counts = dict(num_things_classes=num_things, num_stuff_classes=num_stuff)
model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=num_things),
        mask_head=dict(num_classes=num_things)),
    semantic_head=counts,
    panoptic_fusion_head=counts,
    test_cfg=dict(panoptic=dict(stuff_area_limit=2048)))
# its semantic head has one channel 'other' for all things
val_evaluator = dict(metrics=[
    *_base_.val_evaluator.metrics[:2],
    dict(type='SemanticIoUMetric'),
])
test_evaluator = val_evaluator
