"""Data sets as others publish them, brought to what the package reads."""
from .cityscapes import format_summary, prepare
from .miniature import make_miniature

__all__ = ['format_summary', 'make_miniature', 'prepare']
