"""One process of a run fails or dies: it shows one line, the others end within
seconds, and the run can be resumed.
"""
import os
import random
import re
import signal
import time

import pytest
import torch
from mmengine.fileio import LocalBackend

from mmengine_exact import explain
from mmengine_exact.errors import InputError
from panoptic_apps.submission.prepare import _on_main
from panoptic_fpn.metrics.base import PerImageMetric
from panoptic_fpn.training.metrics_json import MetricsJsonHook
from tests.mmengine_exact import toy

from .runs import ITERATIONS, Run, Tally, assert_all_whole, resume

#: Seconds that the other processes have.
SOON = 30
#: Calls of each kind.
POINTS = 5

LOST = r'Another process|first process'


def by_error():
    raise InputError('a.png: cannot be used. Mend it.')


def by_bug():
    raise ZeroDivisionError('a bug')


def by_system():
    raise OSError(28, os.strerror(28), 'results.zip')


def by_signal():
    os.kill(os.getpid(), signal.SIGKILL)


def by_exit():
    os._exit(3)


HOW = (by_error, by_bug, by_system, by_signal, by_exit)


def at_call(owner, name, number, how, only):
    """The ``number``-th call of a method fails."""
    real, count = getattr(owner, name), [0]

    def patched(self, *args, **kwargs):
        if only(self, kwargs):
            count[0] += 1
            if count[0] == number:
                how()
        return real(self, *args, **kwargs)

    setattr(owner, name, patched)


def always(self, kwargs):
    return True


#: Owner and name of what fails, which calls count, which ranks get there, and
#: how often at least while the other process still needs them: it may have
#: ended when the last file is written.
WHERE = dict(
    step=(toy.ToyModel, 'forward',
          lambda self, kwargs: kwargs.get('mode', 'loss') == 'loss', (0, 1),
          ITERATIONS),
    optimizer=(torch.optim.SGD, 'step', always, (0, 1), ITERATIONS),
    loading=(toy._Reads, '__getitem__', lambda self, _: self.noise, (0, 1),
             4 * ITERATIONS),
    saving=(LocalBackend, 'put', always, (0, ), 10),
    evaluation=(toy.ToyMetric, 'process', always, (0, 1), 20),
    scores=(toy.ToyMetric, 'compute_metrics', always, (0, ), 10),
    metrics_json=(MetricsJsonHook, '_write', always, (0, ), 9))


def strike(folder, whole, where, how, number, mine, world=2):

    owner, name, only, _, _ = WHERE[where]

    def fault(rank):
        if rank == mine:
            at_call(owner, name, number, how, only)

    run = Run(folder, world, fault=fault)
    begin = time.monotonic()
    codes = run.end(SOON)
    seconds = time.monotonic() - begin
    ends = {
        by_bug: toy.TRACEBACK,
        by_signal: -signal.SIGKILL,
        by_exit: 3
    }.get(how, 1)
    assert codes[mine] == ends, (codes, run.output(mine)[-1500:])
    # an error of the system while a file is written gets that file's name
    written = r'/iter_\d+\.pth ' if where == 'saving' else 'results.zip'
    shown = {by_error: 'a.png', by_system: written}.get(how)
    assert shown is None or re.search(shown, run.message(mine)), (
        run.message(mine))
    # the other one loses its connection, or is ended while it hangs
    assert codes[1 - mine] in (1, -signal.SIGKILL), (codes,
                                                     run.output(1 - mine))
    if codes[1 - mine] == 1:
        assert re.search(LOST, run.message(1 - mine)), run.message(1 - mine)
    assert_all_whole(folder)
    resume(folder, whole, world)
    return seconds


def test_the_others_end(reference, tmp_path):
    whole, _ = reference(2)
    strike(tmp_path, whole, 'scores', by_system, 2, 0)


class NoRoom(PerImageMetric):
    """Cannot write what it computes."""

    prediction, keys = 'pred_panoptic_seg', ()

    def image_row(self, sample):
        return {}

    def compute(self, rows):
        by_system()


def test_what_the_first_process_cannot_do_is_told_to_all(tmp_path):
    """The others would wait for scores, and for the end of the zipping."""

    def fault(rank):
        torch.distributed.init_process_group('gloo')
        metric, seen = NoRoom(), []
        metric.results = [(rank, {})]
        for call in (lambda: metric.evaluate(2), lambda: _on_main(by_system)):
            try:
                call()
            except (OSError, InputError) as error:
                seen.append(type(error).__name__)
                assert 'results.zip' in str(error)
        (tmp_path / f'seen_{rank}').write_text(' '.join(seen))
        os._exit(0)

    assert toy.run(tmp_path, 2, fault=fault) == [0, 0]
    seen = [(tmp_path / f'seen_{rank}').read_text() for rank in (0, 1)]
    assert seen == ['OSError OSError', 'InputError InputError']


@pytest.mark.slow
@pytest.mark.parametrize('name', list(WHERE))
def test_one_of_two(reference, tmp_path, name):
    whole, _ = reference(2)
    *_, ranks, often = WHERE[name]
    draw = random.Random(name)
    for how in HOW:
        tally, slowest = Tally(f'{name} {how.__name__}'), 0
        for i in range(POINTS):
            number, mine = draw.randint(1, often), draw.choice(ranks)
            folder = tmp_path / f'{how.__name__}_{i}'
            with tally.point(f'call {number} of rank {mine}'):
                slowest = max(slowest,
                              strike(folder, whole, name, how, number, mine))
        tally.saw(f'{slowest:.1f} s at most')
        tally.end()


def raised(error):
    try:
        raise error
    except type(error) as caught:
        return caught


def test_explanations(tmp_path):
    assert explain(InputError('a.png: bad.')) == 'a.png: bad.'
    assert explain(ZeroDivisionError()) is None
    assert explain(RuntimeError('size mismatch')) is None
    assert explain(OSError('of a loader')) is None
    assert explain(raised(OSError(28, 'No space left on device'))) is None
    text = explain(OSError(28, 'No space left on device', 'a.json'))
    assert text.startswith('a.json cannot be written: the disk is full')
    text = explain(PermissionError(13, 'Permission denied', 'a.json'))
    assert text.startswith('a.json: Permission denied')
    for reason in ('DataLoader worker (pid 7) is killed by signal: Killed. ',
                   'DataLoader worker (pid(s) 7) exited unexpectedly'):
        assert 'num_workers' in explain(RuntimeError(reason))
    text = explain(
        RuntimeError('[/pytorch/gloo/transport/tcp/pair.cc:534] Connection '
                     'closed by peer [127.0.0.1]:7'))
    assert 'Another process' in text and 'dist_cfg.timeout' in text
    path = tmp_path / 'a.json'
    try:
        with open(path, 'w') as file:
            file.write('x')
            raise OSError(28, 'No space left on device')
    except OSError as error:  # which does not name it
        assert str(path) in explain(error)
