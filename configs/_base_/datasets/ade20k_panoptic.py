# ADE20K panoptic, as mmdet and Mask2Former prepare it: docs/datasets.md
_base_ = './coco_format.py'

data_root = 'data/ADEChallengeData2016/'
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='ade20k_panoptic_train.json',
        data_prefix=dict(img='images/training/',
                         seg='ade20k_panoptic_train/')))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='ade20k_panoptic_val.json',
        data_prefix=dict(img='images/validation/',
                         seg='ade20k_panoptic_val/')))
test_dataloader = val_dataloader
