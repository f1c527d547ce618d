"""Whether a checkpoint fits model and run, by what each purpose demands.

resume    every tensor of model and file, and the state of the run
exact     (evaluation) every tensor of the model; more in the file is reported
finetune  the backbone; the rest (other classes, new branches) is reported
"""
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
import torch.nn as nn
from mmengine.model import (BaseTTAModel, PretrainedInit, is_model_wrapper,
                            update_init_info)
from mmengine.registry import WEIGHT_INITIALIZERS

from .checkpoint import read_checkpoint, to_plain
from .errors import CheckpointError

RESUME, EXACT, FINETUNE = 'resume', 'exact', 'finetune'
#: Key of ``checkpoint['meta']``: what else the batch stream depends on.
STREAM = 'data_stream'
_SHOWN = 3
# Written by newer BatchNorm layers only; of no use in training or testing.
_OPTIONAL = 'num_batches_tracked'
#: What optimizers and schedules keep besides settings; names with _, too.
_PROGRESS = {
    'params', 'last_step', 'base_values', 'verbose', 'best', 'num_bad_epochs',
    'cooldown_counter'
}
_STATISTICS = ('running_mean', 'running_var')


@dataclass
class MatchReport:
    """What was loaded and what was not.

    Attributes:
        loaded (list[str]): Model keys that the file filled.
        missing (list[str]): Model keys that the file does not have.
        mismatched (dict): Key -> (shape in the file, shape in the model).
        unexpected (list[str]): File keys that the model does not have.
        broken (list[str]): Keys whose numbers are NaN, infinite or of
            another kind.
    """

    loaded: List[str] = field(default_factory=list)
    missing: List[str] = field(default_factory=list)
    mismatched: Dict[str, Tuple] = field(default_factory=dict)
    unexpected: List[str] = field(default_factory=list)
    broken: List[str] = field(default_factory=list)

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
    # versions of layers' layouts, for the hooks
    fitting._metadata = getattr(state_dict, '_metadata', None)
    report = MatchReport()
    own = model.state_dict(keep_vars=True)
    for key in [key for key in fitting if key in own]:
        value, target = fitting[key], own[key]
        if value.shape != target.shape:
            report.mismatched[key] = (tuple(value.shape), tuple(target.shape))
        elif not _usable(key, value, target):
            report.broken.append(key)
        else:
            continue
        del fitting[key]
    missing, report.unexpected = model.load_state_dict(fitting, strict=False)
    absent = set(missing)
    report.missing = [
        key for key in missing if key not in report.mismatched
        and key not in report.broken and not key.endswith(_OPTIONAL)
    ]
    report.loaded = [key for key in own if key not in absent]
    return report


def counts(key: str, own: torch.Tensor) -> bool:
    """Whether results depend on each number of a model's tensor: parameters
    and statistics, not masks."""
    return isinstance(own, nn.Parameter) or key.endswith(_STATISTICS)


