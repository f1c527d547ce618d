"""A pretended GPU: tensors of the CPU that play the GPU's, and are counted.

``with pretended_gpu() as gpu:`` makes ``device='cuda'`` work on a torch
without CUDA. Memory carries a tag: tensors of tagged storages say
``device == cuda:0``, so that code takes the way that it takes on a GPU, while
everything is computed by the CPU. After the block torch is as before.

Raised    :class:`MixedDevices` where an operator gets tensors of both devices,
          the TypeError of ``numpy()``, :class:`UnfinishedCopy` where the host
          reads a copy that it has not waited for
Counted   ``gpu.counted()`` gives a :class:`Ledger`, each entry by the line of
          the code that caused it:
          launches     kernels, at least: one for most operators (costs.py)
          waits        the host waits until the GPU has done all it was given:
                       item, tolist, nonzero, masks as index, blocking copies
          to, from     bytes copied to and from the GPU
          collectives  calls of torch.distributed with memory of the GPU

A copy is free of a wait where ``non_blocking`` is given: from pinned memory
the GPU fetches it, from pageable memory CUDA returns once its own pinned
buffers hold the bytes (it is the host that copies, and a large one holds it
up until earlier pieces are through: pin what is large); a copy to pageable
memory of the host waits in any case, while ``to('cpu', non_blocking=True)``
of torch makes a pinned one.

What it does not see: kernels of a GPU and their errors, memory, several
streams, threads other than the first, what operators in C++ do otherwise on a
GPU. Factories called by autograd's own formulas count as the GPU's.
"""
from .device import PretendedGpu, pretended_gpu
from .ledger import Counts, Ledger
from .tags import MixedDevices, UnfinishedCopy

__all__ = [
    'Counts', 'Ledger', 'MixedDevices', 'PretendedGpu', 'UnfinishedCopy',
    'pretended_gpu'
]
