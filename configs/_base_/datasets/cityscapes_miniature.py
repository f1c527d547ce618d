# A drawn miniature of Cityscapes, a quarter of each side (256 x 512 pixels):
#   python tools/dataset_converters/miniature_cityscapes.py data/miniature
#   python tools/dataset_converters/cityscapes.py data/miniature
# The whole recipe on it: scale, crops around rare classes, colour.
_base_ = './cityscapes_panoptic.py'

data_root = 'data/miniature/'
train_pipeline = [
    dict(type='LoadPanopticImage'),
    dict(type='LoadPanopticMap'),
    dict(
        type='PanopticRandomResizeCrop',
        scale=(512, 256),
        ratio_range=(0.5, 2.0),
        crop_size=(128, 256),
        bootstrap=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='DerivePanopticTargets'),
    dict(type='PackPanopticInputs'),
]
test_pipeline = [
    dict(type='LoadPanopticImage'),
    dict(type='PanopticResize', scale=(512, 256), keep_ratio=True),
    dict(type='LoadPanopticMap'),
    dict(
        type='DerivePanopticTargets',
        instances=False,
        semantic=False,
        panoptic=True),
    dict(type='PackPanopticInputs'),
]
train_dataloader = dict(
    num_workers=1,
    sampler=dict(type='ClassUniformInfiniteSampler'),
    dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=2,
    num_workers=1,
    dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
