# BDD100K panoptic, converted as docs/datasets.md says.
_base_ = './coco_format.py'

data_root = 'data/bdd100k/'
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='panoptic/train.json',
        data_prefix=dict(img='images/10k/train/', seg='panoptic/train/')))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='panoptic/val.json',
        data_prefix=dict(img='images/10k/val/', seg='panoptic/val/')))
test_dataloader = val_dataloader
