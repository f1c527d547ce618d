"""What a resume takes from a checkpoint beside weights, and what it must be.

MMEngine takes it as it is: an average of another shape fails in the first
step, a missing schedule starts again at its beginning without a word.
"""
import math
from typing import Any, Iterator, List, Mapping, Optional, Tuple

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from .errors import CheckpointError

#: Averages of SGD and of Adam's kind; they have their parameter's shape.
_AVERAGES = ('momentum_buffer', 'exp_avg', 'exp_avg_sq', 'max_exp_avg_sq')
_HUB = ('log_scalars', 'runtime_info', 'resumed_keys')
_FIX = 'Resume from another iter_N.pth, or use it as load_from to fine-tune.'


def require_run_state(checkpoint: dict, filename: str,
                      scheduled: bool) -> None:
    """A resume needs more than weights.

    Args:
        checkpoint (dict): As read; ``meta['config']`` is taken out of it,
            because MMEngine would run that text.
        filename (str): Of the checkpoint.
        scheduled (bool): Whether the config has a ``param_scheduler``.

    Raises:
        CheckpointError: The file lacks the iteration, the optimizer, the
            schedule or what the loggers know, or they are none.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, dict) or 'iter' not in meta:
        raise _lacks(filename, 'iteration')
    if 'optimizer' not in checkpoint:
        raise _lacks(filename,
                     'optimizer state (a best or published checkpoint)')
    if scheduled and 'param_schedulers' not in checkpoint:
        raise _lacks(filename, 'param_schedulers, the state of the schedule')
    meta.pop('config', None)
    for key in ('iter', 'epoch'):
        value = meta.get(key)
        if type(value) is not int or value < 0:
            raise _odd(filename, f'meta.{key}', value)
    seed = meta.get('seed')
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**32):
        raise _odd(filename, 'meta.seed', seed)
    _require_hub(checkpoint.get('message_hub'), filename)
    _require_optimizer(checkpoint['optimizer'], filename)


def _lacks(filename: str, what: str) -> CheckpointError:
    return CheckpointError(
        f'Checkpoint {filename} cannot be resumed: it has no {what}. Resume '
        'from iter_N.pth, or use it as load_from to fine-tune.')


def _odd(filename: str, key: str, value: Any) -> CheckpointError:
    shown = ' '.join(repr(value).split())[:80]
    return CheckpointError(f'Checkpoint {filename} cannot be resumed: its '
                           f'{key} is {shown}. {_FIX}')


def _require_hub(hub: Any, filename: str) -> None:
    if not isinstance(hub, dict):
        raise _odd(filename, 'message_hub', hub)
    for key in _HUB:
        if not isinstance(hub.get(key), dict):
            raise _odd(filename, f'message_hub.{key}', hub.get(key))
    for key, value in hub['resumed_keys'].items():
        if not isinstance(value, bool):
            raise _odd(filename, f'message_hub.resumed_keys.{key}', value)
    for key, value in hub['runtime_info'].items():
        if str(key).startswith('best_score') and (isinstance(
                value, bool) or not isinstance(value, (int, float))):
            raise _odd(filename, f'message_hub.runtime_info.{key}', value)


def _optimizers(state: Any) -> Iterator[Tuple[str, Any]]:
    """Key and state of the optimizer, or of each of several."""
    if isinstance(state, dict) and 'param_groups' not in state and state:
        for name, one in state.items():
            if name != 'base_param_settings':
                yield f'optimizer.{name}', one
    else:
        yield 'optimizer', state


def _require_optimizer(state: Any, filename: str) -> None:
    for key, one in _optimizers(state):
        if not isinstance(one, dict) or not isinstance(
                one.get('state'), dict) or not isinstance(
                    one.get('param_groups'), list):
            raise _odd(filename, key, one)
        for i, group in enumerate(one['param_groups']):
            rate = group.get('lr') if isinstance(group, dict) else None
            if isinstance(rate, torch.Tensor) and rate.numel() == 1:
                rate = rate.item()
            if isinstance(rate, bool) or not isinstance(
                    rate, (int, float)) or not 0 <= rate < math.inf:
                raise _odd(filename, f'{key}.param_groups[{i}].lr', rate)
        for number, values in one['state'].items():
            if not isinstance(values, dict):
                raise _odd(filename, f'{key}.state[{number}]', values)
            for name, value in values.items():
                if isinstance(value, torch.Tensor) and not bool(
                        torch.isfinite(value).all()):
                    raise _odd(filename, f'{key}.state[{number}].{name}',
                               'not finite')


def require_fitting_averages(wrapper: Any, filename: str) -> None:
    """The averages of an optimizer have the shapes of its parameters.

    Args:
        wrapper (OptimWrapper | OptimWrapperDict): After it was loaded.
        filename (str): Of the checkpoint.

    Raises:
        CheckpointError: They are of another model.
    """
    wrappers = [wrapper] if isinstance(
        wrapper, OptimWrapper) else [one for _, one in wrapper.items()]
    for one in wrappers:
        # loss scaling may skip steps, accumulation awaits the first one
        stepped = not (hasattr(one, 'loss_scaler')
                       or one._accumulative_counts > 1)
        if stepped and not one.optimizer.state and any(
                group.get('momentum') or 'betas' in group
                for group in one.optimizer.param_groups):
            raise CheckpointError(
                f'Checkpoint {filename} cannot be resumed: its optimizer has '
                f'no averages. {_FIX}')
        for parameter, values in one.optimizer.state.items():
            for name in _AVERAGES:
                average = values.get(name)
                if average is None or isinstance(average, torch.Tensor) and (
                        average.shape == parameter.shape):
                    continue
                shape = tuple(getattr(average, 'shape', ()))
                raise CheckpointError(
                    f'Checkpoint {filename}: its optimizer does not fit the '
                    f'model: {name} of shape {shape} for a parameter of '
                    f'shape {tuple(parameter.shape)}. Resume with the config '
                    'that wrote it, or use it as load_from to fine-tune.')


def require_schedules(saved: Any, own: Any, filename: str) -> None:
    """A checkpoint has a state for each schedule, of its kind.

    MMEngine pairs them in order and takes over whatever is there.

    Args:
        saved (Any): ``param_schedulers`` of the checkpoint.
        own (list | dict[str, list]): Schedules that were built.
        filename (str): Of the checkpoint.

    Raises:
        CheckpointError: Another number of them, or states of other kinds.
    """
    pairs: List[Tuple[str, Any, list]] = [('param_schedulers', saved, own)]
    if isinstance(own, dict):
        found = saved if isinstance(saved, dict) else {}
        pairs = [(f'param_schedulers.{name}', found.get(name), schedules)
                 for name, schedules in own.items()]
    for key, states, schedules in pairs:
        if not isinstance(states, list) or len(states) != len(schedules):
            number = len(states) if isinstance(states, list) else 'no'
            raise CheckpointError(
                f'Checkpoint {filename}: its optimizer or schedule does not '
                f'fit the config: {number} states of {key}, which has '
                f'{len(schedules)}. Resume with the config that wrote it, or '
                'use it as load_from to fine-tune.')
        for i, (state, schedule) in enumerate(zip(states, schedules)):
            what = _difference(state, schedule.state_dict())
            if what is not None:
                raise _odd(filename, f'{key}[{i}]{what[0]}', what[1])


def _difference(state: Any, own: Mapping) -> Optional[Tuple[str, Any]]:
    """Where a state of a schedule is not of its kind, and what is there."""
    if not isinstance(state, dict) or set(state) != set(own):
        return '', state
    for name, value in own.items():
        number = isinstance(value, (int, float))
        kinds = (int, float) if number else type(value)
        if value is not None and not isinstance(state[name], kinds) or (
                isinstance(state[name], float)
                and not math.isfinite(state[name])):
            return f'.{name}', state[name]
    return None


def require_ema(averages: Any, model: nn.Module, filename: str) -> None:
    """``ema_state_dict`` has all weights of the model, which it is not told.

    Raises:
        CheckpointError: Names the first key that is missing or odd.
    """
    if not isinstance(averages, dict):
        raise _odd(filename, 'ema_state_dict', averages)
    for key, own in model.state_dict().items():
        value = averages.get(f'module.{key}')
        if not isinstance(value, torch.Tensor) or value.shape != own.shape:
            shape = tuple(value.shape) if isinstance(value,
                                                     torch.Tensor) else value
            raise _odd(filename, f'ema_state_dict of {key}', shape)
        if not bool(torch.isfinite(value).all()):
            raise _odd(filename, f'ema_state_dict of {key}', 'not finite')
