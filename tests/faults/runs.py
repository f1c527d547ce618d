"""Toy runs that something happens to, and the count of what became of them.

A run is a fork for each process, started as ``tools/train.py`` starts it:
errors are one line and an exit code.
"""
import ctypes
import os
import pickle
import re
import signal
import sys
import time
import traceback
from contextlib import contextmanager

from mmengine_exact import latest_checkpoint, read_checkpoint, run_to_exit_code
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
#: Seconds after which processes that should have ended count as hanging.
PATIENCE = 60
#: Seconds after which those that outlive a failed process are ended, as
#: torchrun and srun end them.
GRACE = 15
#: Exit code of a process that showed a traceback instead of a message.
TRACEBACK = 70


class Hang(AssertionError):
    """Processes did not end."""


def _child(rank, world, port, options, fault, out):
    out = open(out / f'out_{rank}.txt', 'w', buffering=1)
    sys.stdout = sys.stderr = out
    os.dup2(out.fileno(), 1)
    os.dup2(out.fileno(), 2)
    if world > 1:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(world),
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=str(port))
        options = dict(options, launcher='pytorch')
    try:
        if fault is not None:
            fault(rank)
        code = run_to_exit_code(lambda: toy.PanopticRunner.from_cfg(
            toy.toy_config(**options)).train())
    except BaseException:
        traceback.print_exc()
        code = TRACEBACK
    os._exit(code)


class Run:
    """Processes that train together, each a fork of this one.

    Args:
        folder (Path): Work directory; also gets ``out_RANK.txt``.
        world (int): Number of processes.
        fault (Callable, optional): Called with the rank before training.
        out (Path, optional): For ``out_RANK.txt`` instead.
        **options: Of ``toy_config``, over ``OPTIONS``.
    """

    def __init__(self, folder, world=1, fault=None, out=None, **options):
        folder.mkdir(exist_ok=True, parents=True)
        self.out, self.world = out or folder, world
        port = toy.free_port()
        self.codes, self.pids = {}, {}
        for rank in range(world):
            pid = os.fork()
            if not pid:
                _child(rank, world, port, {
                    **OPTIONS, 'work_dir': str(folder),
                    **options
                }, fault, self.out)
            self.pids[rank] = pid

    def wait(self, seconds):
        """Whether all have ended within so many seconds."""
        end, failed = time.monotonic() + seconds, None
        while True:
            for rank, pid in list(self.pids.items()):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    del self.pids[rank]
                    self.codes[rank] = os.waitstatus_to_exitcode(status)
            if failed is None and any(self.codes.values()):
                failed = time.monotonic()
            if failed is not None and time.monotonic() > failed + GRACE:
                self.kill(signal.SIGKILL)
            if not self.pids or time.monotonic() > end:
                return not self.pids
            time.sleep(0.005)

    def kill(self, number, rank=None):
        for mine, pid in self.pids.items():
            if rank in (None, mine):
                os.kill(pid, number)

    def end(self, seconds=PATIENCE):
        """Exit codes by rank.

        Raises:
            Hang: Not all ended in time; they are killed.
        """
        if not self.wait(seconds):
            ranks = sorted(self.pids)
            self.kill(signal.SIGKILL)
            self.wait(10)
            raise Hang(f'ranks {ranks} hang: {self.output(ranks[0])[-800:]}')
        return [self.codes[rank] for rank in range(self.world)]

    def output(self, rank=0):
        return (self.out / f'out_{rank}.txt').read_text()

    def message(self, rank=0):
        """The one line that a failed process ends with."""
        text = self.output(rank)
        # torch ends its words about a segmentation fault with a zero byte
        found = re.findall(r'^\0?(?:\[rank \d\] )?error: (.*)$', text, re.M)
        assert len(found) == 1, text[-2000:]
        assert 'Traceback (most recent' not in text, text[-3000:]
        return found[0]


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
    codes = run.end(2 * PATIENCE)
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
        except Hang as error:
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
        work (Callable): Its result must be plain.

    Returns:
        The result of ``work``, or None where nobody may mount.
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
    return found if mounted else None


def _mount(folder, size):
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, recursive, private = 0x20000, 0x4000, 1 << 18
    if libc.unshare(new_namespace):
        return False
    libc.mount(None, b'/', None, recursive | private, None)
    return not libc.mount(b'none', os.fsencode(folder), b'tmpfs', 0,
                          f'size={size}'.encode())
