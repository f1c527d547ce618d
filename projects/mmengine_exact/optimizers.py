"""Optimizers that launch few kernels on a GPU and do not wait for it.

Groups    MMEngine's constructor makes a group of each parameter where the
          config has a ``paramwise_cfg``. Optimizers update a group by a few
          kernels, and schedules visit each one. Here those of equal settings
          are one.
Norm      MMEngine reads the norm of clipped gradients between the backward
          pass and the step. Here it is recorded with the losses.
"""
from typing import Any, Dict, List, Optional, Union

import torch.nn as nn
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupingOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor with one group for all parameters of equal
    settings; :class:`ExactRunner` takes it in the place of MMEngine's."""

    def add_params(self,
                   params: List[dict],
                   module: nn.Module,
                   prefix: str = '',
                   is_dcn_module: Optional[Union[int, float]] = None) -> None:
        super().add_params(params, module, prefix, is_dcn_module)
        if not prefix:  # the whole model
            params[:] = merged_groups(params)


def settings(group: dict) -> dict:
    """A group of parameters without them."""
    return {key: group[key] for key in group if key != 'params'}


def merged_groups(groups: List[dict]) -> List[dict]:
    """One group for all of equal settings, in the order of the first ones."""
    merged: List[dict] = []
    for group in groups:
        for other in merged:
            if settings(other) == settings(group):
                other['params'] += group['params']
                break
        else:
            merged.append(dict(group, params=list(group['params'])))
    return merged


def merge_saved_groups(checkpoint: dict, optim_wrapper: OptimWrapper,
                       model: nn.Module) -> None:
    """Give a checkpoint with a group of each parameter the groups of the run.

    A checkpoint, changed in place, that has other groups, or groups whose
    settings differ where the run has one group, is left alone.
    """
    saved = checkpoint.get('optimizer') or {}
    old = saved.get('param_groups') or []
    trained = (p for p in model.parameters() if p.requires_grad)
    place = {p: i for i, p in enumerate(trained)}  # as MMEngine orders groups
    new = [[place.get(p, -1) for p in group['params']]
           for group in optim_wrapper.optimizer.param_groups]
    flat = [i for places in new for i in places]
    if len(old) == len(new) or sorted(flat) != list(range(len(old))) or any(
            settings(old[i]) != settings(old[places[0]]) for places in new
            for i in places):
        return
    at = {i: position for position, i in enumerate(flat)}
    saved['param_groups'] = [
        dict(old[places[0]], params=[at[i] for i in places]) for places in new
    ]
    saved['state'] = {
        at[i]: saved['state'][i]
        for i in flat if i in saved['state']
    }
    for state in checkpoint.get('param_schedulers') or []:
        for key, value in state.items():
            # one for each group, and perhaps one for base_param_settings
            if isinstance(value, list) and len(value) - len(old) in (0, 1):
                state[key] = [value[places[0]]
                              for places in new] + value[len(old):]


def delay_norm(optim_wrapper: OptimWrapper, model: nn.Module) -> None:
    """Have the wrapper keep the norm of clipped gradients for
    :func:`take_norm`; summed in the order of the model's parameters."""
    if not getattr(optim_wrapper, 'clip_grad_kwargs', None):
        return
    order = {parameter: i for i, parameter in enumerate(model.parameters())}
    clip = optim_wrapper.clip_func

    def keep_norm(parameters: List[nn.Parameter], **kwargs: Any) -> None:
        parameters = sorted(parameters, key=order.__getitem__)
        optim_wrapper.clipped_norm = clip(parameters, **kwargs)

    optim_wrapper.clip_func = keep_norm


def take_norm(optim_wrapper: OptimWrapper) -> Dict[str, Any]:
    """The norm, by its name in the log, unless none was clipped since."""
    norm = vars(optim_wrapper).pop('clipped_norm', None)
    return {} if norm is None else {optim_wrapper.grad_name: norm}
