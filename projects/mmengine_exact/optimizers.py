"""Optimizers that launch few kernels on a GPU.

MMEngine's constructor makes a group of each parameter where the config has a
``paramwise_cfg``. Optimizers update a group by a few kernels, and schedules
visit each one. Here those of equal settings are one.
"""
from typing import Any, List

import torch.nn as nn
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch.optim import Optimizer


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupingOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor with one group for all parameters of equal
    settings; :class:`ExactRunner` takes it in the place of MMEngine's."""

    def add_params(self,
                   params: List[dict],
                   module: nn.Module,
                   prefix: str = '',
                   **kwargs: Any) -> None:
        super().add_params(params, module, prefix, **kwargs)
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


def merge_saved_groups(checkpoint: dict, optimizer: Optimizer) -> None:
    """Merge the groups of a checkpoint, in place, that has another number of
    them than the run: one of each parameter, as MMEngine makes them. Torch
    pairs parameters in order, and refuses groups of other sizes."""
    saved = checkpoint['optimizer']
    old, state = saved['param_groups'], saved['state']
    if len(old) == len(optimizer.param_groups):
        return
    new = saved['param_groups'] = merged_groups(old)
    order = [i for group in new for i in group['params']]
    saved['state'] = {i: state[i] for i in order if i in state}
    firsts = [group['params'][:1] for group in new]
    kept = [i for i, group in enumerate(old) if group['params'][:1] in firsts]
    for schedule in checkpoint.get('param_schedulers') or []:
        for key, value in schedule.items():
            # one for each group, and perhaps one for base_param_settings
            if isinstance(value, list) and len(value) - len(old) in (0, 1):
                schedule[key] = [value[i] for i in kept] + value[len(old):]
