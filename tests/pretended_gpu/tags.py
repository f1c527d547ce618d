"""Sets of storages: which memory is the GPU's, which is pinned, which waits
for a copy."""
from typing import Any, Dict, Optional

import torch
from torch.multiprocessing.reductions import StorageWeakRef

#: Entries of storages that are gone are dropped after so many new ones.
_PURGE_AFTER = 20000


class MixedDevices(RuntimeError):
    """Tensors of the CPU and of the GPU in one operator; torch raises a
    RuntimeError as well."""


class UnfinishedCopy(RuntimeError):
    """The host reads the target of a non-blocking copy before it has waited
    for the GPU: on a GPU it would read anything."""


class StorageSet:
    """Storages, without keeping them alive. A view is in it when its storage
    is."""

    def __init__(self) -> None:
        # the weak reference keeps the address from being used again
        self._refs: Dict[int, StorageWeakRef] = {}
        self._added = 0

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return bool(self._refs) and storage_key(tensor) in self._refs

    def __bool__(self) -> bool:
        return bool(self._refs)

    def add(self, tensor: torch.Tensor) -> None:
        """Add the storage of a tensor; no-op where it has none."""
        key = storage_key(tensor)
        if key is None or key in self._refs:
            return
        self._refs[key] = StorageWeakRef(tensor.untyped_storage())
        self._added += 1
        if self._added % _PURGE_AFTER == 0:
            for old in [k for k, ref in self._refs.items() if ref.expired()]:
                del self._refs[old]

    def discard(self, tensor: torch.Tensor) -> None:
        """Remove the storage of a tensor, if it is in here."""
        self._refs.pop(storage_key(tensor), None)

    def keys(self) -> list:
        """What :func:`storage_key` says of each."""
        return list(self._refs)

    def remove(self, keys: Any) -> None:
        """Remove the storages of these keys."""
        for key in keys:
            self._refs.pop(key, None)


def storage_key(tensor: torch.Tensor) -> Optional[int]:
    """Identity of a tensor's storage; None without one (sparse tensors)."""
    try:
        # data_ptr() is 0 for all empty ones
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return None
