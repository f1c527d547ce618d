# Your own data in COCO panoptic format, from scratch, small enough for a CPU:
#   DATA_ROOT=/path/to/data tools/train.py configs/custom/...
# DATA_ROOT holds panoptic.json, images/ and panoptic/ (the PNGs). The numbers
# below fit a handful of photographs, all of which are trained and tested on.
_base_ = [
    '../_base_/models/panoptic-fpn_tiny.py',
    '../_base_/default_runtime.py',
]
data_root = '{{$DATA_ROOT:data/custom}}'
# What the JSON lists; a wrong number stops the run and names the right one.
num_things = 80
num_stuff = 53

model = dict(
    loss_weights=dict(instance=1.0, semantic=1.0),
    roi_head=dict(
        bbox_head=dict(num_classes=num_things),
        mask_head=dict(num_classes=num_things)),
    semantic_head=dict(
        num_things_classes=num_things, num_stuff_classes=num_stuff),
    panoptic_fusion_head=dict(
        num_things_classes=num_things, num_stuff_classes=num_stuff),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=300),
        rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(
        rpn=dict(nms_pre=500, max_per_img=300), panoptic=dict(stuff_area=64)))

resize = dict(type='PanopticResize', scale=(1000, 448), keep_ratio=True)
train_pipeline = [
    dict(type='LoadPanopticImage'),
    dict(type='LoadPanopticMap'),
    resize,
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
dataset = dict(
    type='CocoPanopticFPNDataset',
    data_root=data_root,
    ann_file='panoptic.json',
    data_prefix=dict(img='images/', seg='panoptic/'))
train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='ResumableInfiniteSampler'),
    dataset=dict(pipeline=train_pipeline, **dataset))
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(test_mode=True, pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(
    type='PanopticEvaluator',
    metrics=[
        dict(type='PanopticQualityMetric'),
        dict(type='PanopticInstanceAPMetric'),
        dict(type='SemanticIoUMetric'),
    ])
test_evaluator = val_evaluator

max_iters = 500
train_cfg = dict(
    type='ResumableIterTrainLoop', max_iters=max_iters, val_interval=250)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=50,
        end=max_iters,
        eta_min=1e-6),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.001, weight_decay=0.01))
auto_scale_lr = dict(enable=False, base_batch_size=2, scale_schedule=True)
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=250))
