from .cityscapes_panoptic import CityscapesPanopticDataset
from .coco_panoptic import CocoPanopticFPNDataset
from .coco_stuff import CocoStuffDataset
from .mmseg_cityscapes import SeededCityscapesDataset
from .semantic_map import SemanticMapDataset
from .synthetic_shapes import SyntheticShapesDataset

__all__ = [
    'CityscapesPanopticDataset', 'CocoPanopticFPNDataset', 'CocoStuffDataset',
    'SeededCityscapesDataset', 'SemanticMapDataset', 'SyntheticShapesDataset'
]
