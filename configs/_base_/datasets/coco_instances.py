# COCO's instances alone: each pixel that none covers is the stuff class
# 'background'; converted as docs/datasets.md says.
_base_ = './coco_panoptic.py'

train_dataloader = dict(
    dataset=dict(
        ann_file='annotations/things_train2017.json',
        data_prefix=dict(seg='annotations/things_train2017/')))
val_dataloader = dict(
    dataset=dict(
        ann_file='annotations/things_val2017.json',
        data_prefix=dict(seg='annotations/things_val2017/')))
test_dataloader = val_dataloader
