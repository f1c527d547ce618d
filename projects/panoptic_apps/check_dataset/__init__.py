"""What is wrong with a data set, before anything is trained on it."""
from .check import CheckResult, check_dataset
from .findings import ERROR, KINDS, WARNING, Finding, Findings
from .repair import Repair
from .report import format_repair, format_report, report_content

__all__ = [
    'ERROR', 'KINDS', 'WARNING', 'CheckResult', 'Finding', 'Findings',
    'Repair', 'check_dataset', 'format_repair', 'format_report',
    'report_content'
]
