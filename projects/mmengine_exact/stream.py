"""Seeded streams of random numbers and of batches that can start anywhere.

MMEngine stores no random state. Here none has to be stored: whatever draws
random numbers is seeded from its position, never from what ran before it.

Training step   ``derive_seed('step', seed, iteration, rank)``
Sample          ``derive_seed('sample', seed, position)``; the position in
                the global stream of draws gives iteration, rank and sample
Shuffle         ``derive_seed('shuffle', seed, pass over the data)``

Seeds are hashes: sums such as ``seed + iteration`` would give run 1 at
iteration 5 the numbers of run 2 at iteration 4.

Pass ``k`` over the data is a permutation drawn from (seed, k). The passes,
one after another, form the global stream; rank ``r`` of ``W`` takes its
positions ``r, r + W, r + 2W, ...`` (its draws 0, 1, 2, ...). Batch ``i`` of
a rank is therefore a function of (seed, i, r, W) and of nothing else, and
every rank has equally many batches: as many as are asked for.

``start_at`` says where a sampler begins; iterating changes nothing, so
an iterator made twice gives the same batches twice. Loader workers that
prefetch cannot spoil a state that does not exist.
"""
import hashlib
import random
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Iterator, List, Optional, Sized, Tuple, Union

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, Sampler

from .errors import RunError


