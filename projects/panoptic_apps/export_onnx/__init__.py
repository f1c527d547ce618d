"""Deployment: a trained model as ONNX graphs that onnxruntime runs.

``panoptic_onnx`` is what runs on a device; it needs neither PyTorch nor the
rest of this project.
"""
from .agreement import Agreement, compare
from .export import export_model

__all__ = ['Agreement', 'compare', 'export_model']
