"""One page of a run: curves, scores, errors, pictures, and its record."""
from .page import write_report
from .read import Run, read_run
from .segment_errors import SegmentErrorMetric, explain_errors

__all__ = [
    'Run', 'SegmentErrorMetric', 'explain_errors', 'read_run', 'write_report'
]
