# mmdet's MaskFormer (docs/mmdet_models.md); 75 epochs are 554k iterations.
_base_ = [
    '../_base_/mmdet/maskformer_r50.py',
    '../_base_/datasets/coco_panoptic.py',
]
large = dict(
    type='RandomChoiceResize',
    resize_type='PanopticResize',
    scales=[(side, 1333) for side in range(480, 801, 32)],
    keep_ratio=True)
small = dict(large, scales=[(400, 1333), (500, 1333), (600, 1333)])
crop = dict(
    type='RandomCrop',
    crop_type='absolute_range',
    crop_size=(384, 600),
    allow_negative_crop=True)
# the third step resizes
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(type='RandomChoice', transforms=[[small, crop, large], [large]]),
    *_base_.train_pipeline[3:],
]
# on each of 16 GPUs
train_dataloader = dict(
    batch_size=1,
    # objects of the PNGs, as in mmdet
    dataset=dict(instances_ann_file=None, pipeline=train_pipeline))

train_cfg = dict(max_iters=554400)
param_scheduler = [
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=554400,
        milestones=[369600],
        gamma=0.1),
]
