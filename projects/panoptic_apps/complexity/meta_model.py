"""A detector as shapes: its parts, and how they are run without values."""
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple, Union

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import nn

from mmengine_exact.errors import InputError
from panoptic_fpn.inference.inference import load_config

#: Parts of a network that are run here.
_KNOWN = ('backbone.', 'neck.', 'rpn_head.', 'semantic_head.',
          'roi_head.bbox_head.', 'roi_head.mask_head.')


def build_on_meta(config: Union[str, Path, Config],
                  cfg_options: Optional[dict] = None) -> BaseDetector:
    """The detector of a config, of this project or a two-stage detector of
    mmdet, without memory for its parameters, in evaluation mode.

    Raises:
        InputError: The config has no detector.
    """
    config, model = load_config(config, cfg_options), None
    if config.get('default_scope', 'mmdet') == 'mmdet' and 'model' in config:
        init_default_scope('mmdet')
        with torch.device('meta'):
            model = revert_sync_batchnorm(MODELS.build(config.model))
    if not isinstance(model, BaseDetector):
        raise InputError(
            f'{config.filename or "config"}: its model is not a detector of '
            'mmdet. Give the config of one, such as those of '
            'configs/cityscapes and configs/coco.')
    return model.eval()


@contextmanager
def shapes_alone(part: str) -> Iterator[None]:
    """Name the part with an operator that needs values, as mmcv's do."""
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            f'{part}: cannot run on shapes alone ({str(error).splitlines()[0]}'
            '). Operators of mmcv, such as deformable convolution, are not '
            'counted: give a config without them.') from error


def networks_of(model: BaseDetector) -> Dict[str, BaseDetector]:
    """The networks of a model by name; one alone has the name ''. Refuses
    parameters in a part that is not known here."""
    names = getattr(model, 'networks', ())
    networks = {name: getattr(model, name) for name in names} or {'': model}
    for network in networks.values():
        unknown = [
            name.removeprefix('roi_head.').split('.')[0]
            for name, _ in network.named_parameters()
            if not name.startswith(_KNOWN)
        ]
        if unknown:
            raise InputError(
                f'{type(network).__name__} has parameters in its {unknown[0]},'
                ' not only in backbone, bbox_head, mask_head, neck, roi_head, '
                'rpn_head, semantic_head. Give the config of a panoptic '
                'detector of this project or of a two-stage detector of '
                'mmdet.')
    return networks


def padded_shape(model: BaseDetector, shape: Tuple[int,
                                                   int]) -> Tuple[int, int]:
    """(H, W) to which a model's preprocessor pads an image of (h, w)."""
    divisor = getattr(model.data_preprocessor, 'pad_size_divisor', 1)
    height, width = (-(-side // divisor) * divisor for side in shape)
    return height, width


def features(network: BaseDetector, feats: tuple, branch: str) -> tuple:
    """FPN levels as 'instance' or 'semantic' sees them: in a grouped FPN only
    the branch's channels."""
    if hasattr(network, 'branch_features'):
        return network.branch_features(feats, branch)
    return feats


def run_regions(network: BaseDetector, feats: tuple, rois: Optional[int],
                detections: Optional[int]) -> None:
    """Run RPN on all levels, each box head (several in a cascade) on features
    of ``rois`` RoIs and each mask head on those of ``detections``."""
    if network.with_rpn:
        network.rpn_head(features(network, feats, 'instance'))
    for kind, count in (('bbox', rois), ('mask', detections)):
        if network.with_roi_head and getattr(network.roi_head, f'with_{kind}'):
            extractors, heads = (
                _stages(getattr(network.roi_head, f'{kind}_{name}'))
                for name in ('roi_extractor', 'head'))
            for extractor, head in zip(extractors, heads):
                shape = (count, extractor.out_channels,
                         *extractor.roi_layers[0].output_size)
                # RoIAlign's outputs require gradients, too
                head(
                    torch.empty(
                        shape,
                        device='meta',
                        requires_grad=torch.is_grad_enabled()))


def _stages(module: nn.Module) -> List[nn.Module]:
    return list(module) if isinstance(module, nn.ModuleList) else [module]
