from .coco_panoptic import CocoPanopticFPNDataset
from .synthetic_shapes import SyntheticShapesDataset

__all__ = ['CocoPanopticFPNDataset', 'SyntheticShapesDataset']
