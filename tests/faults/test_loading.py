"""Files that become unreadable in mid-epoch, and workers that die.

What was trained until then is saved: with the fault mended, the run ends with
the bits of one that had none, and no iteration is trained twice.
"""
import ctypes
import errno
import os
import random
import signal

import pytest
from mmengine.fileio import LocalBackend

from mmengine_exact.errors import CorruptFileError
from mmengine_exact.files import read_bytes
from mmengine_exact.loop import WatchedBatches
from tests.mmengine_exact import toy

from .runs import (ITERATIONS, Run, Tally, assert_all_whole, checkpoint_of,
                   resume)

BATCH = 4
#: Files, and twice the workers, of each kind.
POINTS = 20
#: Far apart: what was not saved in between would be lost.
RARE = dict(interval=10, custom_hooks=[dict(type='NonFiniteLossHook')])


def with_files(folder, workers=0):
    """A loader of samples that each read a file first."""
    (folder / 'files').mkdir(parents=True)
    for index in range(23):
        (folder / 'files' / f'{index}.bin').write_bytes(b'whole')
    return dict(num_workers=workers, **RARE), folder / 'files'


def at_read(at, strike, files=None):
    """Before the ``at``-th sample that a process reads for training something
    happens; samples read a file first where there is a folder of them."""

    def fault(rank):
        get, count = toy._Reads.__getitem__, [0]

        def patched(self, index):
            path = files and files / f'{int(index)}.bin'
            count[0] += self.noise
            if count[0] == at and self.noise:
                strike(path)
            if files and read_bytes(str(path), 'image', None) != b'whole':
                raise CorruptFileError(f'{path}: cannot be decoded.')
            return get(self, index)

        toy._Reads.__getitem__ = patched

    return fault


def remove(path):
    path.unlink()


def truncate(path):
    path.write_bytes(b'')


def to_folder(path):
    path.unlink()
    path.mkdir()


def broken_disk(path):
    """EIO, for this process."""
    real = LocalBackend.get

    def get(self, name):
        if str(name) == str(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(name))
        return real(self, name)

    LocalBackend.get = get


def mend(files):
    for index in range(23):
        path = files / f'{index}.bin'
        if path.is_dir():
            path.rmdir()
        path.write_bytes(b'whole')


def strike(tally, folder, whole, damage, at, world=1, workers=0, mine=0):
    options, files = with_files(folder, workers)
    fault, other = at_read(at, damage, files), at_read(0, None, files)
    run = Run(
        folder,
        world,
        fault=lambda rank: (fault if rank == mine else other)(rank),
        **options)
    with tally.point(f'{damage.__name__} at read {at}'):
        assert run.end() == [1] * world, run.codes
        for rank in range(world):
            assert str(files) in run.message(rank), run.message(rank)
        saved = checkpoint_of(folder)
        # batches before that of the file were all trained on, and saved
        exact = (at - 1) // BATCH
        tally.saw(f'rank {mine}' if world > 1 else 'saved')
        if workers == 0:
            assert saved == exact, (saved, exact)
        assert_all_whole(folder)
        mend(files)
        resume(folder, whole, world, fault=other, **options)


KINDS = (remove, truncate, to_folder, broken_disk)


def test_an_unreadable_file(reference, tmp_path):
    whole, _ = reference(**RARE)
    tally = Tally('unreadable file')
    strike(tally, tmp_path / 'run', whole, to_folder, 30)
    assert not tally.notes, tally.notes


@pytest.mark.slow
@pytest.mark.parametrize('world', [1, 2])
@pytest.mark.parametrize('workers', [0, 2])
def test_unreadable_files(reference, tmp_path, world, workers):
    whole, _ = reference(world, **RARE)
    draw = random.Random(world + workers)
    tally = Tally(f'unreadable file, {world} processes, {workers} workers')
    # each worker counts its own reads
    reads = ITERATIONS * BATCH // max(1, workers)
    for number in range(POINTS):
        strike(tally, tmp_path / str(number), whole, KINDS[number % 4],
               draw.randrange(1, reads), world, workers, draw.randrange(world))
    tally.end()


def by_signal(_):
    os.kill(os.getpid(), signal.SIGKILL)


def by_exit(_):
    os._exit(3)


def by_segfault(_):
    ctypes.string_at(0)


def assert_worker_died(run, folder, whole, world=1):
    assert run.end() == [1] * world, run.codes
    for rank in range(world):
        assert 'process that loads images died' in run.message(rank)
    saved = checkpoint_of(folder)
    assert_all_whole(folder)
    resume(folder, whole, world, num_workers=2, **RARE)
    return saved


def test_a_dead_worker(reference, tmp_path):
    whole, _ = reference(**RARE)
    run = Run(tmp_path, fault=at_read(24, by_signal), num_workers=2, **RARE)
    # a worker is two batches ahead at most
    assert assert_worker_died(run, tmp_path, whole) >= 6


def test_a_batch_that_is_under_way_arrives_first():
    """Else another worker would be left in the middle of handing it over."""

    def dead(number, frame):
        raise RuntimeError('DataLoader worker (pid 7) is killed')

    def batches():
        yield 1
        os.kill(os.getpid(), signal.SIGCHLD)
        yield 2
        raise EOFError('of a file that a worker took with it')

    before = signal.signal(signal.SIGCHLD, dead)
    try:
        watched = WatchedBatches(batches())
        assert [next(watched), next(watched)] == [1, 2]
        with pytest.raises(RuntimeError, match='pid 7'):
            next(watched)
        watched.close()
        assert signal.getsignal(signal.SIGCHLD) is dead
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.slow
@pytest.mark.parametrize('world', [1, 2])
@pytest.mark.parametrize('how', [by_signal, by_exit, by_segfault])
def test_dead_workers(reference, tmp_path, how, world):
    whole, _ = reference(world, **RARE)
    draw = random.Random(how.__name__)
    tally = Tally(f'dead worker {how.__name__}, {world} processes')
    for number in range(POINTS // 2):
        at = draw.randrange(1, ITERATIONS * BATCH // 2)
        mine = draw.randrange(world)
        fault = at_read(at, how)
        folder = tmp_path / str(number)
        run = Run(
            folder,
            world,
            fault=lambda rank: fault(rank) if rank == mine else None,
            num_workers=2,
            **RARE)
        with tally.point(f'read {at}'):
            saved = assert_worker_died(run, folder, whole, world)
            tally.saw('something saved' if saved else 'nothing to save')
    tally.end()
