from .cityscapes_panoptic import CityscapesPanopticDataset
from .coco_panoptic import CocoPanopticFPNDataset
from .mmseg_cityscapes import SeededCityscapesDataset
from .synthetic_shapes import SyntheticShapesDataset

__all__ = [
    'CityscapesPanopticDataset', 'CocoPanopticFPNDataset',
    'SeededCityscapesDataset', 'SyntheticShapesDataset'
]
