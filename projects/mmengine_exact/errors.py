"""Errors of this project: one clear sentence each, no traceback needed.

Tools print them as they are and exit with code 1.
"""


class InputError(ValueError):
    """Input that cannot be used; names the file, the value and the fix."""


class CorruptFileError(InputError):
    """An image or PNG that is missing, cannot be decoded, or is not what its
    annotation says. Training skips it only where the user asks for that."""


class RunError(InputError):
    """The run cannot start, continue, load or save as asked."""


class CheckpointError(RunError):
    """A checkpoint that is missing, damaged, unsafe or of another model."""


class NonFiniteLossError(RunError):
    """A loss, or a weight about to be saved, is NaN or infinite."""


class PreemptedError(RunError):
    """A signal asked the run to end, and the run has saved."""

    #: sysexits.h's EX_TEMPFAIL: try again.
    exit_code = 75
