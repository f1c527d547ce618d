# Pascal VOC 2012, converted as docs/datasets.md says.
_base_ = './coco_format.py'

data_root = 'data/VOCdevkit/VOC2012/'
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='panoptic/train.json',
        data_prefix=dict(img='JPEGImages/', seg='panoptic/train/')))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='panoptic/val.json',
        data_prefix=dict(img='JPEGImages/', seg='panoptic/val/')))
test_dataloader = val_dataloader
