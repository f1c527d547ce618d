"""Verdicts on results made by hand, and the check as a user runs it."""
import json
import math
import time

import pytest
import torch

from mmengine_exact.errors import InputError, RunError
from panoptic_apps.check_gpu import check, check_gpu, measure, short_runs
from panoptic_apps.check_gpu.parts import Work
from panoptic_apps.check_gpu.report import Report
from tests.conftest import call_tool

CPU = torch.device('cpu')


@pytest.fixture
def report(tmp_path):
    return Report(str(tmp_path), dict(device='cpu'))


def written(report):
    with open(report.path) as file:
        return json.load(file)


def verdicts(report):
    return {c['name']: c['verdict'] for c in written(report)['checks']}


def test_errors_above_the_bound_are_wrong(report):
    report.agree('equal', dict(value=0.), 0)
    report.agree('close', dict(value=1e-5, gradient=1e-4), 1e-4)
    report.agree('far', dict(value=1e-5, gradient=2e-4), 1e-4)
    report.agree('broken', dict(value=math.nan, gradient=0.), 1e-4)
    assert verdicts(report) == dict(
        equal='right', close='right', far='WRONG', broken='WRONG')
    far, broken = written(report)['checks'][2:]
    assert far['detail'] == 'gradient 2.0e-04, at most 1e-04'
    assert broken['errors'] == dict(value='nan', gradient=0.)
    assert not report.finish()


def test_a_part_that_raises_is_wrong_and_the_rest_goes_on(report, capsys):

    def broken():
        raise RuntimeError('CUDA error: no kernel image\nand more lines')

    report.attempt('broken part', broken)
    assert report.attempt('whole part', lambda: 5) == 5
    report.check('after it', 'right')
    assert verdicts(report) == {'broken part': 'WRONG', 'after it': 'right'}
    assert not report.finish()
    out = capsys.readouterr().out
    assert 'RuntimeError: CUDA error: no kernel image' in out
    assert out.splitlines()[-1].startswith('1 of 2 checks are wrong.')


def test_slower_than_mmdet_is_not_wrong(report, capsys):
    one = check.Check(report, CPU, True, 0)
    times = [{'all': dict(ms=ms)} for ms in (10., 12.)]
    one.verdict('fast', *times)
    one.verdict('slow', *times[::-1])
    assert verdicts(report) == dict(fast='faster', slow='SLOWER than mmdet')
    assert report.finish()
    assert 'Nothing is wrong.' in capsys.readouterr().out


def test_figures_of_each_part_stand_beside_theirs(report, capsys):
    ours = dict(loss=dict(ms=1.5, launches=24.), extra=dict(ms=1.))
    report.figures('COCO', 'step', ours, dict(loss=dict(ms=250.)))
    assert written(report)['parts'] == [
        dict(
            case='COCO',
            work='step',
            part='loss',
            ours=ours['loss'],
            mmdet=dict(ms=250.)),
        dict(
            case='COCO',
            work='step',
            part='extra',
            ours=ours['extra'],
            mmdet={})
    ]
    line = next(line for line in capsys.readouterr().out.splitlines()
                if line.startswith('loss'))
    assert line.split() == [
        'loss', '1.50', '/', '250', '-', '/', '-', '24', '/', '-', '-', '/',
        '-', '-', '/', '-'
    ]


def test_calls_belong_to_the_part_that_ends_after_them():
    events = [(4, 'cudaStreamSynchronize'), (1, 'cudaLaunchKernel'),
              (2, 'cudaLaunchKernel'), (3, 'end of first'), (5, 'aten::add'),
              (6, 'cuLaunchKernel'), (7, 'end of second'),
              (8, 'cudaDeviceSynchronize')]
    assert measure.count_calls(events) == dict(
        first=dict(launches=2, waits=0), second=dict(launches=1, waits=1))


def test_times_of_parts_and_of_the_whole():

    def run(seconds, note):
        for name in ('first', 'last', 'more'):
            time.sleep(seconds)
            note(name)

    work = Work('sleep', '', 'last', lambda: 0.02, run)
    found = measure.measure(work, CPU, 3, time.perf_counter() + 60)
    assert list(found) == ['first', 'last', 'more', 'all']
    assert 20 <= found['first']['ms'] <= found['all']['ms']
    # to the end of the last common part, and no further
    assert 40 <= found['all']['ms']
    assert 'launches' not in found['all']


