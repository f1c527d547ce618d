# Mapillary Vistas v1.2, as it is unpacked: docs/datasets.md. Photographs of
# about 9 megapixels, in crops.
_base_ = './coco_format.py'

data_root = 'data/mapillary/'
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(
        type='PanopticRandomResizeCrop',
        scale=(4096, 2048),
        ratio_range=(0.5, 1.5),
        crop_size=(1024, 1024)),
    dict(type='RandomFlip', prob=0.5),
    *_base_.train_pipeline[4:],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(type='PanopticResize', scale=(4096, 2048), keep_ratio=True),
    *_base_.test_pipeline[2:],
]
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='training/v1.2/panoptic/panoptic_2018.json',
        data_prefix=dict(
            img='training/images/', seg='training/v1.2/panoptic/'),
        pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='validation/v1.2/panoptic/panoptic_2018.json',
        data_prefix=dict(
            img='validation/images/', seg='validation/v1.2/panoptic/'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
