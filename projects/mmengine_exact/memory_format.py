"""``channels_last`` of a config: how a run lays a model out in memory."""
import torch
from mmengine.config import Config
from torch import nn


def apply_memory_format(model: nn.Module, cfg: Config) -> None:
    """Follow ``cfg.channels_last``, in all networks that offer it.

    Args:
        model (nn.Module): Is changed where it, or a network in it, has
            ``set_memory_format``; others stay as they are.
        cfg (Config): Of the run.
    """
    if not cfg.get('channels_last', False):
        return
    for module in model.modules():
        if hasattr(module, 'set_memory_format'):
            module.set_memory_format(torch.channels_last)
