from ..ops.roi_align import SeparableRoIExtractor
from .mask_head import WindowedMaskHead
from .mmseg_head import SemanticFPNDecodeHead
from .panoptic_fpn import TwoStagePanopticFPN
from .panoptic_fusion_head import PanopticFusionHead
from .panoptic_tta import PanopticTTAModel
from .semantic_fpn_head import SemanticFPNHead
from .semantic_tta import SemanticTTAModel
from .symmetric_decoder import SymmetricDecoder
from .two_networks import TwoNetworkPanopticFPN

__all__ = [
    'PanopticFusionHead', 'PanopticTTAModel', 'SemanticFPNDecodeHead',
    'SemanticFPNHead', 'SemanticTTAModel', 'SeparableRoIExtractor',
    'SymmetricDecoder', 'TwoNetworkPanopticFPN', 'TwoStagePanopticFPN',
    'WindowedMaskHead'
]
