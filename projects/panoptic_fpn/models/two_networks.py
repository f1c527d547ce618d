"""Two networks, one for each task, and one merge: 'x2' of Table 3.

In, Out  as ``TwoStagePanopticFPN``: instances of the one network, semantic
         map of the other
"""
from typing import Any, Dict, Tuple

from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import OptConfigType, OptMultiConfig
from torch import Tensor, nn

from .panoptic_fpn import BRANCHES


@MODELS.register_module()
class TwoNetworkPanopticFPN(BaseDetector):
    """An instance and a semantic network that share nothing (Table 3a).

    The single-task baselines of Table 2, merged. Both are built from the same
    config of a :class:`TwoStagePanopticFPN`, so this type is the only thing
    that a config has to change. Weights come from the checkpoints of the two::

        python tools/test.py CONFIG INSTANCE.pth SEMANTIC.pth

    Training it trains both side by side, each with its own loss alone.

    Args:
        data_preprocessor (dict): Preprocessor of both networks.
        loss_weights (dict, optional): Same as ``TwoStagePanopticFPN``;
            neither may be 0.
        **network: Further arguments of ``TwoStagePanopticFPN``.
    """

    #: Children, in the order of their checkpoints.
    networks = tuple(f'{branch}_network' for branch in BRANCHES)

    def __init__(self,
                 data_preprocessor: OptConfigType = None,
                 init_cfg: OptMultiConfig = None,
                 loss_weights: OptConfigType = None,
                 **network: Any) -> None:
        super().__init__(data_preprocessor, init_cfg)
        for name, idle in zip(self.networks, reversed(BRANCHES)):
            single = dict(
                network,
                type='TwoStagePanopticFPN',
                loss_weights=dict(loss_weights or {}, **{idle: 0.0}))
            setattr(self, name, MODELS.build(single))

    # Where class counts are checked and metrics look for the branches.

    @property
    def rpn_head(self) -> nn.Module:
        """nn.Module: The instance network's."""
        return self.instance_network.rpn_head

    @property
    def roi_head(self) -> nn.Module:
        """nn.Module: The instance network's."""
        return self.instance_network.roi_head

    @property
    def semantic_head(self) -> nn.Module:
        """nn.Module: The semantic network's."""
        return self.semantic_network.semantic_head

    @property
    def panoptic_fusion_head(self) -> nn.Module:
        """nn.Module: The merge; it has no weights."""
        return self.semantic_network.panoptic_fusion_head

    def extract_feat(self,
                     batch_inputs: Tensor) -> Tuple[Tuple[Tensor, ...], ...]:
        """FPN levels of the instance and of the semantic network."""
        return (self.instance_network.extract_feat(batch_inputs),
                self.semantic_network.extract_feat(batch_inputs))

    def loss(self, batch_inputs: Tensor,
             batch_data_samples: SampleList) -> Dict[str, Tensor]:
        """Losses of both networks; see ``TwoStagePanopticFPN.loss``."""
        return {
            **self.instance_network.loss(batch_inputs, batch_data_samples),
            **self.semantic_network.loss(batch_inputs, batch_data_samples)
        }

    def predict(self,
                batch_inputs: Tensor,
                batch_data_samples: SampleList,
                rescale: bool = True) -> SampleList:
        """See ``TwoStagePanopticFPN.predict``."""
        instance_feats, semantic_feats = self.extract_feat(batch_inputs)
        instances = self.instance_network.predict_instances(
            instance_feats, batch_data_samples, rescale)
        channels = self.semantic_network.predict_semantic(
            semantic_feats, batch_data_samples, rescale)
        for sample, *branches in zip(batch_data_samples, instances, channels):
            self.semantic_network.add_predictions(
                sample, *branches, rescale=rescale)
        return batch_data_samples

    def _forward(self,
                 batch_inputs: Tensor,
                 batch_data_samples: SampleList = None) -> tuple:
        """Raw outputs of both networks."""
        return (
            *self.instance_network._forward(batch_inputs, batch_data_samples),
            *self.semantic_network._forward(batch_inputs, batch_data_samples))
