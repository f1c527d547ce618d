"""Pictures of panoptic results: pure drawing, a visualizer, a hook."""
from .backends import WandbBackend
from .hooks import PanopticVisualizationHook
from .visualizer import PanopticVisualizer

__all__ = ['PanopticVisualizationHook', 'PanopticVisualizer', 'WandbBackend']
