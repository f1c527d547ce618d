"""Errors of the engine: one sentence that names file, value and fix.

Each takes one message, so an error that crosses a process boundary (loader
worker, gathered rank) can be built again from its text.
"""
from ..errors import PanopticError


class EngineError(PanopticError):
    """The run cannot start, continue, load or save as it was asked to."""


class ConfigError(EngineError):
    """A config that cannot be read or built; what it was raised from has the
    traceback."""


class CheckpointError(EngineError):
    """A checkpoint that is missing, damaged, unsafe or of another model."""


class NonFiniteLossError(EngineError):
    """A loss, or a weight about to be saved, is NaN or infinite."""


class PreemptedError(EngineError):
    """The run was told to end, and has saved."""

    #: sysexits.h's EX_TEMPFAIL: try again.
    exit_code = 75


class LaunchError(EngineError):
    """Processes cannot be started as the launcher asks."""


class AutoScaleError(EngineError):
    """The configuration cannot be scaled to another batch size."""
