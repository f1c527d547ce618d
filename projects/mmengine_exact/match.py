"""Does a checkpoint fit a model? Report, and what each purpose demands.

resume    every tensor of model and file, and the state of the run
exact     (evaluation) every tensor of the model; more in the file is reported
finetune  the backbone; the rest (other classes, new branches) is reported
"""
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import torch
import torch.nn as nn
from mmengine.model import (BaseTTAModel, PretrainedInit, is_model_wrapper,
                            update_init_info)
from mmengine.registry import WEIGHT_INITIALIZERS

from .checkpoint import read_checkpoint
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
        mismatched = [
            _shape_text(key, *shapes)
            for key, shapes in self.mismatched.items()
        ]
        lists = dict(
            mismatched=('', mismatched),
            missing=('not in the file: ', self.missing),
            unexpected=('not in the model: ', self.unexpected))
        return '; '.join(head + _first(keys)
                         for head, keys in map(lists.__getitem__, kinds)
                         if keys)


def _first(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ', '.join(
        names[:_SHOWN]) + (f' and {more} more' if more > 0 else '')


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
    """Load what fits, through the model's own loading hooks."""
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
    """torch's notes of the version of each module's layout; a file may hold
    anything there."""
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
            bad = value.numel() - int(good.sum())
            return f'is NaN or infinite in {bad} of {value.numel()} numbers'
    return ''


def require(report: MatchReport, policy: str, filename: str) -> str:
    """Stop where the purpose demands more than what was loaded.

    Returns:
        str: A warning; empty if there is nothing to warn of.

    Raises:
        CheckpointError: Names the file, the first keys and the fix.
    """
    if report.broken:
        (key, problem), more = next(iter(
            report.broken.items())), len(report.broken) - 1
        raise CheckpointError(
            f'Checkpoint {filename} cannot be used: {key} {problem}'
            f'{f" and {more} more" if more else ""}. Use an earlier '
            'checkpoint, or copy or download it again.')
    if policy == FINETUNE:
        return _require_backbone(report, filename)
    unexpected = report.describe(['unexpected'])
    wrong = report.describe(['mismatched', 'missing'])
    fix = 'Use the config it was trained with.'
    if policy == RESUME:
        wrong = '; '.join(filter(None, (wrong, unexpected)))
        fix = ('Resume with the config that wrote it, or use it as load_from '
               'to fine-tune.')
    if wrong:
        raise CheckpointError(
            f'Checkpoint {filename} does not fit the model: {wrong}. {fix}')
    return (f'Checkpoint {filename} was loaded in part: {unexpected}.'
            if unexpected else '')


def _require_backbone(report: MatchReport, filename: str) -> str:
    lacking = report.missing + list(report.mismatched)
    loaded = [k for k in report.loaded if not k.endswith(_OPTIONAL)]
    bad = [k for k in lacking if k.startswith('backbone.')]
    has_backbone = bad or any(k.startswith('backbone.') for k in loaded)
    total = len(loaded) + len(lacking)
    text = report.describe(['mismatched', 'missing', 'unexpected'])
    if bad or (not has_backbone and 2 * len(loaded) < total):
        raise CheckpointError(
            f'Checkpoint {filename} fills only {len(loaded)} of {total} '
            'tensors of the model and not its whole '
            f'{"backbone" if has_backbone else "half"} '
            f'({f"e.g. {_first(bad)}; " if bad else ""}{text}). Use a '
            'checkpoint of the same architecture; weights of a backbone alone '
            "belong in model.backbone.init_cfg=dict(type='Pretrained', "
            'checkpoint=...).')
    if not lacking and not report.unexpected:
        return ''
    return (f'Checkpoint {filename} fills {len(loaded)} of {total} tensors of '
            f'the model, the others keep their initial values: {text}.')


@WEIGHT_INITIALIZERS.register_module(name='Pretrained', force=True)
class CheckedPretrainedInit(PretrainedInit):
    """Replaces MMEngine's ``init_cfg=dict(type='Pretrained')``.

    Arguments are the same. A file that is damaged, or of another
    architecture, is refused; MMEngine's logs the names and trains from
    scratch.
    """

    def __call__(self, module: nn.Module) -> None:
        """Raises:
            CheckpointError: The file cannot be read, or fills less than half
                of the module.
        """
        weights = read_checkpoint(self.checkpoint,
                                  self.map_location)['state_dict']
        prefix = f'{self.prefix.rstrip(".")}.' if self.prefix else ''
        weights = {
            key[len(prefix):]: value
            for key, value in ((key.removeprefix('module.'), value)
                               for key, value in weights.items())
            if key.startswith(prefix)
        }
        report = load_weights(module, weights)
        lacking = [*report.missing, *report.mismatched]
        if report.broken or len(lacking) > len(report.loaded):
            text = report.describe(['mismatched', 'missing', 'unexpected'])
            broken = '; '.join(' '.join(item)
                               for item in report.broken.items())
            raise CheckpointError(
                f'Pretrained weights {self.checkpoint} fill '
                f'{len(report.loaded)} tensors of {type(module).__name__} and '
                f'{len(lacking) + len(report.broken)} not ({broken or text}). '
                'Set init_cfg to weights of this architecture, with prefix= '
                'where they are those of a whole model, or to None.')
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())
