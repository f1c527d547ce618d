from .mmseg_head import SemanticFPNDecodeHead
from .panoptic_fpn import TwoStagePanopticFPN
from .panoptic_fusion_head import PanopticFusionHead
from .semantic_fpn_head import SemanticFPNHead

__all__ = [
    'PanopticFusionHead', 'SemanticFPNDecodeHead', 'SemanticFPNHead',
    'TwoStagePanopticFPN'
]
