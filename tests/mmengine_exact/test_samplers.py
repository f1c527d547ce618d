"""Batch streams against a plain loop that starts at the beginning."""
import itertools
import time

import numpy as np
import pytest
from torch.utils.data import DataLoader

from mmengine_exact import (ResumableAspectRatioBatchSampler,
                            ResumableInfiniteSampler)
from mmengine_exact.errors import RunError
from mmengine_exact.loop import start_loader_at


class Images:
    """``wide[i]`` tells the shape of image i; counts questions."""

    def __init__(self, wide):
        self.wide, self.asked = wide, 0

    def __len__(self):
        return len(self.wide)

    def get_data_info(self, index):
        self.asked += 1
        return dict(width=3, height=2 if self.wide[index] else 4)


def make(size=17, seed=3, rank=0, world=1, portion=0.7):
    wide = np.random.default_rng(1).random(size) < portion
    sampler = ResumableInfiniteSampler(Images(wide), seed=seed)
    sampler.rank, sampler.world_size = rank, world
    return sampler


def take(iterable, count):
    return list(itertools.islice(iterable, count))


def plain_batches(sampler, size):
    """mmdet's grouping as one loop from the first draw on."""
    waiting = {True: [], False: []}
    for index in sampler:
        bucket = waiting[bool(sampler.dataset.wide[index])]
        bucket.append(index)
        if len(bucket) == size:
            yield list(bucket)
            bucket.clear()


def seeds(batches):
    return [[(int(i), i.seed) for i in batch] for batch in batches]


@pytest.mark.parametrize('world', [1, 2, 3, 20])
def test_ranks_share_every_pass_without_overlap(world):
    """17 images: after 17 * world draws each rank has seen whole passes."""
    parts = [take(make(rank=rank, world=world), 17) for rank in range(world)]
    stream = [parts[p % world][p // world] for p in range(17 * world)]
    for start in range(0, len(stream), 17):
        assert sorted(stream[start:start + 17]) == list(range(17))
    alone = take(make(), 17 * world)
    assert stream == alone
    assert [i.seed for i in stream] == [i.seed for i in alone]


def test_passes_are_shuffled_differently_and_seeds_are_unique():
    stream = take(make(), 17 * 4)
    orders = {tuple(stream[i:i + 17]) for i in range(0, 68, 17)}
    assert len(orders) == 4
    assert len({i.seed for i in stream}) == 68
    assert take(make(seed=4), 17) != stream[:17]


def test_without_shuffle():
    sampler = ResumableInfiniteSampler(Images([True] * 3), False, seed=0)
    assert take(sampler, 7) == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize('world,rank', [(1, 0), (3, 2)])
@pytest.mark.parametrize('start', [0, 1, 16, 17, 40])
def test_draws_start_anywhere(world, rank, start):
    expected = take(make(rank=rank, world=world), start + 9)[start:]
    sampler = make(rank=rank, world=world)
    sampler.start_at(start, stop=start + 9)
    assert list(sampler) == expected
    assert list(sampler) == expected  # iterating changes nothing
    assert [i.seed for i in sampler] == [i.seed for i in expected]


@pytest.mark.parametrize('portion', [0, 0.1, 0.7, 1])
@pytest.mark.parametrize('world,rank', [(1, 0), (4, 3)])
@pytest.mark.parametrize('size', [1, 3, 16, 40])
def test_batches_start_anywhere(portion, world, rank, size):
    kwargs = dict(portion=portion, world=world, rank=rank)
    expected = seeds(take(plain_batches(make(**kwargs), size), 30))
    for start in (0, 1, 2, 7, 23):
        sampler = ResumableAspectRatioBatchSampler(make(**kwargs), size)
        sampler.start_at(start, stop=30)
        assert seeds(sampler) == expected[start:]
        assert seeds(sampler) == expected[start:]


def test_batches_are_those_of_mmdet():
    from mmdet.datasets.samplers import AspectRatioBatchSampler
    theirs = take(AspectRatioBatchSampler(make(), 3), 50)
    ours = take(ResumableAspectRatioBatchSampler(make(), 3), 50)
    assert seeds(ours) == seeds(theirs)


def test_a_new_seed_gives_the_stream_of_that_seed():
    sampler = ResumableAspectRatioBatchSampler(make(seed=3), 4)
    sampler.start_at(5, 9, seed=8)
    expected = take(plain_batches(make(seed=8), 4), 9)[5:]
    assert seeds(sampler) == seeds(expected)
    assert sampler.sampler.dataset.asked == 17  # each image once


def test_80k_iterations_are_skipped_at_once():
    """COCO's 118k images in batches of 16 on one process."""
    base = make(size=118_000)
    base.dataset.aspect_flags = lambda: base.dataset.wide
    sampler = ResumableAspectRatioBatchSampler(base, 16)
    sampler.start_at(80_000, 80_002)
    begin = time.process_time()
    assert len(list(sampler)) == 2
    assert time.process_time() - begin < 2
    assert base.dataset.asked == 0


def test_length_is_one_pass_of_a_rank():
    assert len(make()) == 17
    assert len(make(world=4)) == 5
    assert len(ResumableAspectRatioBatchSampler(make(world=4), 2)) == 3


def test_a_sampler_that_would_load_all_data_is_refused():
    loader = DataLoader(Images([True] * 3), batch_size=2)
    with pytest.raises(RunError, match='SequentialSampler.*Resumable'):
        start_loader_at(loader, 1, 2, seed=0)


def test_an_empty_dataset_is_named():
    with pytest.raises(ValueError, match='no image.*ann_file'):
        ResumableInfiniteSampler(Images([]))
