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

from mmengine_exact.command import read_config
from mmengine_exact.errors import InputError

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
    config = (
        config.copy() if isinstance(config, Config) else read_config(
            str(config)))
    if cfg_options:
        config.merge_from_dict(cfg_options)
    name = config.filename or 'config'
    scope = config.get('default_scope', 'mmdet')
    if scope != 'mmdet':
        raise InputError(
            f'{name}: a config of {scope}; detectors of mmdet are counted. '
            'Give one of configs/cityscapes or configs/coco.')
    if not config.get('model'):
        raise InputError(
            f'{name}: has no `model`. Give the config of a detector, not one '
            'of its parts (configs/_base_).')
    init_default_scope(scope)
    with torch.device('meta'), shapes_only(config.model.type):
        model = revert_sync_batchnorm(MODELS.build(config.model))
    if not isinstance(model, BaseDetector):
        raise InputError(f'{name}: its model {type(model).__name__} is no '
                         'detector. Give the config of one.')
    return model.eval()


def networks_of(model: BaseDetector) -> Dict[str, BaseDetector]:
    """The networks of a model.

    Args:
        model (BaseDetector): Of one network or two.

    Returns:
        dict[str, BaseDetector]: By name; one alone has the name ''.

    Raises:
        InputError: One has parameters in a part that is not known here.
    """
    names = getattr(model, 'networks', ())
    networks = {name: getattr(model, name) for name in names} or {'': model}
    for network in networks.values():
        _check_children(network, _KNOWN)
        if network.with_roi_head:
            _check_children(network.roi_head, _KNOWN_HEADS)
    return networks


def _check_children(module: nn.Module, known: set) -> None:
    for name, child in module.named_children():
        if name not in known and any(True for _ in child.parameters()):
            raise InputError(
                f'{type(module).__name__} has parameters in its {name}; '
                f'counted are {", ".join(sorted(known))}. Give the config of '
                'a panoptic detector of this project or of a two-stage '
                'detector of mmdet.')


def padded_shape(model: BaseDetector, shape: Tuple[int,
                                                   int]) -> Tuple[int, int]:
    """The size to which a model's preprocessor pads an image.

    Args:
        model (BaseDetector): With its ``data_preprocessor``.
        shape (tuple[int, int]): (h, w) of the image in pixels.

    Returns:
        tuple[int, int]: (H, W).
    """
    divisor = getattr(model.data_preprocessor, 'pad_size_divisor', 1)
    height, width = (-(-side // divisor) * divisor for side in shape)
    return height, width


def images(batch: int, shape: Tuple[int, int]) -> Tensor:
    """A batch of images without values.

    Args:
        batch (int): N.
        shape (tuple[int, int]): (H, W) in pixels.

    Returns:
        Tensor: (N, 3, H, W) on the meta device.
    """
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
    for kind, number, wanted in (('bbox', rois, roi_head.with_bbox),
                                 ('mask', detections, roi_head.with_mask)):
        if not wanted:
            continue
        extractors = _stages(getattr(roi_head, f'{kind}_roi_extractor'))
        for extractor, head in zip(extractors,
                                   _stages(getattr(roi_head, f'{kind}_head'))):
            size = extractor.roi_layers[0].output_size
            pairs.append((head,
                          torch.empty(
                              number,
                              extractor.out_channels,
                              *size,
                              device='meta')))
    return pairs


def _stages(module: nn.Module) -> List[nn.Module]:
    return list(module) if isinstance(module, nn.ModuleList) else [module]


@contextmanager
def shapes_only(what: str) -> Iterator[None]:
    """Say what cannot be built or run on shapes alone.

    Args:
        what (str): Named in the error.

    Raises:
        InputError: An operator has no such kernel, or shapes do not fit.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f'{what}: cannot be had as shapes alone ({reason}). Operators of '
            'mmcv, like deformable convolution, are not counted; or correct '
            'channels or shape.') from None
