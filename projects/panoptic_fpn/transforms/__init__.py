from .crop import PanopticRandomCrop
from .loading import LoadPanopticImage, LoadPanopticMap
from .resize import PanopticResize
from .resize_crop import PanopticRandomResizeCrop
from .targets import DerivePanopticTargets, PackPanopticInputs

__all__ = [
    'DerivePanopticTargets', 'LoadPanopticImage', 'LoadPanopticMap',
    'PackPanopticInputs', 'PanopticRandomCrop', 'PanopticRandomResizeCrop',
    'PanopticResize'
]
