# The data of Semantic FPN: no instances are derived; IoU is evaluated, and PQ
# over stuff.
_base_ = './cityscapes_panoptic.py'

train_pipeline = [
    dict(type='LoadPanopticImage', backend_args=_base_.backend_args),
    dict(type='LoadPanopticMap', backend_args=_base_.backend_args),
    dict(
        type='PanopticRandomResizeCrop',
        scale=(2048, 1024),
        ratio_range=(0.5, 2.0),
        crop_size=(512, 1024)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='DerivePanopticTargets', instances=False),
    dict(type='PackPanopticInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = dict(metrics=[
    _base_.val_evaluator.metrics[0],
    dict(type='CityscapesSemanticIoUMetric', classwise=True),
])
test_evaluator = val_evaluator
