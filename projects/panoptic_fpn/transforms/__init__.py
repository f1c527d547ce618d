from .loading import LoadPanopticImage, LoadPanopticMap
from .targets import DerivePanopticTargets, PackPanopticInputs

__all__ = [
    'DerivePanopticTargets', 'LoadPanopticImage', 'LoadPanopticMap',
    'PackPanopticInputs'
]
