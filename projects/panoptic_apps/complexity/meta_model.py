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
from torch import Tensor, nn

from mmengine_exact.errors import InputError
from panoptic_fpn.inference.inference import load_config

#: Children of a network that are run here, and of its region heads.
_KNOWN = {'backbone', 'neck', 'rpn_head', 'roi_head', 'semantic_head'}
_KNOWN_HEADS = {'bbox_head', 'mask_head'}


def build_on_meta(config: Union[str, Path, Config],
                  cfg_options: Optional[dict] = None) -> BaseDetector:
    """Build the model of a config without allocating its parameters.

    Args:
        config (str | Path | Config): Of a panoptic detector of this project
            or a two-stage detector of mmdet.
        cfg_options (dict, optional): Keys of the config to override.

    Returns:
        BaseDetector: On the meta device, in evaluation mode.

    Raises:
        InputError: The config has no detector.
    """
    config = load_config(config, cfg_options)
    name = config.filename or 'config'
    if config.get('default_scope',
                  'mmdet') != 'mmdet' or 'model' not in config:
        raise InputError(
            f'{name}: no model of mmdet. Give the config of a detector, such '
            'as those of configs/cityscapes and configs/coco.')
    init_default_scope('mmdet')
    with torch.device('meta'), shapes_only(config.model.type):
        model = revert_sync_batchnorm(MODELS.build(config.model))
    if not isinstance(model, BaseDetector):
        raise InputError(f'{name}: its model {type(model).__name__} is no '
                         'detector. Give the config of one.')
    return model.eval()


def networks_of(model: BaseDetector) -> Dict[str, BaseDetector]:
    """The networks of a model by name; one alone has the name ''.

    Raises:
        InputError: One has parameters in a part that is not known here.
    """
    names = getattr(model, 'networks', ())
    networks = {name: getattr(model, name) for name in names} or {'': model}
    for network in networks.values():
        modules = [(network, _KNOWN),
                   (getattr(network, 'roi_head', None), _KNOWN_HEADS)]
        for module, known in modules:
            for name, child in module.named_children() if module else ():
                if name not in known and any(True for _ in child.parameters()):
                    raise InputError(
                        f'{type(module).__name__} has parameters in its '
                        f'{name}; counted are {", ".join(sorted(known))}. '
                        'Give the config of a panoptic detector of this '
                        'project or of a two-stage detector of mmdet.')
    return networks


def padded_shape(model: BaseDetector, shape: Tuple[int,
                                                   int]) -> Tuple[int, int]:
    """(H, W) to which a model's preprocessor pads an image of (h, w)."""
    divisor = getattr(model.data_preprocessor, 'pad_size_divisor', 1)
    height, width = (-(-side // divisor) * divisor for side in shape)
    return height, width


def images(batch: int, shape: Tuple[int, int]) -> Tensor:
    """A batch of images without values: (N, 3, H, W) on the meta device."""
    return torch.empty(batch, 3, *shape, device='meta')


def features(network: BaseDetector, feats: tuple, branch: str) -> tuple:
    """FPN levels as one branch sees them.

    Args:
        network (BaseDetector): With one or both branches.
        feats (tuple[Tensor]): From its neck.
        branch (str): 'instance' or 'semantic'.

    Returns:
        tuple[Tensor]: Of a grouped FPN the branch's channels.
    """
    if hasattr(network, 'branch_features'):
        return network.branch_features(feats, branch)
    return feats


def region_heads(network: BaseDetector, rois: int,
                 detections: int) -> List[Tuple[nn.Module, Tensor]]:
    """Box and mask heads, each with RoI features without values.

    Args:
        network (BaseDetector): With ``roi_head``.
        rois (int): Number of RoIs of each box head.
        detections (int): Number of RoIs of each mask head.

    Returns:
        list[tuple[nn.Module, Tensor]]: Heads and (n, C, h, w); of a cascade
        one pair for each stage.
    """
    roi_head, pairs = network.roi_head, []
    for kind, count in (('bbox', rois), ('mask', detections)):
        if getattr(roi_head, f'with_{kind}'):
            extractors = _stages(getattr(roi_head, f'{kind}_roi_extractor'))
            heads = _stages(getattr(roi_head, f'{kind}_head'))
            for extractor, head in zip(extractors, heads):
                shape = (count, extractor.out_channels,
                         *extractor.roi_layers[0].output_size)
                pairs.append((head, torch.empty(shape, device='meta')))
    return pairs


def _stages(module: nn.Module) -> List[nn.Module]:
    return list(module) if isinstance(module, nn.ModuleList) else [module]


@contextmanager
def shapes_only(what: str) -> Iterator[None]:
    """Name the part that cannot be built or run on shapes alone.

    Raises:
        InputError: An operator has no such kernel, or shapes do not fit.
    """
    try:
        yield
    except RuntimeError as error:
        first_line = str(error).strip().splitlines()[0]
        raise InputError(
            f'{what}: cannot run on shapes alone ({first_line}). Operators of '
            'mmcv, like deformable convolution, are not counted; or correct '
            'channels or shape.') from None
