"""Endless batch streams that can start anywhere without loading data.

Pass ``k`` over the data is a permutation drawn from (seed, k). The passes,
one after another, form the global stream; rank ``r`` of ``W`` takes its
positions ``r, r + W, r + 2W, ...`` (its draws 0, 1, 2, ...). Batch ``i`` of
a rank is therefore a function of (seed, i, r, W) and of nothing else, and
every rank has equally many batches: as many as are asked for.

``start_at`` tells a sampler where to begin; iterating changes nothing, so
an iterator made twice gives the same batches twice. Loader workers that
prefetch cannot spoil a state that does not exist.
"""
from typing import Any, Dict, Iterator, List, Optional, Sized, Tuple

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, Sampler

from .randomness import SeededIndex, derive_seed


@DATA_SAMPLERS.register_module()
class ResumableInfiniteSampler(Sampler):
    """Endless stream of :class:`SeededIndex`, cut between ranks.

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
            raise ValueError(
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
class ClassUniformInfiniteSampler(ResumableInfiniteSampler):
    """Endless stream in which all classes occur about equally often.

    Each draw is a class, uniformly, and then one of the images in which it
    occurs, uniformly; ``PanopticRandomCrop(bootstrap=True)`` crops around
    the class ('crop bootstrapping', section 4.1; see there for the
    reading). A pass draws as many images as there are, with replacement.

    Args:
        As :class:`ResumableInfiniteSampler`; ``shuffle`` must stay True. An
        entry of the dataset's ``get_data_info`` has ``segments_info``.
    """

    def __init__(self,
                 dataset: Sized,
                 shuffle: bool = True,
                 seed: Optional[int] = None) -> None:
        super().__init__(dataset, shuffle, seed)
        if not shuffle:
            raise ValueError('ClassUniformInfiniteSampler draws at random. '
                             'Leave shuffle out, or take '
                             'ResumableInfiniteSampler.')
        self._images: Optional[Dict[int, np.ndarray]] = None
        self._pass: Tuple[Any, Any] = (None, None)

    @property
    def images(self) -> Dict[int, np.ndarray]:
        """Indices of the images of each class that occurs, by label."""
        if self._images is None:
            self._images = images_of_classes(self.dataset)
        return self._images

    def draws(self, epoch: int) -> Tuple[np.ndarray, np.ndarray]:
        """Indices and labels of one pass, of all ranks together."""
        key = (self.seed, epoch)
        if self._pass[0] != key:
            generator = np.random.default_rng(
                derive_seed('shuffle', self.seed, epoch))
            known = sorted(self.images)
            labels = generator.choice(known, self.size)
            indices = np.array(
                [generator.choice(self.images[label]) for label in labels])
            self._pass = (key, (indices, labels))
        return self._pass[1]

    def order(self, epoch: int) -> np.ndarray:
        return self.draws(epoch)[0]

    def tag(self, index: int, draw: int) -> SeededIndex:
        epoch, offset = divmod(self.rank + draw * self.world_size, self.size)
        tagged = super().tag(index, draw)
        tagged.label = int(self.draws(epoch)[1][offset])
        return tagged


def images_of_classes(dataset: Any) -> Dict[int, np.ndarray]:
    """Which images each class occurs in.

    Args:
        dataset (Any): With ``__len__`` and ``get_data_info``.

    Returns:
        dict[int, np.ndarray]: Label -> int64 indices, ascending.

    Raises:
        ValueError: No image has a segment.
    """
    found: Dict[int, List[int]] = {}
    for index in range(len(dataset)):
        segments = dataset.get_data_info(index)['segments_info'] or []
        for label in {segment['category'] for segment in segments}:
            found.setdefault(label, []).append(index)
    if not found:
        raise ValueError('ClassUniformInfiniteSampler: no image of the '
                         'training dataset has a segment. Check its '
                         'annotations.')
    return {label: np.array(indices) for label, indices in found.items()}


class _Buckets:
    """Draws that wait for a full batch, landscape and portrait apart."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.waiting: Tuple[List[Any], List[Any]] = ([], [])

    def add(self, wide: bool, item: Any) -> Optional[List[Any]]:
        """Put one draw in; return the batch that it completes, if any."""
        bucket = self.waiting[int(wide)]
        bucket.append(item)
        if len(bucket) < self.batch_size:
            return None
        batch = bucket[:]
        del bucket[:]
        return batch

    def completed_by(self, wide: np.ndarray) -> int:
        """How many batches these draws would complete."""
        num_wide = int(wide.sum())
        counts = (len(wide) - num_wide, num_wide)
        return sum((len(bucket) + count) // self.batch_size
                   for bucket, count in zip(self.waiting, counts))

    def skip(self, wide: np.ndarray, first: int, indices: np.ndarray) -> None:
        """Put many draws in and forget the batches they complete."""
        for side, bucket in enumerate(self.waiting):
            chosen = np.flatnonzero(wide == bool(side))
            left = (len(bucket) + len(chosen)) % self.batch_size
            bucket.extend((first + i, indices[i])
                          for i in chosen[max(0,
                                              len(chosen) - left):].tolist())
            del bucket[:len(bucket) - left]


