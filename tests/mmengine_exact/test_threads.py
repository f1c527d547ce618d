"""Threads of torch beside other processes."""
import os
import sys
from threading import Lock, Thread

import psutil
import pytest
import torch

from mmengine_exact.threads import fit_threads

from . import toy


@pytest.fixture(name='cores')
def _cores(monkeypatch):
    """Four threads; loads of four cores in percent, to be set."""
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    threads = torch.get_num_threads()
    loads = [0.] * 4
    monkeypatch.setattr(psutil, 'cpu_percent', lambda *_, **__: loads)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {0, 1, 2, 3})
    torch.set_num_threads(4)
    yield loads
    torch.set_num_threads(threads)


@pytest.mark.parametrize('loads, expected', [
    ([3, 0, 2, 1], 4),
    ([100, 4, 0, 0], 3),
    ([70, 60, 80, 10], 2),
    ([100, 100, 100, 98], 1),
])
def test_as_many_threads_as_cores_are_free(cores, capfd, loads, expected):
    cores[:] = loads
    fit_threads()
    assert torch.get_num_threads() == expected
    said = f'Threads: {expected} instead of 4' in capfd.readouterr().out
    assert said == (expected < 4)


def test_only_cores_that_the_process_may_use_count(cores, monkeypatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {1, 2})
    cores[:] = [0, 100, 3, 0]
    fit_threads()
    assert torch.get_num_threads() == 1


def test_a_number_that_is_given_counts(cores, monkeypatch):
    cores[:] = [100] * 4
    fit_threads(3)  # as a run began
    assert torch.get_num_threads() == 3
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    fit_threads()
    fit_threads(2)
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize('randomness, resume, expected', [
    (dict(seed=5), False, 3),
    (dict(seed=5), True, 3),
    (dict(seed=5, deterministic=True), False, 4),
])
def test_a_run_that_begins_takes_free_cores(cores, tmp_path, randomness,
                                            resume, expected):
    """Also where there is nothing to resume."""
    cores[:] = [100, 0, 0, 0]
    assert toy.run(tmp_path, randomness=randomness, resume=resume) == [0]
    assert toy.final_state(tmp_path)['meta']['threads'] == expected


@pytest.mark.parametrize('saved, expected', [(3, 3), (9, 4)])
def test_a_resumed_run_keeps_its_threads(cores, tmp_path, saved, expected):
    """Its sums have the bits of the run that it continues; never more than
    there are cores."""
    assert toy.run(tmp_path, kill_at=13) != [0]
    state = toy.final_state(tmp_path, 10)
    assert state['meta']['threads'] == 4
    state['meta']['threads'] = saved
    torch.save(state, tmp_path / 'iter_10.pth')
    assert toy.run(tmp_path, resume=True) == [0]
    assert toy.final_state(tmp_path)['meta']['threads'] == expected


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason='a child renews its locks first')
def test_threads_of_a_process_group_take_the_gil_before_a_fork(monkeypatch):
    """Python before 3.12: a child that is forked beside one hangs."""
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    interval, wanted, taken = sys.getswitchinterval(), Lock(), []

    def take():
        with wanted:
            taken.append(True)

    wanted.acquire()
    thread = Thread(target=take)
    thread.start()
    sys.setswitchinterval(60)  # until it waits, this thread keeps the GIL
    try:
        wanted.release()
        pid = os.fork()
        if not pid:
            os._exit(len(taken))
    finally:
        sys.setswitchinterval(interval)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
