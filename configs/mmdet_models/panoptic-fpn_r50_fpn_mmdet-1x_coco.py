# mmdet's Panoptic FPN (docs/mmdet_models.md); 90k iterations, in which mmdet
# has 12 epochs.
_base_ = [
    '../_base_/mmdet/panoptic-fpn_r50.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/schedule_1x.py',
]
# mmdet's SGD treats all parameters alike
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True))
# objects of the PNGs, as in mmdet
train_dataloader = dict(dataset=dict(instances_ann_file=None))
