# mmdet's Mask2Former (docs/mmdet_models.md); 50 epochs are 369k iterations.
_base_ = [
    '../_base_/mmdet/mask2former_r50.py',
    '../_base_/datasets/coco_panoptic.py',
]
size = (1024, 1024)
# the third step resizes
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(
        type='PanopticRandomResizeCrop',
        scale=size,
        ratio_range=(0.1, 2.0),
        crop_size=size),
    *_base_.train_pipeline[3:],
]
# all batches have one shape: no need to sort images by their aspect ratio
train_dataloader = dict(
    batch_sampler=None,
    # objects of the PNGs, as in mmdet
    dataset=dict(instances_ann_file=None, pipeline=train_pipeline))

train_cfg = dict(max_iters=368750)
param_scheduler = [
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=368750,
        milestones=[327778, 355092],
        gamma=0.1),
]
