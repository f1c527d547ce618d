"""Functions and reports for the tests of the harness."""
import os

from benchmarks.harness import Row

MEGABYTE = 2**20


def hold(megabytes):
    """Touch so many megabytes and free them."""
    return len(bytearray(b'x' * (megabytes * MEGABYTE)))


def prepare(before, during):
    """Hold memory in making inputs, other memory in the stage itself."""
    kept = bytearray(b'x' * (before * MEGABYTE))

    def run():
        return len(kept) + hold(during)

    return run


def die():
    os._exit(9)


def refuse():
    raise ValueError('no such input')


def row(stage='merge', case='640x480', ours=2., theirs=10., **kwargs):
    return Row(stage, case, [ours], [theirs], **kwargs)


def report(*rows, **kwargs):
    """A report of one run, as benchmarks/run.py writes it."""
    return dict(
        dict(
            machine=dict(
                cpu='Abacus 9',
                cores=2,
                memory=25 * 10**9,
                system='Debian 12',
                python='3.11.7',
                gpu=None,
                torch='2.13.0',
                mmdet='3.3.0',
                mmcv=None),
            date='2026-01-31',
            revision='1234567',
            rounds=5,
            seed=0,
            runs=1,
            stages=dict(merge=dict(threads=2, seconds=3., error=None)),
            rows=[r.to_dict() for r in rows]), **kwargs)
