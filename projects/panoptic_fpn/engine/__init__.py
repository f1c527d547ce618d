"""What MMEngine does not do for this project.

Process start on the CPU, resume that skips data instead of reading it,
random state as a function of place, checkpoints that survive a kill and are
read with protection on, bfloat16 on the CPU, scaling to another batch size.
"""
from .amp import (CpuAmpOptimWrapper, enable_amp, enable_test_amp,
                  half_precision)
from .auto_scale import (batch_size_warning, effective_batch,
                         enable_auto_scale, scale_to_batch)
from .checkpoint_hook import SafeCheckpointHook
from .checkpoint_io import latest_checkpoint, read_checkpoint
from .checkpoint_match import MatchReport, load_weights
from .command import (draw_test_pictures, require_panoptic, run_to_exit_code,
                      tool_config)
from .config_file import read_config
from .distributed import launched_world_size, on_cpu
from .errors import (AutoScaleError, CheckpointError, ConfigError, EngineError,
                     LaunchError, NonFiniteLossError, PreemptedError)
from .failures import explain, one_line
from .hooks import (AlternateLossesHook, MetricsJsonHook, NonFiniteLossHook,
                    flat_metrics)
from .label_check import LabelSpaceCheckHook, check_class_counts
from .loops import ResumableIterTrainLoop
from .memory_format import apply_memory_format
from .panoptic_only import enable_panoptic_only
from .preemption import PreemptionHook
from .randomness import (SeededDatasetMixin, SeededIndex, derive_seed,
                         seed_generators, seeded)
from .record import (RunRecordHook, fingerprint, model_record, read_record,
                     revision, run_record, versions)
from .runner import PanopticRunner
from .samplers import (ClassUniformInfiniteSampler,
                       ResumableAspectRatioBatchSampler,
                       ResumableInfiniteSampler)
from .tta import enable_tta

__all__ = [
    'AlternateLossesHook', 'AutoScaleError', 'CheckpointError',
    'ClassUniformInfiniteSampler', 'ConfigError', 'CpuAmpOptimWrapper',
    'EngineError', 'LabelSpaceCheckHook', 'LaunchError', 'MatchReport',
    'MetricsJsonHook', 'NonFiniteLossError', 'NonFiniteLossHook',
    'PanopticRunner', 'PreemptedError', 'PreemptionHook',
    'ResumableAspectRatioBatchSampler', 'ResumableInfiniteSampler',
    'ResumableIterTrainLoop', 'RunRecordHook', 'SafeCheckpointHook',
    'SeededDatasetMixin', 'SeededIndex', 'apply_memory_format',
    'batch_size_warning', 'check_class_counts', 'derive_seed',
    'draw_test_pictures', 'effective_batch', 'enable_amp', 'enable_auto_scale',
    'enable_panoptic_only', 'enable_test_amp', 'enable_tta', 'fingerprint',
    'flat_metrics', 'half_precision', 'latest_checkpoint',
    'launched_world_size', 'load_weights', 'model_record', 'on_cpu',
    'one_line', 'read_checkpoint', 'read_config', 'read_record',
    'require_panoptic', 'revision', 'run_record', 'run_to_exit_code',
    'scale_to_batch', 'seed_generators', 'seeded', 'tool_config', 'versions'
]
