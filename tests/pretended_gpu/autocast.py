"""CUDA's autocast, emulated: CPU kernels know none of device type 'cuda'.

Operators in lower precision round inputs and results to float16 or bfloat16
and compute in float32 in between, as tensor cores do. Lists: torch's
``ATen/autocast_mode.h``. Gradients are rounded where CUDA rounds them, at the
casts.
"""
from typing import Any, Callable

import torch

from .device import PretendedGpu

LOWER = frozenset("""
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    prelu addmm addmv addr matmul __matmul__ __rmatmul__ einsum mm mv linear
    addbmm baddbmm bmm chain_matmul multi_dot scaled_dot_product_attention
""".split())
FLOAT32 = frozenset("""
    __pow__ __rpow__ acos asin cosh erfinv exp expm1 log log10 log2 log1p
    reciprocal rsqrt sinh tan pow softplus layer_norm group_norm norm
    nuclear_norm cosine_similarity cosine_embedding_loss nll_loss kl_div
    l1_loss smooth_l1_loss huber_loss mse_loss margin_ranking_loss
    multilabel_margin_loss soft_margin_loss triplet_margin_loss
    binary_cross_entropy_with_logits cross_entropy dist pdist cdist renorm
    logsumexp interpolate softmax log_softmax cumprod cumsum prod sum
""".split())
#: Take the widest type of their arguments.
WIDEST = frozenset("""
    addcdiv addcmul atan2 bilinear cross dot grid_sample index_put scatter_add
    tensordot
""".split())


def run(gpu: PretendedGpu, func: Callable, args: tuple, kwargs: dict) -> Any:
    """Call a function of torch as CUDA's autocast, where enabled, would."""
    name = getattr(func, '__name__', '')
    if (not torch.is_autocast_enabled('cuda')
            or name not in LOWER | FLOAT32 | WIDEST):
        return func(*args, **kwargs)
    floats = [t for t in _floats(gpu, args)]
    if not floats:
        return func(*args, **kwargs)
    dtype = torch.get_autocast_dtype('cuda')
    if name in LOWER:
        args, kwargs = _cast(gpu, (args, kwargs), dtype)
        with gpu.quiet():  # one kernel computes and rounds
            args, kwargs = _cast(gpu, (args, kwargs), torch.float32)
        return _rounded(gpu, func(*args, **kwargs), dtype)
    wide = name in FLOAT32 or any(t.dtype == torch.float32 for t in floats)
    args, kwargs = _cast(gpu, (args, kwargs), torch.float32 if wide else dtype)
    return func(*args, **kwargs)


def _rounded(gpu: PretendedGpu, tensor: Any, dtype: torch.dtype) -> Any:
    with gpu.quiet():
        return tensor.to(dtype)


def _floats(gpu: PretendedGpu, tree: Any) -> list:
    if isinstance(tree, torch.Tensor):
        fits = tree.is_floating_point() and tree.dtype != torch.float64
        return [tree] if fits and gpu.has(tree) else []
    if isinstance(tree, (list, tuple)):
        return [t for part in tree for t in _floats(gpu, part)]
    return []


def _cast(gpu: PretendedGpu, tree: Any, dtype: torch.dtype) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.to(dtype) if _floats(gpu, tree) else tree
    if isinstance(tree, (list, tuple)) and not hasattr(tree, '_fields'):
        return type(tree)(_cast(gpu, t, dtype) for t in tree)
    if isinstance(tree, dict):
        return {k: _cast(gpu, v, dtype) for k, v in tree.items()}
    return tree
