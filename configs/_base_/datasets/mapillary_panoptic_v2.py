# Mapillary Vistas v2.0.
_base_ = './mapillary_panoptic.py'

train_dataloader = dict(
    dataset=dict(
        ann_file='training/v2.0/panoptic/panoptic_2020.json',
        data_prefix=dict(seg='training/v2.0/panoptic/')))
val_dataloader = dict(
    dataset=dict(
        ann_file='validation/v2.0/panoptic/panoptic_2020.json',
        data_prefix=dict(seg='validation/v2.0/panoptic/')))
test_dataloader = val_dataloader
