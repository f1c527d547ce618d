"""Check of a GPU: right beside the CPU, times and launches beside mmdet's."""
from .check import check_gpu

__all__ = ['check_gpu']
