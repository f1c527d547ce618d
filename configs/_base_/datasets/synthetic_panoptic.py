# Shapes before textures, drawn from a seed to data_root where it is missing.
data_root = 'data/synthetic_shapes/'
generate = dict(num_train=1200, num_val=100, size=128, seed=0)

# for images of another size: training and evaluation see one scale
resize = dict(type='PanopticResize', scale=(128, 128), keep_ratio=True)
train_pipeline = [
    dict(type='LoadPanopticImage'),
    dict(type='LoadPanopticMap'),
    resize,
    dict(type='RandomFlip', prob=0.5),
    dict(type='DerivePanopticTargets'),
    dict(type='PackPanopticInputs'),
]
test_pipeline = [
    dict(type='LoadPanopticImage'),
    resize,
    dict(type='LoadPanopticMap'),
    dict(
        type='DerivePanopticTargets',
        instances=False,
        semantic=False,
        panoptic=True),
    dict(type='PackPanopticInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='ResumableInfiniteSampler'),
    dataset=dict(
        type='SyntheticShapesDataset',
        data_root=data_root,
        generate=generate,
        ann_file='annotations/panoptic_train.json',
        data_prefix=dict(img='train/', seg='annotations/panoptic_train/'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='SyntheticShapesDataset',
        data_root=data_root,
        generate=generate,
        ann_file='annotations/panoptic_val.json',
        data_prefix=dict(img='val/', seg='annotations/panoptic_val/'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(
    type='PanopticEvaluator',
    metrics=[
        dict(type='PanopticQualityMetric', classwise=True),
        dict(type='PanopticInstanceAPMetric'),
        dict(type='SemanticIoUMetric'),
    ])
test_evaluator = val_evaluator
