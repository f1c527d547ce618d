# COCO panoptic, scale jitter of section 4.1 (shorter side in [640, 800]).
data_root = 'data/coco/'
backend_args = None

train_pipeline = [
    dict(type='LoadPanopticImage', backend_args=backend_args),
    dict(type='LoadPanopticMap', backend_args=backend_args),
    dict(
        type='RandomChoiceResize',
        resize_type='PanopticResize',
        scales=[(1333, side) for side in range(640, 801, 32)],
        keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='DerivePanopticTargets'),
    dict(type='PackPanopticInputs'),
]
test_pipeline = [
    dict(type='LoadPanopticImage', backend_args=backend_args),
    dict(type='PanopticResize', scale=(1333, 800), keep_ratio=True),
    # after the geometry: evaluated at the original size
    dict(type='LoadPanopticMap', backend_args=backend_args),
    dict(
        type='DerivePanopticTargets',
        instances=False,
        semantic=False,
        panoptic=True),
    dict(type='PackPanopticInputs'),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='ResumableInfiniteSampler'),
    batch_sampler=dict(type='ResumableAspectRatioBatchSampler'),
    dataset=dict(
        type='CocoPanopticFPNDataset',
        data_root=data_root,
        ann_file='annotations/panoptic_train2017.json',
        # masks that overlap, as the paper trains on; None: those of the PNGs
        instances_ann_file='annotations/instances_train2017.json',
        data_prefix=dict(
            img='train2017/', seg='annotations/panoptic_train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        backend_args=backend_args,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoPanopticFPNDataset',
        data_root=data_root,
        ann_file='annotations/panoptic_val2017.json',
        data_prefix=dict(
            img='val2017/', seg='annotations/panoptic_val2017/'),
        test_mode=True,
        backend_args=backend_args,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(
    type='PanopticEvaluator',
    metrics=[
        dict(type='PanopticQualityMetric'),
        dict(
            type='PanopticInstanceAPMetric',
            ann_file=data_root + 'annotations/instances_val2017.json',
            backend_args=backend_args),
        dict(type='SemanticIoUMetric'),
    ])
test_evaluator = val_evaluator