@DATA_SAMPLERS.register_module()
class ResumableAspectRatioBatchSampler(BatchSampler):
    """Batches of images that are all at least as wide as high, or none is.

    The same batches as mmdet's ``AspectRatioBatchSampler`` would make from
    the same stream. Sizes are read once, so reaching a late iteration is
    arithmetic on one boolean array. A dataset may have a method
    ``aspect_flags()`` that returns that array (n, bool, True where width >=
    height); otherwise ``get_data_info`` of every image is asked.

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
        if not isinstance(sampler, ResumableInfiniteSampler):
            raise TypeError('ResumableAspectRatioBatchSampler needs sampler='
                            "dict(type='ResumableInfiniteSampler'), but got "
                            f'{type(sampler).__name__}.')
        super().__init__(sampler, batch_size, drop_last)
        self.start = 0
        self.stop: Optional[int] = None
        self._flags: Optional[np.ndarray] = None

    def start_at(self,
                 batch: int,
                 stop: Optional[int] = None,
                 seed: Optional[int] = None) -> None:
        """Begin at a batch; see :meth:`ResumableInfiniteSampler.start_at`."""
        self.start, self.stop = batch, stop
        if seed is not None:
            self.sampler.seed = int(seed)

    @property
    def flags(self) -> np.ndarray:
        """Whether each image is at least as wide as high, (n, ) bool."""
        if self._flags is None:
            self._flags = aspect_flags(self.sampler.dataset)
        return self._flags

    def __iter__(self) -> Iterator[List[SeededIndex]]:
        batch_index = 0
        buckets = _Buckets(self.batch_size)
        for first, indices in self.sampler.passes():
            wide = self.flags[indices]
            completed = buckets.completed_by(wide)
            if batch_index + completed <= self.start:
                buckets.skip(wide, first, indices)
                batch_index += completed
                continue
            for flag, item in zip(wide.tolist(), enumerate(indices, first)):
                batch = buckets.add(flag, item)
                if batch is None:
                    continue
                if self.stop is not None and batch_index >= self.stop:
                    return
                if batch_index >= self.start:
                    yield [self.sampler.tag(i, draw) for draw, i in batch]
                batch_index += 1

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)


def aspect_flags(dataset: Any) -> np.ndarray:
    """Whether each image is at least as wide as high, (n, ) bool."""
    if hasattr(dataset, 'aspect_flags'):
        return np.asarray(dataset.aspect_flags(), dtype=bool)
    flags = np.empty(len(dataset), dtype=bool)
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        flags[index] = info['width'] >= info['height']
    return flags
