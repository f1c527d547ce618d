# Colour augmentation and crop bootstrapping, 'for the largest backbones for
# semantic segmentation' (section 4.1, Table 1a).
_base_ = './cityscapes_semantic.py'

train_pipeline = [
    dict(type='LoadPanopticImage', backend_args=_base_.backend_args),
    dict(type='LoadPanopticMap', backend_args=_base_.backend_args),
    dict(
        type='PanopticRandomResizeCrop',
        scale=(2048, 1024),
        ratio_range=(0.5, 2.0),
        crop_size=(512, 1024),
        bootstrap=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='DerivePanopticTargets', instances=False),
    dict(type='PackPanopticInputs'),
]
train_dataloader = dict(
    sampler=dict(type='ClassUniformInfiniteSampler'),
    dataset=dict(pipeline=train_pipeline))
