# Three times as long, each shorter side in [640, 800] instead of six of them.
_base_ = [
    '../_base_/models/panoptic-fpn_r50_fpn.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/schedule_3x.py',
    '../_base_/default_runtime.py',
]
# the third step resizes
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(
        type='RandomResize',
        resize_type='PanopticResize',
        scale=[(1333, 640), (1333, 800)],
        keep_ratio=True),
    *_base_.train_pipeline[3:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
