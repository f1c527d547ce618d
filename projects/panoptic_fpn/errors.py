"""Errors of this project: one clear sentence each, no traceback needed.

Tools print them as they are and exit with code 1.
"""


class PanopticError(ValueError):
    """Input that cannot be used; names the file, the value and the fix."""


class CorruptFileError(PanopticError):
    """An image or PNG that is missing, cannot be decoded, or is not what its
    annotation says. Training skips it only where the user asked for that."""
