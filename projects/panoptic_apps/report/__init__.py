"""One page of a run: curves, scores, errors, pictures, and what it was."""
from .explain import explain_errors
from .page import write_report
from .read import Run, read_run
from .segment_errors import SegmentErrorMetric

__all__ = [
    'Run', 'SegmentErrorMetric', 'explain_errors', 'read_run', 'write_report'
]
