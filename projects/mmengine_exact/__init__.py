"""Runs of MMEngine that continue bit by bit.

Process start on the CPU, resume that skips data instead of reading it,
random state as a function of place, checkpoints that survive a kill and are
read with protection on, bfloat16 on the CPU, scaling to another batch size.
"""
from importlib.util import find_spec

if find_spec('mmengine') is not None:
    from .amp import (CpuAmpOptimWrapper, enable_amp, enable_test_amp,
                      half_precision)
    from .auto_scale import (batch_size_warning, effective_batch,
                             enable_auto_scale, scale_to_batch)
    from .checkpoint_hook import SafeCheckpointHook
    from .checkpoint_io import latest_checkpoint, read_checkpoint
    from .checkpoint_match import MatchReport, load_weights
    from .command import run_to_exit_code, tool_config
    from .config_file import read_config
    from .distributed import launched_world_size, on_cpu
    from .errors import (AutoScaleError, CheckpointError, ConfigError,
                         CorruptFileError, InputError, LaunchError,
                         NonFiniteLossError, PreemptedError, RunError)
    from .failures import explain, one_line
    from .hooks import NonFiniteLossHook
    from .loops import ResumableIterTrainLoop
    from .memory_format import apply_memory_format
    from .preemption import PreemptionHook
    from .randomness import (SeededDatasetMixin, SeededIndex, derive_seed,
                             seed_generators, seeded)
    from .record import (RunRecordHook, fingerprint, model_record, read_record,
                         revision, run_record, versions)
    from .runner import ExactRunner
    from .samplers import (ClassUniformInfiniteSampler,
                           ResumableAspectRatioBatchSampler,
                           ResumableInfiniteSampler)

    __all__ = [
        'AutoScaleError', 'CheckpointError', 'ClassUniformInfiniteSampler',
        'ConfigError', 'CorruptFileError', 'CpuAmpOptimWrapper', 'ExactRunner',
        'InputError', 'LaunchError', 'MatchReport', 'NonFiniteLossError',
        'NonFiniteLossHook', 'PreemptedError', 'PreemptionHook',
        'ResumableAspectRatioBatchSampler', 'ResumableInfiniteSampler',
        'ResumableIterTrainLoop', 'RunError', 'RunRecordHook',
        'SafeCheckpointHook', 'SeededDatasetMixin', 'SeededIndex',
        'apply_memory_format', 'batch_size_warning', 'derive_seed',
        'effective_batch', 'enable_amp', 'enable_auto_scale',
        'enable_test_amp', 'fingerprint', 'half_precision',
        'latest_checkpoint', 'launched_world_size', 'load_weights',
        'model_record', 'on_cpu', 'one_line', 'read_checkpoint', 'read_config',
        'read_record', 'revision', 'run_record', 'run_to_exit_code',
        'scale_to_batch', 'seed_generators', 'seeded', 'tool_config',
        'versions'
    ]
