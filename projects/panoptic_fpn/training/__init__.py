"""What is panoptic in a run: checks, alternate losses, scores, the runner."""
from .alternate_losses import AlternateLossesHook
from .class_uniform import ClassUniformInfiniteSampler
from .label_check import LabelSpaceCheckHook, check_class_counts
from .metrics_json import MetricsJsonHook, flat_metrics
from .runner import PanopticRunner, load_networks
from .scale_check import ScaleCheckHook
from .test_options import (draw_test_pictures, enable_panoptic_only,
                           enable_tta, require_panoptic)

__all__ = [
    'AlternateLossesHook', 'ClassUniformInfiniteSampler',
    'LabelSpaceCheckHook', 'MetricsJsonHook', 'PanopticRunner',
    'ScaleCheckHook', 'check_class_counts', 'draw_test_pictures',
    'enable_panoptic_only', 'enable_tta', 'flat_metrics', 'load_networks',
    'require_panoptic'
]
