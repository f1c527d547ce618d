"""Data sets and transforms: from the file to the map, the map through the
geometry, the map to targets."""
from .cityscapes_panoptic import CityscapesPanopticDataset
from .coco_panoptic import CocoPanopticFPNDataset
from .derive_targets import DerivePanopticTargets, PackPanopticInputs
from .geometry import (PanopticRandomCrop, PanopticRandomResizeCrop,
                       PanopticResize)
from .load_map import LoadPanopticImage, LoadPanopticMap
from .mmseg_cityscapes import SeededCityscapesDataset
from .semantic_map import CocoStuffDataset, SemanticMapDataset

__all__ = [
    'CityscapesPanopticDataset', 'CocoPanopticFPNDataset', 'CocoStuffDataset',
    'DerivePanopticTargets', 'LoadPanopticImage', 'LoadPanopticMap',
    'PackPanopticInputs', 'PanopticRandomCrop', 'PanopticRandomResizeCrop',
    'PanopticResize', 'SeededCityscapesDataset', 'SemanticMapDataset'
]
