"""A drawn miniature of Cityscapes: its folders, names and annotations."""
from .make import make_miniature

__all__ = ['make_miniature']
