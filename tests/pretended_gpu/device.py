"""The pretended GPU: its memory, what is counted, how it comes and goes."""
from contextlib import ExitStack, contextmanager
from typing import Any, Iterator, Optional, Sequence

import torch

from .ledger import Ledger, caller
from .tags import StorageSet, UnfinishedCopy

CUDA, CPU = torch.device('cuda', 0), torch.device('cpu')
#: Of all pretended GPUs of a process: what a module has cached for a device
#: is there when the next one comes.
_MEMORY = StorageSet()


class PretendedGpu:
    """State of a pretended GPU.

    Attributes:
        memory (StorageSet): What is the GPU's.
        pinned (StorageSet): Memory of the host that the GPU may fetch from.
        pending (StorageSet): Targets of copies to the host that nobody has
            waited for.
        ledger (Ledger): All that was counted.
    """

    def __init__(self) -> None:
        self.memory = _MEMORY
        self.pinned, self.pending = StorageSet(), StorageSet()
        self.ledger = Ledger()
        self.launched = 0
        #: Where factories put their tensors while one is called.
        self.target: Optional[torch.device] = None
        #: Depth of backward passes with memory of the GPU.
        self.backward = 0
        self.silent = 0

    def has(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is the GPU's."""
        return tensor in self.memory

    def place(self, tensor: Any, on_gpu: bool = True) -> Any:
        """Make a tensor's storage the GPU's, or the CPU's, as it is."""
        if isinstance(tensor, torch.Tensor):
            (self.memory.add if on_gpu else self.memory.discard)(tensor)
        return tensor

    @contextmanager
    def counted(self) -> Iterator[Ledger]:
        """A ledger of what happens inside; ``ledger`` has it afterwards."""
        before, self.ledger = self.ledger, Ledger()
        try:
            yield self.ledger
        finally:
            before.update(self.ledger)
            self.ledger = before

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Count nothing inside."""
        self.silent += 1
        try:
            yield
        finally:
            self.silent -= 1

    @contextmanager
    def creating(self, on_gpu: bool) -> Iterator[None]:
        """Factories inside make tensors of this device."""
        before, self.target = self.target, CUDA if on_gpu else CPU
        try:
            yield
        finally:
            self.target = before

    @contextmanager
    def on_host(self, tensors: Sequence[torch.Tensor]) -> Iterator[None]:
        """These are the CPU's inside, for an operator in Python."""
        own = [tensor for tensor in tensors if self.has(tensor)]
        for tensor in own:
            self.place(tensor, False)
        try:
            yield
        finally:
            for tensor in own:
                self.place(tensor)

    @contextmanager
    def differentiating(self, tensor: torch.Tensor) -> Iterator[None]:
        """Factories of autograd's own formulas make tensors like this one."""
        on_gpu = self.has(tensor)
        self.backward += on_gpu
        try:
            yield
        finally:
            self.backward -= on_gpu

    def launch(self, operator: str, number: int = 1) -> None:
        """The GPU is given so many kernels."""
        if number and not self.silent:
            self.launched += number
            self.ledger.launches[caller(operator)] += number

    def wait(self, operator: str, number: int = 1) -> None:
        """The host waits until the GPU has done all it was given."""
        self.pending = StorageSet()
        if not self.silent:
            self.ledger.waits[caller(operator)] += number

    def copied(self, nbytes: int, to_gpu: bool, waits: bool) -> None:
        """Bytes went from one to the other, and perhaps the host waited."""
        name = 'copy to the GPU' if to_gpu else 'copy from the GPU'
        if not self.silent:
            side = self.ledger.to_gpu if to_gpu else self.ledger.from_gpu
            side[caller(name)] += nbytes
        if waits:
            self.wait(name)

    def require_finished(self, *tensors: torch.Tensor) -> None:
        """Require that no copy into these is pending; UnfinishedCopy."""
        if self.pending and any(t in self.pending for t in tensors):
            raise UnfinishedCopy(
                'The host reads the target of a non-blocking copy from the '
                'GPU before it has waited for it, for instance through '
                f'torch.cuda.Event, @ {caller("read")}')


@contextmanager
def pretended_gpu() -> Iterator[PretendedGpu]:
    """A GPU for the code inside, none afterwards.

    CUDA's autocast is emulated. Tensors that outlive the block are the CPU's
    until there is a pretended GPU again.
    """
    from .functions import Functions
    from .operators import Operators
    from .patches import patches
    gpu = PretendedGpu()
    with ExitStack() as stack:
        for patch in patches(gpu):
            stack.enter_context(patch)
        stack.enter_context(Functions(gpu))
        stack.enter_context(Operators(gpu))
        yield gpu
