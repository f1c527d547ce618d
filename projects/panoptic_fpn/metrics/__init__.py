"""PQ, AP and mIoU of one evaluation.

Each metric adds up one small row for each image and never changes the data
samples that it reads.
"""
from .cityscapes_instances import CityscapesInstanceAPMetric
from .cityscapes_semantic import CityscapesSemanticIoUMetric
from .dump import PredictionDump
from .evaluator import PanopticEvaluator, format_table, writing_evaluator
from .instance_ap import PanopticInstanceAPMetric
from .panoptic_metric import PanopticQualityMetric
from .panoptic_quality import class_quality, group_quality, panoptic_counts
from .semantic_iou import SemanticIoUMetric, semantic_areas, semantic_scores

__all__ = [
    'CityscapesInstanceAPMetric', 'CityscapesSemanticIoUMetric',
    'PanopticEvaluator', 'PanopticInstanceAPMetric', 'PanopticQualityMetric',
    'PredictionDump', 'SemanticIoUMetric', 'class_quality', 'format_table',
    'group_quality', 'panoptic_counts', 'semantic_areas', 'semantic_scores',
    'writing_evaluator'
]
