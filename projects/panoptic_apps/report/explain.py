"""``tools/test.py --report``: what a report needs beyond the scores."""
import shutil
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process

from .segment_errors import FILE_NAME, MAPS, SegmentErrorMetric


def explain_errors(runner: Any) -> None:
    """Let the test of a runner write what became of each segment to its work
    directory.

    Args:
        runner (Runner): With annotated test data.
    """
    evaluator = runner.test_evaluator
    if is_main_process():  # long before any process writes
        folder = Path(runner.work_dir)
        (folder / FILE_NAME).unlink(missing_ok=True)
        shutil.rmtree(folder / MAPS, ignore_errors=True)
    metric = SegmentErrorMetric(runner.work_dir)
    metric.dataset_meta = evaluator.dataset_meta
    evaluator.metrics.append(metric)
