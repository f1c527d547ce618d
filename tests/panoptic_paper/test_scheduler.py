"""Steps are carried out by a runner that starts nothing."""
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from panoptic_paper import PaperError
from panoptic_paper.processes import (Machine, last_line, lock_beside, machine,
                                      versions)
from panoptic_paper.run import read_record
from panoptic_paper.scheduler import _advice, carry_out
from panoptic_paper.steps import Step

from .fakes import FakeRunner


def chain(folder, *names, needs=()):
    """A training and an evaluation for each name."""
    steps = []
    for name in names:
        here = folder / name
        train = Step('train', name, Path('c.py'), ('train', name),
                     here / 'iter_9.pth', here / 'train.log', tuple(needs),
                     dict(seed=1))
        test = Step('test', name, Path('c.py'), ('test', name),
                    here / 'test' / 'metrics.json', here / 'test.log',
                    (train.output, ))
        steps += [train, test]
    return steps


def carry(steps, jobs=1, **kwargs):
    runner, said = FakeRunner(steps, **kwargs), []
    failures = carry_out(steps, runner, jobs, said.append, pause=0.)
    return runner, failures, said


def test_everything_in_order(tmp_path):
    steps = chain(tmp_path, 'a', 'b')
    runner, failures, said = carry(steps)
    assert failures == []
    assert runner.started == ['a train', 'a test', 'b train', 'b test']
    assert all(step.output.exists() for step in steps)
    assert said[0] == '4 steps to do.'
    assert sum(line.startswith('start ') for line in said) == 4
    assert sum(line.startswith('done ') for line in said) == 4
    record = read_record(tmp_path / 'a')
    assert record['seed'] == 1 and 'torch' in record['versions']


def test_a_second_call_has_nothing_to_do(tmp_path):
    steps = chain(tmp_path, 'a', 'b')
    carry(steps)
    runner, failures, said = carry(steps)
    assert runner.started == [] and failures == []
    assert said == ['0 steps to do, 4 of 4 are finished or not needed.']


def test_continues_where_it_was_cut_off(tmp_path):
    steps = chain(tmp_path, 'a', 'b')
    steps[0].output.parent.mkdir()
    steps[0].output.touch()
    runner, _, _ = carry(steps)
    assert runner.started == ['a test', 'b train', 'b test']


def test_a_failure_does_not_stop_the_others(tmp_path):
    steps = chain(tmp_path, 'a', 'b')
    merged = Step('test', 'x2', Path('c.py'), ('x2', ), tmp_path / 'x2.json',
                  tmp_path / 'x2' / 'test.log',
                  (steps[0].output, steps[2].output))
    runner, failures, said = carry([*steps, merged], failing=['a'])
    assert runner.started == ['a train', 'b train', 'b test']
    assert [failure.step
            for failure in failures] == [steps[0], steps[1], merged]
    assert failures[0].reason == 'exit code 1: error: c.py: lr is 0. Set it.'
    assert all('iter_9.pth, which failed' in f.reason for f in failures[1:])
    assert sum(line.startswith('failed ') for line in said) == 3


def test_exit_code_0_without_output_is_a_failure(tmp_path):
    _, failures, _ = carry(chain(tmp_path, 'a'), silent=['a'])
    assert failures[0].reason.startswith(f'no {tmp_path}/a/iter_9.pth')


def test_jobs_run_side_by_side(tmp_path):
    steps = chain(tmp_path, *'abcd')
    runner, failures, _ = carry(steps, jobs=2, looks=3)
    assert failures == [] and runner.most == 2
    assert set(runner.slots) == {0, 1}
    position = runner.started.index
    assert all(position(f'{n} train') < position(f'{n} test') for n in 'abcd')


def test_what_is_left_is_estimated_from_what_was_done(tmp_path):
    """Trainings take 100 s and evaluations 10 s: after the first of each, one
    of each is left."""
    steps, now = chain(tmp_path, 'a', 'b'), [0.]
    runner, said = FakeRunner(steps), []

    def start(command, *args):
        process = runner(command, *args)
        now[0] += 100 if command[0] == 'train' else 10
        return process

    carry_out(steps, start, 1, said.append, lambda: now[0], pause=0.)
    done = [line for line in said if line.startswith('done')]
    assert 'in 1:40; 1 of 4, 1:40 gone' in done[0] and 'left' not in done[0]
    assert done[1].endswith('2 of 4, 1:50 gone, about 1:50 left')
    assert done[3].endswith('4 of 4, 3:40 gone, about 0:00 left')


def test_a_refused_step_is_one_failure_and_nothing_stands_on_it(tmp_path):
    steps = chain(tmp_path, 'a', 'b')
    steps[0] = replace(steps[0], refused='a/seed-0 was run with another')
    for step in (steps[0], steps[3]):
        step.output.parent.mkdir(parents=True)
        step.output.write_text('{}')
    runner, failures, said = carry(steps)
    assert runner.started == []
    assert [f.reason for f in failures] == [
        'a/seed-0 was run with another',
        f'needs {steps[0].output}, which failed'
    ]
    steps[1].output.parent.mkdir()
    steps[1].output.write_text('{}')  # also what is finished is refused
    assert len(carry(steps)[1]) == 1