def test_no_repeat_begins_after_the_deadline():
    runs = []
    work = Work('count', '', 'all of it', lambda: None, lambda _, note:
                (runs.append(1), note('all of it')))
    measure.measure(work, CPU, 50, time.perf_counter() - 1)
    assert len(runs) == 3


def test_losses_that_differ_are_named():
    first = {1: 0.5, 2: 0.25, 3: 0.125}
    assert short_runs.compare_losses(first, dict(first), range(
        1, 4)) == ('right', 'losses of iterations 1 to 3')
    verdict, detail = short_runs.compare_losses(first, {
        **first, 2: 0.26
    }, range(1, 4))
    assert verdict == 'WRONG' and detail.endswith('is 2: 0.25 and 0.26')
    # an iteration that neither logged is no agreement
    assert short_runs.compare_losses({}, {}, range(1, 2))[0] == 'WRONG'


def test_a_training_that_fails_names_its_log(tmp_path):
    tool = tmp_path / 'train.py'
    tool.write_text('print("error: the disk is full")\nraise SystemExit(1)\n')
    with pytest.raises(
            RunError, match='exit code 1.*whole.log.*the disk is full'):
        short_runs.train(
            str(tool), str(tmp_path / 'whole'), 'cpu',
            time.perf_counter() + 60)


def test_a_training_without_time_is_dropped(report, tmp_path):
    tool = tmp_path / 'train.py'
    tool.write_text('import time\ntime.sleep(60)\n')
    short_runs.check_short_runs(report, str(tool), str(tmp_path), 'cpu', 0, 2)
    assert verdicts(report) == {short_runs.RESUMES: 'dropped'}
    assert report.finish()


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_one_line(tmp_path, monkeypatch, capsys):
    out = tmp_path / 'out'
    assert call_tool(monkeypatch, 'check_gpu', '--out', out) == 1
    message = capsys.readouterr().err.strip()
    assert message.startswith('error: torch sees no GPU')
    assert '--device cpu --quick' in message and '\n' not in message
    assert not out.exists()
    with pytest.raises(InputError):
        check_gpu('cuda', str(out), 'train.py')


def test_wrong_arguments(tmp_path, monkeypatch):
    file = tmp_path / 'file'
    file.write_text('')
    for wrong in (('--out', file), ('--minutes', 0), ('--device', 'tpu')):
        assert call_tool(monkeypatch, 'check_gpu', *wrong) == 2


def test_what_comes_late_is_dropped(tmp_path, monkeypatch):
    """With no time left the operators are still checked; figures are not."""
    monkeypatch.setattr(check.Check, 'needed', lambda self, *args: None)
    assert check_gpu('cpu', str(tmp_path), 'train.py', True, minutes=0)
    content = json.loads((tmp_path / 'check_gpu.json').read_text())
    assert {c['verdict'] for c in content['checks']} == {'dropped'}
    assert [c['name'] for c in content['checks']] == [
        'training step, COCO', 'prediction, COCO', 'heads alone, COCO',
        'training step in float32'
    ]


@pytest.mark.parametrize(
    'trains', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_check_on_a_cpu(tmp_path, monkeypatch, capsys, trains):
    """As a user runs it: 'check_gpu.py --device cpu --quick'."""
    if not trains:
        monkeypatch.setattr(short_runs, 'train',
                            lambda *args: dict.fromkeys(range(1, 5), 0.5))
    assert call_tool(monkeypatch, 'check_gpu', '--device', 'cpu', '--quick',
                     '--out', tmp_path) == 0
    content = json.loads((tmp_path / 'check_gpu.json').read_text())
    found = {c['name']: c['verdict'] for c in content['checks']}
    assert content['wrong'] == 0 and 'dropped' not in found.values()
    assert found[short_runs.RESUMES] == 'right'
    assert found['training step, COCO'] in ('faster', 'SLOWER than mmdet')
    parts = {(p['work'], p['part']): p for p in content['parts']}
    for work, part in (('training step', 'semantic loss'),
                       ('prediction', 'masks'), ('merge', 'merge')):
        row = parts[work, part]
        assert row['ours']['ms'] > 0 and row['mmdet']['ms'] > 0
    assert 'Nothing is wrong.' in capsys.readouterr().out
