"""Weights of other projects and other class orders: tables of names."""
from .semantic_channels import CLASS_ORDERS, channel_order, reorder_channels
from .semantic_fpn import Conversion, convert_file, convert_semantic_fpn

__all__ = [
    'CLASS_ORDERS', 'Conversion', 'channel_order', 'convert_file',
    'convert_semantic_fpn', 'reorder_channels'
]
