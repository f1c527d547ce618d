"""Weights of other projects and other class orders: tables of names."""
from .conversion import (Conversion, convert_weights, read_weights,
                         write_weights)
from .layouts import LAYOUTS, Layout
from .semantic_fpn import convert_file, convert_semantic_fpn
from .zoo import (convert_zoo_file, convert_zoo_weights, differing_settings,
                  write_conversion)

__all__ = [
    'Conversion', 'LAYOUTS', 'Layout', 'convert_file', 'convert_semantic_fpn',
    'convert_weights', 'convert_zoo_file', 'convert_zoo_weights',
    'differing_settings', 'read_weights', 'write_conversion', 'write_weights'
]
