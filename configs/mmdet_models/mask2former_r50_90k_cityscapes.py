# mmdet's Mask2Former (docs/mmdet_models.md) on Cityscapes; mmdet has no
# config; crops and schedule are those of Mask2Former's authors.
_base_ = [
    '../_base_/mmdet/mask2former_r50.py',
    '../_base_/datasets/cityscapes_panoptic.py',
]
num_things = 8
num_stuff = 11
counts = dict(num_things_classes=num_things, num_stuff_classes=num_stuff)
class_weight = [1.0] * (num_things + num_stuff) + [0.1]
model = dict(
    data_preprocessor=dict(batch_augments=None),
    panoptic_head=dict(loss_cls=dict(class_weight=class_weight), **counts),
    panoptic_fusion_head=counts)
# on each of 8 GPUs
train_dataloader = dict(batch_size=2)

train_cfg = dict(max_iters=90000)
param_scheduler = [
    dict(
        type='PolyLR',
        by_epoch=False,
        begin=0,
        end=90000,
        power=0.9,
        eta_min=0),
]
