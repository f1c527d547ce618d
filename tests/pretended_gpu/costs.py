"""What an operator costs on a GPU: kernels and waits, lower bounds.

Read off torch's and mmcv's CUDA sources, not measured. Names without
namespace and overload, as in ``aten::sort.stable`` -> 'sort'.
"""

#: Start no kernel: allocations, views, metadata.
FREE = frozenset("""
    empty empty_like new_empty empty_strided new_empty_strided empty_permuted
    view _unsafe_view reshape _reshape_alias view_as expand expand_as permute
    transpose transpose_ t t_ slice select unsqueeze unsqueeze_ squeeze
    squeeze_ detach detach_ alias split split_with_sizes unsafe_split unbind
    chunk unsafe_chunk tensor_split narrow unfold diagonal flatten unflatten
    movedim swapaxes numpy_T T H mT mH as_strided as_strided_ real
    view_as_real lift lift_fresh resize_ set_ record_stream is_same_size
    is_pinned is_contiguous result_type size stride dim numel sym_size
    sym_numel sym_stride sym_storage_offset device layout
    _local_scalar_dense
""".split())

#: Kernels, where it is not one; of the in-place twins as well.
KERNELS = dict(
    sort=4,
    argsort=4,
    topk=3,
    nonzero=3,
    unique_dim=8,
    _unique2=8,
    unique_consecutive=4,
    bincount=4,
    masked_select=4,
    randperm=4,
    cumsum=2,
    native_group_norm=4,
    native_group_norm_backward=4,
    native_layer_norm_backward=2,
    convolution_backward=2,
    embedding_dense_backward=3,
    # mmcv's and torchvision's
    nms=10)

#: Waits; a size that depends on the values has to be known by the host.
WAITS = dict(
    nonzero=1,
    masked_select=1,
    _unique2=1,
    unique_dim=1,
    unique_consecutive=1,
    bincount=2,
    equal=1,
    repeat_interleave=1,
    nms=1)

#: Tensors that one kernel of the ``_foreach`` family takes.
FOREACH = 60
#: ``nonzero`` of a mask that is an index.
MASK_KERNELS = 3

INDEXING = frozenset(
    ('index', 'index_put', 'index_put_', '_index_put_impl_', '_unsafe_index',
     '_unsafe_index_put', '_unsafe_masked_index'))
COPIES = frozenset(('copy_', 'copy'))
#: Take no number of the CPU among tensors of the GPU.
NO_NUMBERS = frozenset(('cat', 'stack', 'gather', 'scatter', 'scatter_',
                        'index_select', 'mm', 'bmm', 'addmm', 'convolution'))


def kernels(name: str, tensors: int) -> int:
    """Kernels of an operator with so many tensors."""
    if name.startswith(('_foreach', '_fused', '_amp_foreach')):
        return max(1, tensors // FOREACH)
    base = name[:-1] if name.endswith('_') and name[0] != '_' else name
    return 0 if name in FREE or base in FREE else KERNELS.get(base, 1)
