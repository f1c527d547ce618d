"""Conversion of published data sets to the format that the package reads."""
from .cityscapes.conversion import prepare
from .cityscapes.prepared import format_summary
from .instances_and_semantic import convert_instances_and_semantic
from .label_folders import convert_label_folders
from .resumable import run_resumable

__all__ = [
    'convert_instances_and_semantic', 'convert_label_folders',
    'format_summary', 'prepare', 'run_resumable'
]
