"""What the region branch takes and gives: float32, contiguous memory.

Region operators (RoIAlign, NMS, box decoding) have no bfloat16 kernels on a
CPU and lose box accuracy in half precision anywhere, so they take and give
float32 whatever the convolutions around them run in. mmcv's RoIAlign reads
channels-last memory as if it were contiguous, and gives wrong numbers.
"""
from typing import Any

import torch
from torch import nn


def to_float32(value: Any) -> Any:
    """Floating-point tensors, nested in tuples, lists or dicts, to float32."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, (tuple, list)):
        return type(value)(to_float32(item) for item in value)
    if isinstance(value, dict):
        return {key: to_float32(item) for key, item in value.items()}
    return value


def to_contiguous(value: Any) -> Any:
    """Tensors, nested in tuples or lists, in the default memory format."""
    if isinstance(value, torch.Tensor):
        return value.contiguous()
    if isinstance(value, (tuple, list)):
        return type(value)(to_contiguous(item) for item in value)
    return value


def give_float32(module: nn.Module) -> None:
    """Let a module return float32 whatever it computes in."""
    module.register_forward_hook(_cast_outputs)


def take_float32(module: nn.Module) -> None:
    """Let a module see float32 whatever it is called with."""
    module.register_forward_pre_hook(_cast_inputs)


def take_contiguous(module: nn.Module) -> None:
    """Let a module see contiguous memory whatever it is called with."""
    module.register_forward_pre_hook(_lay_inputs_out)


# Functions of the module, not closures: a detector must stay picklable.
def _cast_outputs(module: nn.Module, inputs: tuple, outputs: Any) -> Any:
    return to_float32(outputs)


def _cast_inputs(module: nn.Module, inputs: tuple) -> tuple:
    return to_float32(inputs)


def _lay_inputs_out(module: nn.Module, inputs: tuple) -> tuple:
    return to_contiguous(inputs)