def _usable(key: str, value: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether numbers are of the model's kind and, where each counts,
    finite."""
    if value.is_floating_point() != own.is_floating_point():
        return False
    return not counts(key, own) or bool(value.to(own.dtype).isfinite().all())


def require(report: MatchReport, policy: str, filename: str) -> str:
    """Stop where the purpose demands more than what was loaded.

    Returns:
        str: A warning; empty if there is nothing to warn of.

    Raises:
        CheckpointError: Names the file, the first keys and the fix.
    """
    text = report.describe(['mismatched', 'missing', 'unexpected'])
    wrong = report.describe(['mismatched', 'missing'])
    lacking = [*report.missing, *report.mismatched]
    loaded = [key for key in report.loaded if not key.endswith(_OPTIONAL)]
    backbone = [key.startswith('backbone.') for key in (*loaded, *lacking)]
    fault = ''
    if report.broken:
        fault = ('has NaN, infinity or numbers of another type in '
                 f'{_first(report.broken)}. Use an earlier checkpoint, or '
                 'copy or download it again.')
    elif policy == RESUME and text:
        fault = (f'does not fit the model: {text}. Resume with the config '
                 'that wrote it, or use it as load_from to fine-tune.')
    elif policy == EXACT and wrong:
        fault = (f'does not fit the model: {wrong}. Use the config it was '
                 'trained with.')
    # the whole backbone; of a model without one, half of the tensors
    elif any(backbone[len(loaded):]) or (len(loaded) < len(lacking)
                                         and not any(backbone)):
        fault = (f'fills only {len(loaded)} of {len(backbone)} tensors of the '
                 f'model ({text}). Use a checkpoint of the same architecture; '
                 'weights of a backbone alone belong in model.backbone.init_'
                 "cfg=dict(type='Pretrained', checkpoint=...), with prefix= "
                 'where they are part of a whole model.')
    if fault:
        raise CheckpointError(f'Checkpoint {filename} {fault}')
    return text and (f'Checkpoint {filename} was loaded in part: it fills '
                     f'{len(report.loaded)} tensors of the model; {text}.')


@WEIGHT_INITIALIZERS.register_module(name='Pretrained', force=True)
class CheckedPretrainedInit(PretrainedInit):
    """Replaces MMEngine's ``init_cfg=dict(type='Pretrained')``.

    Arguments are the same. Weights of another architecture are an error;
    MMEngine's logs their names and trains from scratch.
    """

    def __call__(self, module: nn.Module) -> None:
        """Raises:
            CheckpointError: The file cannot be read, or does not fill the
                module.
        """
        weights = read_checkpoint(self.checkpoint,
                                  self.map_location)['state_dict']
        prefix = f'{self.prefix.rstrip(".")}.' if self.prefix else ''
        named = {key.removeprefix('module.'): key for key in weights}
        report = load_weights(
            module, {
                name[len(prefix):]: weights[key]
                for name, key in named.items() if name.startswith(prefix)
            })
        require(report, FINETUNE,
                f'{self.checkpoint} (for {type(module).__name__})')
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())


def frozen_warning(model: nn.Module) -> str:
    """Warning where a backbone has frozen weights that no ``init_cfg`` loads;
    else empty."""
    names = ', '.join(_frozen_at_random(model, 'model'))
    return names and (
        f'{names}: frozen layers (norm or first stages) keep random weights. '
        "Load some: init_cfg=dict(type='Pretrained', checkpoint=...) there, "
        'or load_from; or train all of it: frozen_stages=-1, norm_eval=False '
        'and norm_cfg.requires_grad=True.')


def _frozen_at_random(module: nn.Module, name: str) -> Iterator[str]:
    if 'Pretrained' in str(getattr(module, 'init_cfg', None)):
        return
    if name.endswith('.backbone') and not all(
            parameter.requires_grad for parameter in module.parameters()):
        yield name
    for key, child in module.named_children():
        yield from _frozen_at_random(child, f'{name}.{key}')


def resume_faults(checkpoint: dict, schedules: Any, averaged: bool,
                  stream: dict, scaled: bool) -> Iterator[str]:
    """Faults, other than of weights, that keep a checkpoint from resuming.

    Args:
        checkpoint (dict): As it was read.
        schedules (list or dict or None): The run's; MMEngine pairs them with
            those of the file in order and ignores what is left over.
        averaged (bool): Whether the run has an ``EMAHook``, which swaps the
            averages in a checkpoint for the weights of the run.
        stream (dict): What batches depend on besides the seed.
        scaled (bool): Whether the schedule is scaled to the batch.
    """
    needed = dict(
        meta='iteration',
        optimizer='optimizer state (a best or published checkpoint, or '
        'safetensors)',
        message_hub='message_hub, which the loggers continue')
    if schedules is not None:
        needed['param_schedulers'] = 'state of the schedule'
    for key, what in needed.items():
        if key not in checkpoint:
            yield f'it has no {what}'
    if 'ema_state_dict' in checkpoint and not averaged:
        yield ('it was written with EMAHook, so its weights are averages, but '
               'custom_hooks has none')
    saved = checkpoint['param_schedulers'] if schedules is not None else []
    pairs = [(saved, schedules or [])]
    if isinstance(schedules, dict):  # one for each of several optimizers
        pairs = [(saved[name], schedules[name]) for name in schedules]
    for states, own in pairs:
        if list(map(set, states)) != [set(one.state_dict()) for one in own]:
            yield (f'it has {len(states)} states of param_scheduler, the '
                   f'config {len(own)} entries, or of other kinds')
    former = checkpoint['meta'].get(STREAM) or stream
    if scaled and former['images_per_iteration'] != stream[
            'images_per_iteration']:
        yield (f'it was written with {former}, this run has {stream}, and '
               '--auto-scale-lr scales learning rate and milestones to '
               'another batch than its own')


def settings_warning(checkpoint: dict, optimizer: Any, schedules: Sequence,
                     filename: str) -> str:
    """Compare optimizer and schedule of the config with those that a resumed
    checkpoint puts in their place: what both were built with.

    Args:
        checkpoint (dict): As it was read.
        optimizer (OptimWrapper): The run's.
        schedules (Sequence): The run's.
        filename (str): The checkpoint's.

    Returns:
        str: A warning with both values; empty where all are the same.
    """
    saved = checkpoint['optimizer']
    groups = [*saved['param_groups'], saved.get('base_param_settings') or {}]
    # the last group has the learning rate of the config itself
    pairs = [('', *pair) for pair in zip(groups, optimizer.param_groups)][::-1]
    states = checkpoint.get('param_schedulers') or []
    pairs += [(f'param_scheduler.{i}.', state, one.state_dict())
              for i, (one, state) in enumerate(zip(schedules, states))]
    found: Dict[str, str] = {}
    for prefix, then, now in pairs:
        for name in sorted(then.keys() & now.keys() - _PROGRESS):
            # of what a schedule changes, the first value counts
            initial = f'initial_{"momentum" if name == "betas" else name}'
            a, b = to_plain(then[name]), to_plain(now[name])
            if a != b and initial not in now and name[0] != '_':
                a, b = (list(v) if isinstance(v, dict) else v for v in (a, b))
                if name == 'initial_momentum' and 'betas' in now:
                    name = 'betas'
                name = prefix + name.replace('initial_', '')
                found.setdefault(name, f'{name} {a} (config: {b})')
    if not found:
        return ''
    return (
        f'{filename}: a resumed run keeps the learning rate and schedule of '
        f'its checkpoint, not those of the config: {", ".join(found.values())}'
        '. To train with those of the config, begin anew from the weights: '
        f'--cfg-options load_from={filename} and another --work-dir instead '
        'of --resume.')


def stream_warning(former: Optional[dict], current: dict,
                   filename: str) -> str:
    """Compare what, besides the seed, decides which images a batch holds;
    empty where both are equal, or the first is not known."""
    if former is None or former == current:
        return ''
    return (f'{filename} was written with {former}, this run has {current}: '
            'it continues at the same iteration, with other images than the '
            'former run would have seen.')


def classes_warning(then: dict, now: dict, source: str) -> str:
    """Compare the classes (metainfo) of the training with those of the data.

    Returns:
        str: A warning; empty where names and order are the same, or unknown.
    """
    for key in ('thing_classes', 'stuff_classes', 'classes'):
        a, b = list(then.get(key) or ()), list(now.get(key) or ())
        if a and b and a != b:
            odd = [name for name in (*a, *b) if (name in a) != (name in b)]
            return (f'{source} was trained on other classes than the data '
                    f'have: {len(a)} and {len(b)} {key}, '
                    f'{f"in one only: {_first(odd)}" if odd else "reordered"}'
                    '. Its scores mean little unless these are names of one '
                    'thing.')
    return ''
