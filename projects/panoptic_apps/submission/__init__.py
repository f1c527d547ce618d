"""Archives for benchmark servers: written from a model, checked by rules."""
from .contents import (folder_members, write_archive, zip_members,
                       zip_violations)
from .expected import Expected, expected_of, require_images
from .prepare import (build_expected, check_archive, result_folder,
                      run_submission, set_metrics, set_test_images, tell)
from .servers import SERVERS, Server, Task, check_name
from .violations import Violation, count_errors, format_violations

__all__ = [
    'SERVERS', 'Expected', 'Server', 'Task', 'Violation', 'build_expected',
    'check_archive', 'check_name', 'count_errors', 'expected_of',
    'folder_members', 'format_violations', 'require_images', 'result_folder',
    'run_submission', 'set_metrics', 'set_test_images', 'tell',
    'write_archive', 'zip_members', 'zip_violations'
]
