"""Mixed precision: float16 or bfloat16 on a GPU, bfloat16 on the CPU.

MMEngine's ``AmpOptimWrapper`` asserts an accelerator. bfloat16 has the
exponent of float32, so it needs no loss scaling.
"""
from contextlib import contextmanager
from typing import Any, ContextManager, Iterator, Optional, Union

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import HOOKS, OPTIM_WRAPPERS
from mmengine.runner.amp import autocast

from .errors import RunError
from .launch import on_cpu

AMP_WRAPPER = 'ExactAmpOptimWrapper'
#: Types of mixed precision.
HALF = ('float16', 'bfloat16')
#: One of them; True is the device's own.
Amp = Union[bool, str]


class Bfloat16OptimWrapper(OptimWrapper):
    """``OptimWrapper`` whose forward passes run under bfloat16 autocast;
    losses and parameters stay float32."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, and no gradient exchange while accumulating."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the state, without the loss scale of a run in float16."""
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
            without effect in bfloat16.
        dtype (str, optional): As for ``AmpOptimWrapper``; the CPU has
            bfloat16 only.
        **kwargs: As for ``OptimWrapper``.
    """
    bfloat16 = dtype in ('bfloat16', torch.bfloat16)
    if not bfloat16 and not on_cpu():
        return AmpOptimWrapper(loss_scale=loss_scale, dtype=dtype, **kwargs)
    if dtype is not None and not bfloat16:
        print_log(
            f'Mixed precision on the CPU is bfloat16, not {dtype}.',
            logger='current')
    return Bfloat16OptimWrapper(**kwargs)


def half_dtype(device_type: str, amp: Amp = True) -> torch.dtype:
    """Type of mixed precision on a device.

    Args:
        device_type (str): 'cpu', which has bfloat16 only, 'cuda', ...
        amp (bool or str): 'float16', the default, or 'bfloat16'.

    Raises:
        RunError: It is neither.
    """
    if amp not in (True, *HALF):
        raise RunError(f'amp={amp!r}: mixed precision is '
                       f'{" or ".join(HALF)}.')
    if device_type == 'cpu' or amp == 'bfloat16':
        return torch.bfloat16
    return torch.float16


def half_precision(device: torch.device, amp: Amp = True) -> ContextManager:
    """Autocast for inference; see :func:`half_dtype`."""
    return torch.autocast(device.type, dtype=half_dtype(device.type, amp))


@HOOKS.register_module()
class HalfPrecisionHook(Hook):
    """Sets the type of MMEngine's ``TestLoop(fp16=True)``, see
    :func:`half_dtype`."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def before_test(self, runner: Any) -> None:
        # what MMEngine asks for; torch has the other name since 2.4
        torch.set_autocast_gpu_dtype(half_dtype(get_device(), self.dtype))


def enable_test_amp(cfg: Config, amp: Amp = True) -> None:
    """``--amp`` of a test: sets MMEngine's ``TestLoop(fp16=True)``, and its
    type where that is given; see :func:`half_dtype`."""
    cfg.test_cfg.fp16 = True
    if amp in HALF:
        cfg.custom_hooks = [
            *(cfg.get('custom_hooks') or []),
            dict(type='HalfPrecisionHook', dtype=amp)
        ]


def enable_amp(cfg: Config, amp: Amp = True) -> None:
    """``--amp`` of a training: mixed precision for ``cfg.optim_wrapper``, of
    the ``dtype`` there unless one is given; see :func:`half_dtype`.

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
    if amp in HALF:
        wrapper['dtype'] = amp
