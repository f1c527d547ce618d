"""Does a checkpoint fit a model? Report, and what each purpose demands.

resume    every tensor of model and file, and the state of the run
exact     (evaluation) every tensor of the model; more in the file is reported
finetune  the backbone; the rest (other classes, new branches) is reported
"""
import os.path as osp
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

import torch
import torch.nn as nn
from mmengine.model import BaseTTAModel, is_model_wrapper

from .errors import CheckpointError

RESUME, EXACT, FINETUNE = 'resume', 'exact', 'finetune'
_SHOWN = 3
# Written by newer BatchNorm layers only; of no use in training or testing.
_OPTIONAL = 'num_batches_tracked'
_STATISTICS = ('running_mean', 'running_var')


@dataclass
class MatchReport:
    """What was loaded and what was not.

    Attributes:
        loaded (list[str]): Model keys that the file filled.
        missing (list[str]): Model keys that the file does not have.
        mismatched (dict): Key -> (shape in the file, shape in the model).
        unexpected (list[str]): File keys that the model does not have.
        broken (dict): Key -> what is wrong with the file's numbers.
    """

    loaded: List[str] = field(default_factory=list)
    missing: List[str] = field(default_factory=list)
    mismatched: Dict[str, Tuple] = field(default_factory=dict)
    unexpected: List[str] = field(default_factory=list)
    broken: Dict[str, str] = field(default_factory=dict)

    def describe(self, kinds: Sequence[str]) -> str:
        """The first few keys of each kind, with shapes where they differ."""
        parts = []
        for kind in kinds:
            keys = list(getattr(self, kind))
            if not keys:
                continue
            shown = [
                _shape_text(key, *self.mismatched[key])
                if kind == 'mismatched' else key for key in keys[:_SHOWN]
            ]
            more = f' and {len(keys) - _SHOWN} more' if len(
                keys) > _SHOWN else ''
            head = dict(
                missing='not in the file: ',
                unexpected='not in the model: ',
                mismatched='').get(kind, '')
            parts.append(head + ', '.join(shown) + more)
        return '; '.join(parts)


def _shape_text(key: str, file_shape: Tuple, model_shape: Tuple) -> str:
    if file_shape[1:] == model_shape[1:] and file_shape and model_shape:
        return (f'{key} has {file_shape[0]} rows in the file and '
                f'{model_shape[0]} in the model')
    return (f'{key} has shape {tuple(file_shape)} in the file and '
            f'{tuple(model_shape)} in the model')


def bare_model(model: nn.Module) -> nn.Module:
    """The model inside DDP and test-time-augmentation wrappers."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def load_weights(
    model: nn.Module,
    state_dict: Dict[str, torch.Tensor],
    revise_keys: Sequence[Tuple[str, str]] = ()
) -> MatchReport:
    """Load what fits, through the model's own loading hooks.

    Args:
        model (nn.Module): Receives the weights; may be wrapped.
        state_dict (dict): The file's weights; not changed.
        revise_keys (Sequence[tuple[str, str]]): Regular expressions and
            replacements for the file's keys.
    """
    model = bare_model(model)
    fitting: Any = OrderedDict()
    for key, value in state_dict.items():
        for pattern, replacement in revise_keys:
            key = re.sub(pattern, replacement, key)
        fitting[key] = value
    fitting._metadata = _module_versions(state_dict)
    report = MatchReport()
    own = model.state_dict(keep_vars=True)
    for key in [k for k in fitting if k in own]:
        shapes = (tuple(fitting[key].shape), tuple(own[key].shape))
        if shapes[0] != shapes[1]:
            report.mismatched[key] = shapes
            del fitting[key]
            continue
        problem = unusable(fitting[key], own[key], finite=_computes(key, own))
        if problem:
            report.broken[key] = problem
            del fitting[key]
    missing, unexpected = model.load_state_dict(fitting, strict=False)
    report.unexpected = [key for key in unexpected]
    report.missing = [
        key for key in missing if key not in report.mismatched
        and key not in report.broken and not key.endswith(_OPTIONAL)
    ]
    absent = set(missing) | set(report.mismatched) | set(report.broken)
    report.loaded = [key for key in own if key not in absent]
    return report


def _module_versions(state_dict: Mapping) -> OrderedDict:
    """What torch notes of each module's layout, as far as it is that."""
    noted = getattr(state_dict, '_metadata', None)
    return OrderedDict(
        (key, value)
        for key, value in (noted.items() if isinstance(noted, Mapping) else ())
        if isinstance(value, dict)
        and isinstance(value.get('version', 1), int))


