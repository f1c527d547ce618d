"""Data sets as others publish them, brought to what the package reads."""
from .cityscapes import prepare
from .miniature import make_miniature
from .summary import format_summary

__all__ = ['format_summary', 'make_miniature', 'prepare']
