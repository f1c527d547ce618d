"""Errors of what is around the paper's tables."""
from ..errors import PanopticError


class PaperError(PanopticError):
    """A row, a file of tables or a folder of runs that cannot be used."""
