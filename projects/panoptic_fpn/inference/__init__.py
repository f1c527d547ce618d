"""What tools and notebooks call: models from files, images in, files out."""
from .inference import PanopticResult, inference_panoptic, init_model
from .inferencer import PanopticInferencer
from .results import find_images, panoptic_segments, unique_stems, write_result

__all__ = [
    'PanopticInferencer', 'PanopticResult', 'find_images',
    'inference_panoptic', 'init_model', 'panoptic_segments', 'unique_stems',
    'write_result'
]