def derive_seed(stream: str, *key: int) -> int:
    """Seed of one position in one stream of random numbers.

    Args:
        stream (str): Name of the stream, e.g. 'step'.
        *key (int): Position in the stream.

    Returns:
        int: In ``[0, 2**63)``, independent between streams and keys.
    """
    text = '/'.join([stream, *(str(int(part)) for part in key)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little') >> 1


def seed_generators(seed: int, gpus: bool = True) -> None:
    """Seed the global generators of python, numpy and torch."""
    random.seed(seed)
    np.random.seed((seed & 0xFFFFFFFF, seed >> 32))  # words of 32 bits
    (torch if gpus else torch.default_generator).manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU generators inside the block and restore them afterwards;
    a worker of a loader must not touch a GPU."""
    state = (random.getstate(), np.random.get_state(), torch.get_rng_state())
    seed_generators(seed, gpus=False)
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
    (evaluation, browsing) runs the pipeline unseeded. While the pipeline runs
    on a sample that was drawn for the sake of a class, ``drawn_label`` is that
    class.
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


@DATA_SAMPLERS.register_module()
class ResumableInfiniteSampler(Sampler):
    """Endless stream of :class:`SeededIndex`, split between ranks.

    Args:
        dataset (Sized): The dataset.
        shuffle (bool): New order in each pass. Defaults to True.
        seed (int, optional): The same on all ranks; drawn and shared when
            None. :class:`ResumableIterTrainLoop` sets it to the run's seed.
    """

    def __init__(self,
                 dataset: Sized,
                 shuffle: bool = True,
                 seed: Optional[int] = None) -> None:
        if len(dataset) == 0:
            raise RunError(
                'The training dataset has no image. Check ann_file, '
                'data_prefix and filter_cfg of train_dataloader.dataset.')
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else int(seed)
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.start = 0
        self.stop: Optional[int] = None

    def start_at(self,
                 draw: int,
                 stop: Optional[int] = None,
                 seed: Optional[int] = None) -> None:
        """Begin at a draw of this rank.

        Args:
            draw (int): First draw that iteration yields.
            stop (int, optional): Draw before which it ends. None: never.
            seed (int, optional): Replaces the seed of the stream.
        """
        self.start, self.stop = draw, stop
        if seed is not None:
            self.seed = int(seed)

    def order(self, epoch: int) -> np.ndarray:
        """Indices in the order of one pass, of all ranks together."""
        if not self.shuffle:
            return np.arange(self.size)
        generator = np.random.default_rng(
            derive_seed('shuffle', self.seed, epoch))
        return generator.permutation(self.size)

    def passes(self, draw: int = 0) -> Iterator[Tuple[int, np.ndarray]]:
        """This rank's share of each pass, without end.

        Args:
            draw (int): Draw at which to begin.

        Yields:
            tuple[int, ndarray]: Number of the first draw and the indices of
            it and of those after it in the same pass.
        """
        while True:
            epoch, offset = divmod(self.rank + draw * self.world_size,
                                   self.size)
            indices = self.order(epoch)[offset::self.world_size]
            yield draw, indices
            draw += len(indices)

    def tag(self, index: int, draw: int) -> SeededIndex:
        """The index with the seed that belongs to this rank's draw."""
        position = self.rank + draw * self.world_size
        return SeededIndex(
            int(index), derive_seed('sample', self.seed, position))

    def __iter__(self) -> Iterator[SeededIndex]:
        for first, indices in self.passes(self.start):
            for draw, index in enumerate(indices, first):
                if self.stop is not None and draw >= self.stop:
                    return
                yield self.tag(index, draw)

    def __len__(self) -> int:
        """Draws of a rank in one pass (the stream itself is endless)."""
        return -(-self.size // self.world_size)


@DATA_SAMPLERS.register_module()
class ResumableAspectRatioBatchSampler(BatchSampler):
    """Batches in which all images are at least as wide as high, or none is.

    The same batches as mmdet's ``AspectRatioBatchSampler`` would make from
    the same stream. Sizes are read once, so reaching a late iteration is
    arithmetic on one boolean array. A dataset may have a method
    ``aspect_flags()`` that returns that array (n, bool, True where width >=
    height); otherwise ``get_data_info`` is called for every image.

    Args:
        sampler (ResumableInfiniteSampler): The stream of draws.
        batch_size (int): Images in a batch of one rank.
        drop_last (bool): Without effect; an endless stream has no last
            batch. Defaults to False.
    """

    def __init__(self,
                 sampler: ResumableInfiniteSampler,
                 batch_size: int,
                 drop_last: bool = False) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.start = 0
        self.stop: Optional[int] = None

    def start_at(self,
                 batch: int,
                 stop: Optional[int] = None,
                 seed: Optional[int] = None) -> None:
        """Begin at a batch; see :meth:`ResumableInfiniteSampler.start_at`."""
        self.start, self.stop = batch, stop
        if seed is not None:
            self.sampler.seed = int(seed)

    @cached_property
    def flags(self) -> np.ndarray:
        """Whether each image is at least as wide as high, (n, ) bool."""
        dataset = self.sampler.dataset
        if hasattr(dataset, 'aspect_flags'):
            return np.asarray(dataset.aspect_flags(), dtype=bool)
        infos = map(dataset.get_data_info, range(len(dataset)))
        return np.array([info['width'] >= info['height'] for info in infos])

    def __iter__(self) -> Iterator[List[SeededIndex]]:
        number, size = 0, self.batch_size
        # pairs (draw, index) that wait for a full batch, portrait and not
        waiting = [np.empty((0, 2), np.int64)] * 2
        for first, indices in self.sampler.passes():
            draws = np.stack((first + np.arange(len(indices)), indices), 1)
            wide, full = self.flags[indices], []
            for side in (0, 1):
                pairs = np.concatenate((waiting[side], draws[wide == side]))
                end = len(pairs) // size * size
                full.append(pairs[:end].reshape(-1, size, 2))
                waiting[side] = pairs[end:]
            batches = np.concatenate(full)
            # in the order of the draws that complete them
            batches = batches[np.argsort(batches[:, -1, 0])]
            skipped = max(0, self.start - number)
            for index, batch in enumerate(batches[skipped:], number + skipped):
                if self.stop is not None and index >= self.stop:
                    return
                yield [self.sampler.tag(i, draw) for draw, i in batch.tolist()]
            number += len(batches)

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)
