# KITTI-STEP, converted as docs/datasets.md says; frames of 1242 x 375 pixels,
# enlarged.
_base_ = './coco_format.py'

data_root = 'data/kitti_step/'
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(
        type='RandomChoiceResize',
        resize_type='PanopticResize',
        scales=[(2600, side) for side in range(384, 641, 32)],
        keep_ratio=True),
    *_base_.train_pipeline[3:],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(type='PanopticResize', scale=(2600, 512), keep_ratio=True),
    *_base_.test_pipeline[2:],
]
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='panoptic/train.json',
        data_prefix=dict(img='images/train/', seg='panoptic/train/'),
        pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='panoptic/val.json',
        data_prefix=dict(img='images/val/', seg='panoptic/val/'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
