"""Freed memory that is kept: counted by the pages the system hands out."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmengine_exact import allocator
from mmengine_exact.allocator import lazy_zeros

# 64 MB, above what glibc keeps by itself. The median, for what else is on the
# heap may take the place of one block, and the next one then gets new pages.
COUNT = '''
import ctypes
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # no huge pages: a fault for each
import resource, statistics, sys
import allocator
import numpy as np
if sys.argv[1] == 'keep' and not allocator.keep_freed_memory():
    sys.exit(77)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use():
    before = faults()
    np.ones(2**24, np.float32)
    return faults() - before
use()
print(statistics.median_low(use() for _ in range(9)))
'''
# The large block of each batch is one page larger than that of the batch
# before, and another one stays behind it, which is never written: no hole is
# large enough for either.
HOLES = '''
import sys
import numpy as np
import allocator
if not allocator.keep_freed_memory():
    sys.exit(77)
stay, given, most = [], 0, 0
start = allocator.resident_bytes()
for number in range(100):
    size = (8 << 20) + 4096 * number
    large = np.ones(size, np.uint8)
    stay.append(np.empty(size + (2 << 20), np.uint8))
    stay[-1][:100] = number
    del large
    if sys.argv[1] == 'bound':
        given += allocator.bound_kept_memory()
    most = max(most, allocator.resident_bytes() - start)
assert (given > 0) == (sys.argv[1] == 'bound'), given
assert all((block[:100] == n).all() for n, block in enumerate(stay))
print(most >> 20)
'''


def run(code, how):
    """The number that a process of its own prints, which imports the module
    alone: what else is imported takes seconds."""
    run = subprocess.run([sys.executable, '-c', code, how],
                         cwd=os.path.dirname(allocator.__file__),
                         capture_output=True,
                         text=True)
    if run.returncode == 77:
        pytest.skip('this C library has no mallopt')
    assert run.returncode == 0, run.stderr
    return int(run.stdout.split()[-1])


def test_freed_memory_is_used_again():
    kept = run(COUNT, 'keep')
    assert kept < 100
    assert run(COUNT, 'return') > 50 * max(kept, 1)


def test_holes_do_not_add_up():
    """MB of 100 batches of 8 MB: of some tens of them, and of all."""
    assert run(HOLES, 'bound') < 400 < 750 < run(HOLES, 'keep')


LIMITED = '''
import resource
import allocator
assert not allocator.limits_addresses()
resource.setrlimit(resource.RLIMIT_AS, (1 << 40, -1))
print(int(allocator.limits_addresses() and not allocator.keep_freed_memory()
          and not allocator.bound_kept_memory()))
'''


def test_nothing_is_kept_where_addresses_are_limited():
    strict = Path('/proc/sys/vm/overcommit_memory')
    if strict.is_file() and strict.read_text().strip() == '2':
        pytest.skip('this system limits them itself')
    assert run(LIMITED, '') == 1


@pytest.mark.parametrize(
    'held, given',
    [
        ([100] * 40 + [150, 151, 151], [41]),
        # images of several sizes: the usual one is the largest
        ([100, 20, 130, 20] * 10, []),
        # what is in use grows: the bound grows with it
        ([100] * 10 + [151] * 11 + [226, 227], [10, 22]),
    ])
def test_when_memory_is_given_back(monkeypatch, held, given):
    monkeypatch.setattr(allocator, 'resident_bytes', iter(held).__next__)
    trims = []
    kept = allocator.KeptMemory()
    assert not kept.after_batch()  # nothing is kept yet
    kept.trim = trims.append
    assert [n for n in range(len(held)) if kept.after_batch()] == given
    assert trims == [0] * len(given)


@pytest.mark.parametrize('shape', [(3, 5, 7), (2, 0, 4), (0, 8, 8)])
def test_lazy_zeros(shape):
    array = lazy_zeros(shape)
    assert array.shape == shape and array.dtype == bool
    assert not array.any() and array.flags.c_contiguous
    array[...] = True
    other = lazy_zeros(shape)
    assert array.all() and not other.any()


def test_lazy_zeros_outlive_their_names_and_are_no_memory_of_forks():
    array = lazy_zeros((4, 1 << 20))[1:]
    child = os.fork()
    if not child:
        array[...] = True
        os._exit(0)
    os.waitpid(child, 0)
    assert not array.any()
