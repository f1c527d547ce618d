"""Runs of MMEngine that continue bit by bit.

Process start on the CPU, resume that skips data instead of reading it,
random state as a function of position, checkpoints that survive a kill and
are read with protection on, bfloat16 on the CPU, scaling to another batch
size. Without mmengine, ``errors`` and ``workers`` alone can be imported.
"""
from importlib.util import find_spec

if find_spec('mmengine') is not None:
    from .amp import (Bfloat16OptimWrapper, enable_amp, enable_test_amp,
                      half_precision)
    from .auto_scale import (batch_size_warning, effective_batch,
                             enable_auto_scale, scale_to_batch)
    from .checkpoint import latest_checkpoint, read_checkpoint
    from .checkpoint_hook import SafeCheckpointHook
    from .command import read_config, run_to_exit_code, tool_config
    from .errors import (CheckpointError, CorruptFileError, InputError,
                         NonFiniteLossError, PreemptedError, RunError)
    from .launch import explain, launched_world_size, on_cpu, one_line
    from .loop import ResumableIterTrainLoop
    from .match import MatchReport, load_weights
    from .numerics import NonFiniteLossHook
    from .preemption import PreemptionHook
    from .record import (RunRecordHook, fingerprint, model_record, read_record,
                         revision, run_record, versions)
    from .runner import ExactRunner, apply_memory_format
    from .stream import (ResumableAspectRatioBatchSampler,
                         ResumableInfiniteSampler, SeededDatasetMixin,
                         SeededIndex, derive_seed, seed_generators, seeded)
    from .zip_backend import ZipBackend
