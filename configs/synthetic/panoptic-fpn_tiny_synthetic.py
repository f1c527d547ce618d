# `make demo`: the tiny model from scratch on synthetic shapes, on a CPU.
_base_ = [
    '../_base_/models/panoptic-fpn_tiny.py',
    '../_base_/datasets/synthetic_panoptic.py',
    '../_base_/schedules/schedule_500_tiny.py',
    '../_base_/default_runtime.py',
]
custom_imports = dict(imports=['panoptic_fpn', 'panoptic_apps.toy_data'])
num_things = 4
num_stuff = 5
model = dict(
    loss_weights=dict(instance=1.0, semantic=1.0),
    roi_head=dict(
        bbox_head=dict(num_classes=num_things),
        mask_head=dict(num_classes=num_things)),
    semantic_head=dict(
        num_things_classes=num_things, num_stuff_classes=num_stuff),
    panoptic_fusion_head=dict(
        num_things_classes=num_things, num_stuff_classes=num_stuff),
    # images of 128 x 128 pixels
    test_cfg=dict(panoptic=dict(stuff_area=64)))

auto_scale_lr = dict(enable=False, base_batch_size=8, scale_schedule=True)
default_hooks = dict(checkpoint=dict(interval=200))
