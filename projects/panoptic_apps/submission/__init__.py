"""Archives for benchmark servers: written from a model, checked by rules."""
from .contents import Expected, unzip, write_archive
from .prepare import (build_expected, check_archive, report_faults,
                      require_images, result_folder, run_submission,
                      set_metrics, set_test_images)
from .servers import SERVERS, Server, Task, check_name

__all__ = [
    'SERVERS', 'Expected', 'Server', 'Task', 'build_expected', 'check_archive',
    'check_name', 'report_faults', 'require_images', 'result_folder',
    'run_submission', 'set_metrics', 'set_test_images', 'unzip',
    'write_archive'
]
