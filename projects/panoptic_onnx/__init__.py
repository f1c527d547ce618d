"""Panoptic FPN without PyTorch: NumPy, OpenCV and onnxruntime alone.

This folder imports nothing of the rest of the project: copied to a device
together with a folder that ``tools/export_onnx.py`` wrote, it is all that runs
there.

    from panoptic_onnx import PanopticSession
    result = PanopticSession('exported').segment(cv2.imread('photo.jpg'))
"""
from .errors import DeployError
from .model_file import ModelFile, read_model
from .results import describe, draw_overlay, write_result
from .session import PanopticSession, Result

__all__ = [
    'DeployError', 'ModelFile', 'PanopticSession', 'Result', 'describe',
    'draw_overlay', 'read_model', 'write_result'
]
