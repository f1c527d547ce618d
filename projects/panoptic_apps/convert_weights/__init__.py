"""Weights of other projects and other class orders: tables of names."""
from .layouts import LAYOUTS, Layout
from .panoptic_fpn import (ZooConversion, convert_zoo_file,
                           convert_zoo_weights, differing_settings,
                           write_conversion)
from .restricted_pickle import load_arrays
from .semantic_channels import CLASS_ORDERS, channel_order, reorder_channels
from .semantic_fpn import Conversion, convert_file, convert_semantic_fpn

__all__ = [
    'CLASS_ORDERS', 'Conversion', 'LAYOUTS', 'Layout', 'ZooConversion',
    'channel_order', 'convert_file', 'convert_semantic_fpn',
    'convert_zoo_file', 'convert_zoo_weights', 'differing_settings',
    'load_arrays', 'reorder_channels', 'write_conversion'
]
