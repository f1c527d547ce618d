"""Panoptic FPN without PyTorch: NumPy, OpenCV, onnxruntime and msgspec.

This folder imports nothing of the rest of the project: copied to a device
together with a folder that ``tools/export_onnx.py`` wrote, it is all that runs
there.

    from panoptic_onnx import PanopticSession
    result = PanopticSession('exported').segment(cv2.imread('photo.jpg'))
"""
from .files import draw_overlay, list_segments, write_result
from .model_file import DeployError, ModelFile, read_model
from .session import PanopticSession, Result

__all__ = [
    'DeployError', 'ModelFile', 'PanopticSession', 'Result', 'draw_overlay',
    'list_segments', 'read_model', 'write_result'
]