def _computes(key: str, own: Mapping) -> bool:
    """Whether a result depends on each number of a tensor: parameters (they
    require gradients, or are frozen) and running statistics. Other buffers,
    such as masks, may hold infinity."""
    return isinstance(own[key], nn.Parameter) or key.endswith(_STATISTICS)


def unusable(value: torch.Tensor,
             own: torch.Tensor,
             finite: bool = True) -> str:
    """Why a tensor of a file cannot be the weights of a model.

    Args:
        value (Tensor): Of the file.
        own (Tensor): The model's, of the same shape.
        finite (bool): Whether NaN and infinity are wrong.

    Returns:
        str: What is wrong; empty if nothing is.
    """
    if value.is_meta or value.is_quantized or value.layout != torch.strided:
        return f'holds no plain numbers ({value.layout}, {value.device})'
    if value.is_complex() or (value.is_floating_point()
                              != own.is_floating_point()):
        return f'has numbers of {value.dtype}, not of {own.dtype}'
    if finite and own.is_floating_point():
        good = torch.isfinite(value.to(own.dtype))
        if not bool(good.all()):
            number = value.numel() - int(good.sum())
            return (f'is NaN or infinite in {number} of {value.numel()} '
                    'numbers')
    return ''


def require(report: MatchReport, policy: str, filename: str) -> str:
    """Stop where the purpose demands more than what was loaded.

    Returns:
        str: What the user should be warned of; empty if nothing.

    Raises:
        CheckpointError: Names the file, the first keys and the fix.
    """
    if report.broken:
        key, problem = next(iter(report.broken.items()))
        more = f' and {len(report.broken) - 1} more' if len(
            report.broken) > 1 else ''
        raise CheckpointError(
            f'Checkpoint {filename} cannot be used: {key} {problem}{more}. '
            'Use an earlier checkpoint, or copy or download it again.')
    if policy == FINETUNE:
        return _require_backbone(report, filename)
    wrong = ['mismatched', 'missing']
    if policy == RESUME:
        wrong.append('unexpected')
    text = report.describe(wrong)
    if text:
        fix = ('Resume with the config that wrote it, or use it as load_from '
               'to fine-tune.'
               if policy == RESUME else 'Use the config it was trained with.')
        raise CheckpointError(
            f'Checkpoint {filename} does not fit the model: {text}. {fix}')
    text = report.describe(['unexpected'])
    return f'Checkpoint {filename} was loaded in part: {text}.' if text else ''


def _require_backbone(report: MatchReport, filename: str) -> str:
    lacking = report.missing + list(report.mismatched)
    loaded = [k for k in report.loaded if not k.endswith(_OPTIONAL)]
    bad = [k for k in lacking if k.startswith('backbone.')]
    has_backbone = bad or any(k.startswith('backbone.') for k in loaded)
    total = len(loaded) + len(lacking)
    text = report.describe(['mismatched', 'missing', 'unexpected'])
    if bad or (not has_backbone and 2 * len(loaded) < total):
        first = ', '.join(bad[:_SHOWN]) or text
        raise CheckpointError(
            f'Checkpoint {filename} fills only {len(loaded)} of {total} '
            'tensors of the model and not its whole '
            f'{"backbone" if has_backbone else "half"} (e.g. {first}; '
            f'{text}). Use a checkpoint of the same architecture; weights of '
            'a backbone alone belong in model.backbone.init_cfg='
            "dict(type='Pretrained', checkpoint=...).")
    if not lacking and not report.unexpected:
        return ''
    return (f'Checkpoint {filename} fills {len(loaded)} of {total} tensors of '
            f'the model, the others keep their initial values: {text}.')


def pretrained_weights(config: Any,
                       key: str = 'model') -> Iterator[Tuple[str, str]]:
    """Keys of ``init_cfg`` entries with pretrained weights, and their files
    or addresses.

    Args:
        config (Any): Of a model, or any part of it.
        key (str): Its place in the config.
    """
    if isinstance(config, (list, tuple)):
        for i, item in enumerate(config):
            yield from pretrained_weights(item, f'{key}[{i}]')
    if not isinstance(config, Mapping):
        return
    path = config.get('checkpoint')
    if config.get('type') == 'Pretrained' and isinstance(path, str):
        yield key, path
    for name, item in config.items():
        yield from pretrained_weights(item, f'{key}.{name}')


def require_pretrained(config: Any) -> None:
    """Files of pretrained weights that a model's config names are there.

    Raises:
        CheckpointError: Names the first missing file and its key.
    """
    for key, path in pretrained_weights(config):
        if '://' not in path and not osp.isfile(path):
            raise CheckpointError(
                f'{key}.checkpoint={path}: no such file. Put the weights '
                f'there or name others; to train from scratch set {key}=None.')
