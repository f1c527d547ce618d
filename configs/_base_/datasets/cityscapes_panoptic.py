# Cityscapes, crops of section 4.1; prepared by
#   python tools/dataset_converters/cityscapes.py data/cityscapes
# It lies there, or where CITYSCAPES_DATASET says, as for cityscapesscripts.
data_root = '{{$CITYSCAPES_DATASET:data/cityscapes}}'
backend_args = None

train_pipeline = [
    dict(type='LoadPanopticImage', backend_args=backend_args),
    dict(type='LoadPanopticMap', backend_args=backend_args),
    dict(
        type='PanopticRandomResizeCrop',
        scale=(2048, 1024),
        ratio_range=(0.5, 2.0),
        crop_size=(512, 1024)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='DerivePanopticTargets'),
    dict(type='PackPanopticInputs'),
]
test_pipeline = [
    dict(type='LoadPanopticImage', backend_args=backend_args),
    dict(type='PanopticResize', scale=(2048, 1024), keep_ratio=True),
    # after the geometry: evaluated at the original size
    dict(type='LoadPanopticMap', backend_args=backend_args),
    dict(
        type='DerivePanopticTargets',
        instances=False,
        semantic=False,
        panoptic=True),
    dict(type='PackPanopticInputs'),
]

# 4 crops on each of 8 GPUs
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='ResumableInfiniteSampler'),
    dataset=dict(
        type='CityscapesPanopticDataset',
        data_root=data_root,
        ann_file='gtFine/panoptic_fpn_train.json',
        data_prefix=dict(img='leftImg8bit/train/', seg='gtFine/train/'),
        filter_cfg=dict(filter_empty_gt=True),
        backend_args=backend_args,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CityscapesPanopticDataset',
        data_root=data_root,
        ann_file='gtFine/panoptic_fpn_val.json',
        data_prefix=dict(img='leftImg8bit/val/', seg='gtFine/val/'),
        test_mode=True,
        backend_args=backend_args,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

# the numbers of the three official scripts
val_evaluator = dict(
    type='PanopticEvaluator',
    metrics=[
        dict(
            type='PanopticQualityMetric',
            png_name='{img_id}_panoptic.png',
            classwise=True),
        dict(type='CityscapesInstanceAPMetric', classwise=True),
        dict(type='CityscapesSemanticIoUMetric', classwise=True),
    ])
test_evaluator = val_evaluator
