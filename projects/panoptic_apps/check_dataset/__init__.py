"""What is wrong with a data set, before anything is trained on it."""
from .check import CheckResult, check_dataset
from .repair import Repair
from .report import format_repair, format_report, report_content

__all__ = [
    'CheckResult', 'Repair', 'check_dataset', 'format_repair', 'format_report',
    'report_content'
]
