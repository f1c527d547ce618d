"""Drawn data: shapes on a ground, and a miniature of Cityscapes."""
from .miniature import make_miniature
from .synthetic_shapes import SyntheticShapesDataset

__all__ = ['SyntheticShapesDataset', 'make_miniature']
