# A data set in COCO panoptic format: transforms of COCO; the instances, those
# that AP is measured against too, come from the panoptic annotation.
_base_ = './coco_panoptic.py'

train_dataloader = dict(dataset=dict(instances_ann_file=None))
val_evaluator = dict(metrics=[
    dict(type='PanopticQualityMetric', classwise=True),
    dict(type='PanopticInstanceAPMetric'),
    dict(type='SemanticIoUMetric'),
])
test_evaluator = val_evaluator
