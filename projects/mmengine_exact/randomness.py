"""Random state as a pure function of (seed, iteration, rank, sample).

MMEngine stores no random state. Here none has to be stored: whatever draws
random numbers is seeded from where it stands, never from what ran before it.

Training step   ``derive_seed('step', seed, iteration, rank)``
Sample          ``derive_seed('sample', seed, position)``; the position in
                the global stream of draws tells iteration, rank and sample
Shuffle         ``derive_seed('shuffle', seed, pass over the data)``

Seeds are hashes: sums such as ``seed + iteration`` would give run 1 at
iteration 5 the numbers of run 2 at iteration 4.
"""
import hashlib
import random
from contextlib import contextmanager
from typing import Any, Iterator, Optional, Tuple, Union

import numpy as np
import torch


def derive_seed(stream: str, *key: int) -> int:
    """Seed of one place in one stream of random numbers.

    Args:
        stream (str): Name of the stream, e.g. 'step'.
        *key (int): What tells places in the stream apart.

    Returns:
        int: In ``[0, 2**63)``, independent between streams and keys.
    """
    text = '/'.join([stream, *(str(int(part)) for part in key)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little') >> 1


def _numpy_words(seed: int) -> Tuple[int, int]:
    """MT19937 of numpy takes words of 32 bits."""
    return seed & 0xFFFFFFFF, seed >> 32


def seed_generators(seed: int) -> None:
    """Seed the global generators of python, numpy and torch (GPUs too)."""
    random.seed(seed)
    np.random.seed(_numpy_words(seed))
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU generators inside, restore their former state after.

    GPU generators are left alone: this surrounds the data pipeline, which
    also runs in worker processes that must not touch a GPU.
    """
    state = (random.getstate(), np.random.get_state(), torch.get_rng_state())
    random.seed(seed)
    np.random.seed(_numpy_words(seed))
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(state[0])
        np.random.set_state(state[1])
        torch.set_rng_state(state[2])


class SeededIndex(int):
    """Index of a sample together with what was drawn with it.

    Two draws of one image (in two passes over the data, or twice in a
    batch) have one index and two seeds. ``index - n`` and ``index % n``
    keep them, because dataset wrappers (concatenate, repeat) pass on the
    index in that form.

    Args:
        index (int): Index of the sample in the dataset.
        seed (int): Seed of this draw.
        label (int, optional): Class for whose sake the sample was drawn.
    """

    seed: int
    label: Optional[int]

    def __new__(cls,
                index: int,
                seed: int,
                label: Optional[int] = None) -> 'SeededIndex':
        self = super().__new__(cls, index)
        self.seed = seed
        self.label = label
        return self

    def __reduce__(self) -> Tuple[Any, Tuple[int, int, Optional[int]]]:
        return SeededIndex, (int(self), self.seed, self.label)

    def __sub__(self, other: int) -> 'SeededIndex':
        return SeededIndex(int(self) - int(other), self.seed, self.label)

    def __mod__(self, other: int) -> 'SeededIndex':
        return SeededIndex(int(self) % int(other), self.seed, self.label)


class SeededDatasetMixin:
    """Seeds the pipeline from the index; put it before the dataset's class.

    ``class MyDataset(SeededDatasetMixin, BaseDetDataset)``. A plain index
    (evaluation, browsing) runs the pipeline as it always did. Of a sample
    that was drawn for the sake of a class, ``drawn_label`` names it while
    the pipeline runs.
    """

    drawn_label: Optional[int] = None

    def __getitem__(self, idx: Union[int, SeededIndex]) -> Any:
        seed: Optional[int] = getattr(idx, 'seed', None)
        if seed is None:
            return super().__getitem__(idx)  # type: ignore[misc]
        self.drawn_label = getattr(idx, 'label', None)
        try:
            with seeded(seed):
                return super().__getitem__(int(idx))  # type: ignore[misc]
        finally:
            self.drawn_label = None
