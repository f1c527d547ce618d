"""What tools and notebooks call: models from files, images in, files out."""
from .inference import PanopticResult, inference_panoptic, init_model
from .inferencer import PanopticInferencer
from .results import describe_result, find_images, unique_stems, write_segments

__all__ = [
    'PanopticInferencer', 'PanopticResult', 'describe_result', 'find_images',
    'inference_panoptic', 'init_model', 'unique_stems', 'write_segments'
]
