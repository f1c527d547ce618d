"""The error of this package; it needs none of the project's others."""


class DeployError(ValueError):
    """An exported model or an image that cannot be used; names the file and
    the fix in one sentence."""
