"""Mixed precision: float16 or bfloat16 on a GPU, bfloat16 on the CPU.

MMEngine's ``AmpOptimWrapper`` asserts an accelerator. bfloat16 has the
exponent of float32, so the CPU needs no loss scaling.
"""
from contextlib import contextmanager
from typing import Any, ContextManager, Iterator, Optional, Union

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS

from .errors import RunError
from .launch import on_cpu

AMP_WRAPPER = 'ExactAmpOptimWrapper'


class CpuAmpOptimWrapper(OptimWrapper):
    """``OptimWrapper`` whose forward passes run under bfloat16 autocast;
    losses and parameters stay float32."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, and no gradient exchange while accumulating."""
        with super().optim_context(model), torch.autocast(
                'cpu', dtype=torch.bfloat16):
            yield

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the state, without the loss scale of a run on a GPU."""
        super().load_state_dict({
            key: value
            for key, value in state_dict.items() if key != 'loss_scaler'
        })


@OPTIM_WRAPPERS.register_module(name=AMP_WRAPPER)
def build_amp_optim_wrapper(loss_scale: Union[str, float, dict] = 'dynamic',
                            dtype: Optional[str] = None,
                            **kwargs: Any) -> OptimWrapper:
    """Optimizer wrapper for mixed precision on the machine at hand.

    Args:
        loss_scale (str or float or dict): As for ``AmpOptimWrapper``;
            without effect on the CPU.
        dtype (str, optional): As for ``AmpOptimWrapper``; the CPU has
            bfloat16 only.
        **kwargs: As for ``OptimWrapper``.
    """
    if not on_cpu():
        return AmpOptimWrapper(loss_scale=loss_scale, dtype=dtype, **kwargs)
    if dtype not in (None, 'bfloat16', torch.bfloat16):
        print_log(
            f'Mixed precision on the CPU is bfloat16, not {dtype}.',
            logger='current')
    return CpuAmpOptimWrapper(**kwargs)


def half_precision(device: torch.device) -> ContextManager:
    """Autocast for inference: bfloat16 on a CPU, else float16."""
    dtype = torch.bfloat16 if device.type == 'cpu' else torch.float16
    return torch.autocast(device.type, dtype=dtype)


def enable_test_amp(cfg: Config) -> None:
    """``--amp`` of a test: sets MMEngine's ``TestLoop(fp16=True)``, which is
    bfloat16 on a CPU."""
    cfg.test_cfg.fp16 = True


def enable_amp(cfg: Config) -> None:
    """``--amp`` of a training: mixed precision for ``cfg.optim_wrapper``.

    Raises:
        RunError: The optimizer wrapper is of another kind.
    """
    wrapper = cfg.optim_wrapper
    known = ('OptimWrapper', 'AmpOptimWrapper', AMP_WRAPPER)
    if wrapper.get('type', 'OptimWrapper') not in known:
        raise RunError(
            f'--amp cannot change optim_wrapper.type={wrapper["type"]!r}. '
            f'Set it to one of {", ".join(known)}.')
    wrapper['type'] = AMP_WRAPPER
    wrapper.setdefault('loss_scale', 'dynamic')
