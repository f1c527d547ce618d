"""Panoptic FPN, figure by figure; what is fast rather than plain is in
``ops``."""
from .data_preprocessor import PanopticDataPreprocessor
from .efficientnet_lite import EfficientNetLite
from .mmdet_panoptic_fpn import BranchKeepingFusionHead, MMDetPanopticFPN
from .mmseg_head import SemanticFPNDecodeHead
from .panoptic_fpn import TwoStagePanopticFPN
from .panoptic_fusion_head import PanopticFusionHead
from .region_branch import SeparableRoIExtractor, WindowedMaskHead
from .semantic_fpn_head import SemanticFPNHead
from .symmetric_decoder import SymmetricDecoder
from .sync_free import (SyncFreeMaxIoUAssigner, SyncFreeRandomSampler,
                        SyncFreeRPNHead)
from .tta import PanopticTTAModel, SemanticTTAModel
from .two_networks import TwoNetworkPanopticFPN

__all__ = [
    'BranchKeepingFusionHead', 'EfficientNetLite', 'MMDetPanopticFPN',
    'PanopticDataPreprocessor', 'PanopticFusionHead', 'PanopticTTAModel',
    'SemanticFPNDecodeHead', 'SemanticFPNHead', 'SemanticTTAModel',
    'SeparableRoIExtractor', 'SymmetricDecoder', 'SyncFreeMaxIoUAssigner',
    'SyncFreeRPNHead', 'SyncFreeRandomSampler', 'TwoNetworkPanopticFPN',
    'TwoStagePanopticFPN', 'WindowedMaskHead'
]
