"""What tools and notebooks call: models from files, images in, files out."""
from .browse import browse_dataset
from .class_frequencies import class_frequencies
from .explain import explain_errors
from .inference import PanopticResult, inference_panoptic, init_model
from .inferencer import PanopticInferencer
from .results import find_images, panoptic_segments, unique_stems, write_result
from .sweep import format_sweep, save_branches, sweep_merge

__all__ = [
    'PanopticInferencer', 'PanopticResult', 'browse_dataset',
    'class_frequencies', 'explain_errors', 'find_images', 'format_sweep',
    'inference_panoptic', 'init_model', 'panoptic_segments', 'save_branches',
    'sweep_merge', 'unique_stems', 'write_result'
]
