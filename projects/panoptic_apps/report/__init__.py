"""One page of a run: curves, scores, errors, pictures, and its record."""
from .comparison import compare, format_comparison, read_images
from .page import write_report
from .read import Run, read_run
from .segment_errors import SegmentErrorMetric, explain_errors

__all__ = [
    'Run', 'SegmentErrorMetric', 'compare', 'explain_errors',
    'format_comparison', 'read_images', 'read_run', 'write_report'
]
