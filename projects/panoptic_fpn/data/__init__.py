"""Data sets and transforms: from the file to the map, the map through the
geometry, the map to targets."""
from .cityscapes_panoptic import CityscapesPanopticDataset
from .coco_panoptic import CocoPanopticFPNDataset
from .crop import PanopticRandomCrop
from .loading import LoadPanopticImage, LoadPanopticMap
from .mmseg_cityscapes import SeededCityscapesDataset
from .resize import PanopticResize
from .resize_crop import PanopticRandomResizeCrop
from .semantic_map import CocoStuffDataset, SemanticMapDataset
from .targets import DerivePanopticTargets, PackPanopticInputs

__all__ = [
    'CityscapesPanopticDataset', 'CocoPanopticFPNDataset', 'CocoStuffDataset',
    'DerivePanopticTargets', 'LoadPanopticImage', 'LoadPanopticMap',
    'PackPanopticInputs', 'PanopticRandomCrop', 'PanopticRandomResizeCrop',
    'PanopticResize', 'SeededCityscapesDataset', 'SemanticMapDataset'
]
