"""Semantic FPN between MMSegmentation and this project's detector.

mmseg   ``EncoderDecoder``: backbone, neck, decode_head (this project's
        ``SemanticFPNHead`` or mmseg's ``FPNHead``)
mmdet   ``TwoStagePanopticFPN``: backbone, neck, semantic_head and what has
        no counterpart (rpn_head, roi_head)

Values stay as they are, except that the rows of the classifier take the
other side's class order (``semantic_channels``). What the table does not
know is left out and reported.
"""
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from torch import Tensor

from mmengine_exact.checkpoint import read_checkpoint, to_plain
from mmengine_exact.errors import CheckpointError
from panoptic_fpn import cityscapes

from .files import require_output, source_record, write_weights
from .semantic_channels import SIDES, channel_order, reorder_channels

#: Beginnings of keys: mmseg's, mmdet's.
PREFIXES = (
    ('backbone.', 'backbone.'),
    ('neck.', 'neck.'),
    ('decode_head.scale_heads.', 'semantic_head.scale_heads.'),
    ('decode_head.conv_seg.', 'semantic_head.conv_seg.'),
)
#: The head's own, for each side.
HEADS = dict(mmseg='decode_head.', mmdet='semantic_head.')

#: What a key says about the model that takes the weights: beginning, part of
#: the rest, and for each side what to set.
_DEEP_STEM = 'The backbone has the three-layer stem of ResNetV1c: set '
_BATCH_NORM = 'The head has batch norm: set '
ADVICE = (
    ('backbone.stem.', '',
     dict(
         mmseg=_DEEP_STEM + "model.backbone.type='ResNetV1c' and "
         "style='pytorch'.",
         mmdet=_DEEP_STEM + 'model.backbone.deep_stem=True, '
         "style='pytorch' (type='ResNet') and init_cfg=None.")),
    ('decode_head.scale_heads.', '.bn.',
     dict(
         mmseg=_BATCH_NORM + "model.decode_head.norm_cfg=dict(type='BN').",
         mmdet=_BATCH_NORM + "model.semantic_head.norm_cfg=dict(type='BN').")),
)  # yapf: disable


@dataclass
class Conversion:
    """Converted weights and what to know about them.

    Attributes:
        state_dict (dict[str, Tensor]): Keys and class order of the side that
            was asked for.
        converted (dict[str, int]): Number of keys for each row of the table.
        unmatched (list[str]): Keys of the file that were left out.
        advice (list[str]): Settings that the weights ask for.
    """

    state_dict: Dict[str, Tensor]
    converted: Dict[str, int] = field(default_factory=dict)
    unmatched: List[str] = field(default_factory=list)
    advice: List[str] = field(default_factory=list)

    def describe(self) -> str:
        """A few lines for people."""
        lines = [
            f'{count:5d} tensors {name}'
            for name, count in self.converted.items()
        ]
        left_out = Counter('.'.join(key.split('.')[:2])
                           for key in self.unmatched)
        lines += [
            f'{count:5d} tensors left out: {name}'
            for name, count in left_out.items()
        ]
        return '\n'.join([*lines, *self.advice])


def convert_semantic_fpn(state_dict: Mapping[str, Tensor],
                         to: str,
                         classes: Optional[str] = 'cityscapes',
                         source: str = 'the checkpoint') -> Conversion:
    """Weights of one side for the other.

    Args:
        state_dict (Mapping[str, Tensor]): Weights; not changed.
        to (str): 'mmseg' or 'mmdet': whose keys and class order to give.
        classes (str, optional): Key of ``CLASS_ORDERS``; None leaves the
            channels in their order.
        source (str): File of the weights, for errors.

    Raises:
        CheckpointError: The file has no such head, or its classifier has
            not one channel for each class; names file and key.
    """
    came_from = SIDES[1 - SIDES.index(to)]
    _require_head(state_dict, came_from, to, source)
    result = Conversion(OrderedDict())
    names = [pair if came_from == 'mmseg' else pair[::-1] for pair in PREFIXES]
    for key, value in state_dict.items():
        for old, new in names:
            if key.startswith(old):
                result.state_dict[new + key[len(old):]] = value
                row = f'{old}* -> {new}*'
                result.converted[row] = result.converted.get(row, 0) + 1
                break
        else:
            result.unmatched.append(key)
    order = channel_order(classes, to)
    if order is not None:
        # in the file's keys, which an error shall name
        head = HEADS[came_from]
        rows = reorder_channels(state_dict, head, order, source)
        for name in result.state_dict:
            if name.startswith(f'{HEADS[to]}conv_seg.'):
                result.state_dict[name] = rows[head + name[len(HEADS[to]):]]
    result.advice = _advice(state_dict, came_from, to)
    return result


def _require_head(state_dict: Mapping[str, Tensor], came_from: str, to: str,
                  source: str) -> None:
    wanted = f'{HEADS[came_from]}scale_heads.'
    if any(key.startswith(wanted) for key in state_dict):
        return
    if any(key.startswith(f'{HEADS[to]}scale_heads.') for key in state_dict):
        raise CheckpointError(f'{source}: its keys are those of {to} already '
                              f'({HEADS[to]}*). Give --to {came_from}.')
    raise CheckpointError(
        f'{source}: no {wanted}* among its keys ({next(iter(state_dict))}, '
        '...). Give a checkpoint of Semantic FPN.')


def _advice(state_dict: Mapping[str, Tensor], came_from: str,
            to: str) -> List[str]:
    found = []
    for begin, part, text in ADVICE:
        begin = begin.replace(HEADS['mmseg'], HEADS[came_from])
        if any(key.startswith(begin) and part in key for key in state_dict):
            found.append(text[to])
    return found + [
        'Not in a checkpoint, so take them from its config: mean, std and '
        'channel order of model.data_preprocessor, model.backbone.style.'
    ]


def _meta(classes: Optional[str], to: str, path: str) -> Dict:
    """``meta`` of the written file: where it is from, names of the classes."""
    meta: Dict[str, Any] = source_record(path)
    if classes == 'cityscapes':
        space = cityscapes.label_space()
        order = channel_order(classes, to)
        assert order is not None
        meta['dataset_meta'] = space.metainfo() if to == 'mmdet' else dict(
            classes=[space.names[label] for label in order],
            palette=[space.palette[label] for label in order])
    return to_plain(meta)


def convert_file(path: str,
                 out_path: str,
                 to: str,
                 classes: Optional[str] = 'cityscapes') -> Conversion:
    """Read a checkpoint, convert it, write weights and class names.

    Args:
        path (str): Local file or address; read with torch's protection on.
        out_path (str): Local file to write.
        to (str), classes (str, optional): As :func:`convert_semantic_fpn`.

    Raises:
        CheckpointError: The input cannot be read or used, the output cannot
            be written or is the input.
    """
    require_output(path, out_path)
    # of a model that was saved inside DistributedDataParallel
    weights = {
        key.removeprefix('module.'): value
        for key, value in read_checkpoint(path)['state_dict'].items()
    }
    result = convert_semantic_fpn(weights, to, classes, path)
    content = dict(state_dict=result.state_dict, meta=_meta(classes, to, path))
    write_weights(out_path, content)
    return result
