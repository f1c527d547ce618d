"""Float32 at the borders of the region branch under mixed precision.

Region operators (RoIAlign, NMS, box decoding) have no bfloat16 kernels on a
CPU and lose box accuracy in half precision anywhere, so they take and give
float32 whatever the convolutions around them run in.
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


def give_float32(module: nn.Module) -> None:
    """Let a module return float32 whatever it computes in."""
    module.register_forward_hook(_cast_outputs)


def take_float32(module: nn.Module) -> None:
    """Let a module see float32 whatever it is called with."""
    module.register_forward_pre_hook(_cast_inputs)


# Functions of the module, not closures: a detector must stay picklable.
def _cast_outputs(module: nn.Module, inputs: tuple, outputs: Any) -> Any:
    return to_float32(outputs)


def _cast_inputs(module: nn.Module, inputs: tuple) -> tuple:
    return to_float32(inputs)
