# The data of Semantic FPN: no instances are derived; IoU is evaluated over the
# 53 stuff classes and 'other', PQ over stuff.
_base_ = './coco_panoptic.py'

train_pipeline = [
    dict(type='LoadPanopticImage', backend_args=_base_.backend_args),
    dict(type='LoadPanopticMap', backend_args=_base_.backend_args),
    dict(
        type='RandomChoiceResize',
        resize_type='PanopticResize',
        scales=[(1333, side) for side in range(640, 801, 32)],
        keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='DerivePanopticTargets', instances=False),
    dict(type='PackPanopticInputs'),
]
train_dataloader = dict(
    dataset=dict(instances_ann_file=None, pipeline=train_pipeline))
val_evaluator = dict(metrics=[
    dict(type='PanopticQualityMetric'),
    dict(type='SemanticIoUMetric'),
])
test_evaluator = val_evaluator
