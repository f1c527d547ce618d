# A data set in COCO panoptic format: transforms of COCO; the instances that AP
# is measured against come from the panoptic annotation.
_base_ = './coco_panoptic.py'

val_evaluator = dict(metrics=[
    dict(type='PanopticQualityMetric', classwise=True),
    dict(type='PanopticInstanceAPMetric'),
    dict(type='SemanticIoUMetric'),
])
test_evaluator = val_evaluator
