"""Counting of one call: multiply-adds and elements of the outputs.

Operations are counted where torch dispatches them, so those of ``functional``
count like those of modules. On tensors of the meta device only shapes exist.
"""
from collections import Counter
from dataclasses import dataclass, fields
from math import prod
from typing import Any, Callable, Dict, Tuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_ATEN = torch.ops.aten
_PRODUCTS = (_ATEN.mm, _ATEN.addmm, _ATEN.bmm, _ATEN.baddbmm)


@dataclass(frozen=True)
class Cost:
    """What a part of a model costs for one image; costs can be added.

    Attributes:
        multiply_adds (int): Of convolutions (transposed ones too) and matrix
            products, as torch's ``FlopCounterMode`` has them. Normalization,
            activation functions, pooling and interpolation have none.
        activations (int): Elements of the outputs of convolutions, the
            paper's measure of memory.
        transposed_outputs (int): The same of transposed convolutions.
        linear_outputs (int): The same of matrix products.
        parameters (int): Trained and frozen.
    """

    multiply_adds: int = 0
    activations: int = 0
    transposed_outputs: int = 0
    linear_outputs: int = 0
    parameters: int = 0

    def __add__(self, other: 'Cost') -> 'Cost':
        return Cost(*(getattr(self, field.name) + getattr(other, field.name)
                      for field in fields(self)))


def measure(run: Callable[[], Any], *modules: nn.Module) -> Tuple[Any, Cost]:
    """Call a function and count what it does.

    Args:
        run (callable): Without arguments; called once, without gradients.
        *modules: Whose parameters count.

    Returns:
        tuple[Any, Cost]: What ``run`` returns, and its cost.
    """
    outputs: Dict[str, int] = Counter()

    # Formulas in torch's form: shapes of the arguments and of the output.
    def convolution(*arguments: Any, out_shape: Any, **_: Any) -> int:
        transposed = arguments[6]
        kind = 'transposed_outputs' if transposed else 'activations'
        outputs[kind] += prod(out_shape)
        return 0

    def product(*_: Any, out_shape: Any, **__: Any) -> int:
        outputs['linear_outputs'] += prod(out_shape)
        return 0

    formulas = dict.fromkeys(_PRODUCTS, product)
    formulas[_ATEN.convolution] = convolution
    with torch.no_grad(), FlopCounterMode(display=False) as flops, \
            FlopCounterMode(display=False, custom_mapping=formulas):
        result = run()
    parameters = {p for module in modules for p in module.parameters()}
    # torch counts a multiplication and an addition as two
    return result, Cost(
        multiply_adds=flops.get_total_flops() // 2,
        parameters=sum(p.numel() for p in parameters),
        **outputs)
