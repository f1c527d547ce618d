# Cityscapes in small, on a CPU: the tiny model on the miniature data set, with
# the transforms, the losses and the evaluation of the real one.
_base_ = [
    '../_base_/models/panoptic-fpn_tiny.py',
    '../_base_/datasets/cityscapes_miniature.py',
    '../_base_/schedules/schedule_500_tiny.py',
    '../_base_/default_runtime.py',
]
num_things = 8
num_stuff = 11
model = dict(
    loss_weights=dict(instance=0.5, semantic=1.0),
    roi_head=dict(
        bbox_head=dict(num_classes=num_things),
        mask_head=dict(num_classes=num_things)),
    semantic_head=dict(
        num_things_classes=num_things,
        num_stuff_classes=num_stuff,
        predict_things=True),
    panoptic_fusion_head=dict(
        num_things_classes=num_things, num_stuff_classes=num_stuff),
    # 2048 pixels of Cityscapes at a quarter of each side
    test_cfg=dict(panoptic=dict(stuff_area=128)))

auto_scale_lr = dict(enable=False, base_batch_size=4, scale_schedule=True)
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(interval=200))
