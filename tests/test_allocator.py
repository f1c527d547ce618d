"""Freed memory that is kept: counted by the pages the system hands out."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from projects.panoptic_fpn.allocator import lazy_zeros

ROOT = Path(__file__).resolve().parents[1]
# 64 MB, above what glibc keeps by itself. The median, for what else is on the
# heap may take the place of one block, and the next one then gets new pages.
COUNT = '''
import resource, statistics, sys
import torch
from projects.panoptic_fpn.allocator import keep_freed_memory
if sys.argv[1] == 'keep' and not keep_freed_memory():
    sys.exit(77)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use():
    before = faults()
    torch.ones(2**24)
    return faults() - before
use()
print(statistics.median_low(use() for _ in range(9)))
'''


def faults(how):
    run = subprocess.run([sys.executable, '-c', COUNT, how],
                         cwd=ROOT,
                         capture_output=True,
                         text=True)
    if run.returncode == 77:
        pytest.skip('this C library has no mallopt')
    assert run.returncode == 0, run.stderr
    return int(run.stdout.split()[-1])


def test_freed_memory_is_used_again():
    kept = faults('keep')
    assert kept < 100
    assert faults('return') > 50 * max(kept, 1)


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
