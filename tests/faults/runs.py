"""Toy runs that something happens to, and the count of what became of them."""
import ctypes
import os
import pickle
import traceback
from contextlib import contextmanager

import pytest

from mmengine_exact import latest_checkpoint, read_checkpoint
from tests.mmengine_exact import toy

ITERATIONS = 20
#: A checkpoint is written during much of the time.
OPTIONS = dict(
    max_iters=ITERATIONS,
    interval=2,
    keep=2,
    validate=True,
    custom_hooks=[
        dict(type='NonFiniteLossHook'),
        dict(type='MetricsJsonHook'),
        dict(type='PreemptionHook')
    ])


class Run(toy.Run):
    """A toy run with ``OPTIONS``."""

    def __init__(self, folder, world=1, fault=None, out=None, **options):
        super().__init__(folder, world, fault, out, **{**OPTIONS, **options})


def checkpoint_of(folder):
    """Iteration of the last checkpoint, which must be whole; 0 for none."""
    path = latest_checkpoint(str(folder))
    return read_checkpoint(path)['meta']['iter'] if path else 0


def assert_same_end(folder, reference):
    found = toy.final_state(folder, ITERATIONS)
    wanted = toy.final_state(reference, ITERATIONS)
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert toy.same(found[key], wanted[key]), key
    rates = [
        one['message_hub']['log_scalars']['train/lr']
        for one in (found, wanted)
    ]
    assert toy.same(*rates)
    assert found['meta']['iter'] == wanted['meta']['iter'] == ITERATIONS
    hubs = [one['message_hub']['runtime_info'] for one in (found, wanted)]
    assert hubs[0]['best_score'] == hubs[1]['best_score']
    assert not list(folder.glob('.*.part'))


def assert_all_whole(folder):
    """No torn file has the name of a checkpoint."""
    for path in folder.glob('*.pth'):
        read_checkpoint(str(path))


def resume(folder, reference, world=1, **options):
    """Resume without a fault and compare the end."""
    run = Run(folder, world, resume=True, **options)
    codes = run.end(120)
    assert codes == [0] * world, run.output()[-3000:]
    assert_same_end(folder, reference)


class Tally:
    """Counts of one kind of fault.

    Args:
        fault (str): Its name in the table.
    """

    def __init__(self, fault):
        self.fault = fault
        self.tried = self.lost = self.hung = 0
        self.notes, self.seen = [], {}

    @contextmanager
    def point(self, where):
        """One moment at which the fault strikes."""
        self.tried += 1
        try:
            yield
        except toy.Hang as error:
            self.hung += 1
            self.notes.append(f'{where}: {error}')
        except AssertionError as error:
            self.lost += 1
            self.notes.append(f'{where}: {error}')

    def saw(self, what):
        self.seen[what] = self.seen.get(what, 0) + 1

    def end(self):
        """Print the row; all must have survived."""
        survived = self.tried - self.lost - self.hung
        seen = ', '.join(f'{n} x {what}' for what, n in self.seen.items())
        print(f'\nfault | tried | survived | lost | hung\n{self.fault} | '
              f'{self.tried} | {survived} | {self.lost} | {self.hung}'
              f'{"  (" + seen + ")" if seen else ""}')
        assert not self.notes, '\n'.join(self.notes[:5])


def on_small_disk(folder, size, work):
    """Do work where a folder is a disk of so many bytes, in a process of its
    own that alone sees it.

    Args:
        folder (Path): Becomes the disk; what is on it vanishes in the end.
        size (int): Bytes.
        work (Callable): Its result is pickled.

    Returns:
        The result of ``work``; skips where nobody may mount.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(ours)
        result = (False, None)
        try:
            if _mount(folder, size):
                result = (True, work())
        except BaseException:
            result = (True, traceback.format_exc())
        with os.fdopen(theirs, 'wb') as pipe:
            pickle.dump(result, pipe)
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, 'rb') as pipe:
        mounted, found = pickle.load(pipe)
    os.waitpid(pid, 0)
    assert not isinstance(found, str), found
    if not mounted:
        pytest.skip('a small disk can only be mounted by root')
    return found


def fill(folder, room):
    """Write a file that leaves ``room`` bytes of a disk."""
    disk = os.statvfs(folder)
    size = disk.f_bavail * disk.f_bsize - room
    with open(folder / 'ballast', 'wb') as file:
        os.posix_fallocate(file.fileno(), 0, max(1, size))


def _mount(folder, size):
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, recursive, private = 0x20000, 0x4000, 1 << 18
    if libc.unshare(new_namespace):
        return False
    libc.mount(None, b'/', None, recursive | private, None)
    return not libc.mount(b'none', os.fsencode(folder), b'tmpfs', 0,
                          f'size={size}'.encode())