def test_two_calls_do_not_train_the_same_run(tmp_path):
    steps = chain(tmp_path, 'a')
    (tmp_path / 'a').mkdir()
    with lock_beside(steps[0].log):
        runner, failures, _ = carry(steps)
        assert runner.started == []
        assert failures[0].reason == (f'another process is at {tmp_path}/a: '
                                      'wait for it to end')
    runner, failures, _ = carry(steps)
    assert len(runner.started) == 2 and failures == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'a').touch()
    runner, failures, _ = carry(chain(tmp_path, 'a', 'b'))
    assert f'cannot write to {tmp_path}/a' in failures[0].reason
    assert runner.started == ['b train', 'b test']


def test_a_program_that_is_missing(tmp_path):
    steps = [
        Step('test', 'a', Path('c.py'), ('/no/such/program', ), tmp_path / 'o',
             tmp_path / 'a' / 'train.log')
    ]
    failures = carry_out(steps, Machine().start, say=lambda line: None)
    assert failures[0].reason.startswith('cannot be started')


SLEEPER = """
import subprocess, sys, pathlib
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
child.wait()
"""


def alive(pid):
    try:
        state = Path(f'/proc/{pid}/stat').read_text().split()[2]
    except OSError:
        return False
    return state != 'Z'


def test_an_interrupt_ends_what_was_started(tmp_path):
    """Also the processes of the process, and without a lock left."""
    pid = tmp_path / 'pid'
    step = Step('test', 'a', Path('c.py'),
                (sys.executable, '-c', SLEEPER, str(pid)), tmp_path / 'o',
                tmp_path / 'a' / 'train.log')
    waited = []

    def wait(*_):
        waited.append(pid.is_file() and pid.read_text())
        if waited[-1] or len(waited) > 400:
            os.kill(os.getpid(), signal.SIGTERM)

    said = []
    old = signal.signal(signal.SIGALRM, wait)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            carry_out([step], Machine().start, say=said.append, pause=0.05)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    deadline = time.monotonic() + 10
    while alive(waited[-1]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert waited[-1] and not alive(waited[-1])
    assert said[-1].startswith('interrupted: test')
    lock_beside(step.log).close()


def test_cores_are_shared_without_gpus(monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(8)))
    assert Machine(jobs=2).environ(1)['OMP_NUM_THREADS'] == '4'
    assert Machine(jobs=16).environ(1)['OMP_NUM_THREADS'] == '1'
    assert Machine().environ(0)['PYTHON'] == sys.executable
    # 'on a CPU' also where GPUs are
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1')
    assert machine(1, 0, 2).environ(0)['CUDA_VISIBLE_DEVICES'] == ''
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert Machine(jobs=2).environ(1)['OMP_NUM_THREADS'] == '3'


def test_gpus_and_ports_of_slots(monkeypatch):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.delenv('PORT', raising=False)
    two = machine(jobs=2, gpus=4, device_count=8)
    assert two.environ(1)['CUDA_VISIBLE_DEVICES'] == '4,5,6,7'
    assert [two.environ(i)['PORT'] for i in (0, 1)] == ['29500', '29501']
    one = machine(jobs=1, gpus=8, device_count=8).environ(0)
    assert 'CUDA_VISIBLE_DEVICES' not in one and 'PORT' not in one
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '6,7')
    assert machine(2, 1, 2).environ(1)['CUDA_VISIBLE_DEVICES'] == '7'
    with pytest.raises(PaperError, match='16 GPUs, but 8 are visible'):
        machine(jobs=2, gpus=8, device_count=8)


def test_a_started_process_has_the_variables_and_the_log(tmp_path):
    here = Machine(jobs=2)
    with open(tmp_path / 'log', 'ab') as log:
        process = here.start([
            sys.executable, '-c', 'import os, sys; print(os.environ["PYTHON"]'
            '); sys.exit("error: no data")'
        ], log, 0, [])
        assert process.wait(timeout=60) == 1
    text = (tmp_path / 'log').read_text()
    assert text == f'{sys.executable}\nerror: no data\n'


def test_last_line(tmp_path):
    log = tmp_path / 'log'
    assert last_line(log).startswith('no log')
    log.write_text('\n')
    assert last_line(log) == 'the log is empty'
    log.write_text('x' * 30000 + '\nlast\n\n')
    assert last_line(log) == 'last'
    log.write_text('error: a\nE1108 from torchrun\n')
    assert last_line(log) == 'error: a'


def test_versions_of_installed_packages():
    output = subprocess.run([
        sys.executable, '-c',
        'import importlib.metadata as m; print(m.version("torch"))'
    ],
                            capture_output=True,
                            text=True,
                            check=True).stdout.strip()
    assert versions(('torch', 'no-such-package')) == dict(torch=output)


def test_scores_that_cannot_be_read_are_evaluated_again(tmp_path):
    steps = chain(tmp_path, 'a')
    carry(steps)
    for broken in ('{"coco_panoptic/PQ"', '{"mIoU": "many"}', '[]'):
        steps[1].output.write_text(broken)
        runner, failures, _ = carry(steps)
        assert runner.started == ['a test'] and failures == []


def test_a_damaged_checkpoint_comes_with_the_way_out(tmp_path):
    """It counts as finished, so that the same command would fail for ever."""
    steps = chain(tmp_path, 'a')
    said = f'error: {steps[0].output} cannot be read; it is damaged. Use x.'
    assert f'Delete {steps[0].output}' in _advice(steps[1], said)
    assert _advice(steps[1], 'error: c.py: lr is 0. Set it.') == ''
