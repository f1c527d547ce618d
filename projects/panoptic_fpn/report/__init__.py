"""One page of a run: curves, scores, errors, pictures, and what it was."""
from .page import write_report
from .read import Run, read_run

__all__ = ['Run', 'read_run', 'write_report']
