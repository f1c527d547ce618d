"""``randomness.deterministic``: a run that is begun twice has equal bits.

MMEngine has cuDNN choose its kernels by rule and torch take deterministic
ones, or stop where it has none. What is left on a GPU:

cuBLAS      needs workspaces of a fixed size, which are set here
bilinear    torch's interpolation is made of other operators under the switch
RoIAlign    mmcv's backward adds in any order and tells nobody;
            ``SeparableRoIAlign`` is made of matrix products under the switch
the rest    of mmcv's operators, as deformable convolution: a warning names
            those of the model
"""
import os
from typing import Dict, Optional

from torch import nn

from .errors import RunError

#: Read by cuBLAS and by torch at the first matrix product.
WORKSPACES = 'CUBLAS_WORKSPACE_CONFIG'
#: Values that give equal bits; the first is set where there is none.
FIXED = (':4096:8', ':16:8')


def fix_workspaces() -> None:
    """Set cuBLAS's workspaces, unless the environment does.

    Raises:
        RunError: The environment sets others, which torch refuses in the
            middle of an iteration.
    """
    found = os.environ.setdefault(WORKSPACES, FIXED[0])
    if found not in FIXED:
        raise RunError(
            f'randomness.deterministic=True with {WORKSPACES}={found}: cuBLAS '
            f'then adds in any order. Unset it, or set {" or ".join(FIXED)}.')


def unequal_kernels(model: nn.Module) -> Optional[str]:
    """What to tell of kernels that the switch does not reach.

    Args:
        model (nn.Module): Modules of ``mmcv.ops`` count, and those derived
            from them, but for those with ``equal_bits = True``.

    Returns:
        str | None: A warning that names classes and the first module of
        each; None without any.
    """
    first: Dict[str, str] = {}
    for name, module in model.named_modules():
        of_mmcv = any(
            kind.__module__.startswith('mmcv.ops.')
            for kind in type(module).__mro__)
        if of_mmcv and not getattr(module, 'equal_bits', False):
            first.setdefault(type(module).__name__, name)
    if not first:
        return None
    named = ', '.join(f'{kind} ({name})' for kind, name in first.items())
    return ('randomness.deterministic=True does not reach operators of mmcv '
            f'whose gradients may be added in any order on a GPU: {named}. '
            'Two runs of this model differ by rounding. For RoIAlign set '
            "type='SeparableRoIExtractor' in model.roi_head.")
