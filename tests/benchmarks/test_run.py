"""All stages: failures, files, medians of several runs."""
import json

import pytest

from benchmarks import figures, machine, run
from benchmarks.harness import ROOT, Row

from .fakes import report, row

GOOD = '''
import os, sys
from pathlib import Path
from benchmarks.harness import Row, stage_main

def measure(rounds, seed):
    assert os.environ['OMP_NUM_THREADS'] == '1'
    return [Row('good', f'seed {seed}', [1.] * rounds, [3.] * rounds, ask=4)]

sys.exit(stage_main(measure, 'Good.'))
'''
COUNTING = '''
import json, sys
from pathlib import Path

side = dict(launches=2, waits=1)
rows = [dict(stage='merge', case='COCO', ours=side, mmdet=None)]
Path(sys.argv[-1]).write_text(json.dumps(rows))
'''
BAD = 'raise RuntimeError("no such model")\n'


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """A repository of two stages, the first of which fails."""
    folder = tmp_path / 'stages'
    folder.mkdir()
    (folder / 'good.py').write_text(GOOD)
    (folder / 'bad.py').write_text(BAD)
    monkeypatch.setattr(run.harness, 'ROOT', tmp_path)
    monkeypatch.setattr(run, 'PACKAGE', 'stages')
    monkeypatch.setattr(run, 'STAGES', dict(bad=None, good=1))
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    return tmp_path


def test_a_stage_that_fails_is_named_and_the_others_run(
        stages, capsys, monkeypatch):
    docs = stages / 'docs'
    monkeypatch.setattr(figures, 'FOLDER', docs)
    out = stages / 'out'
    code = run.main(
        ['--rounds', '2', '--seed', '3', '--out',
         str(out), '--write-docs'])
    assert code == 1
    said = capsys.readouterr()
    assert '[1/2] bad ... exit code 1: RuntimeError: no such model' in said.out
    assert '[2/2] good ...' in said.out and 'BELOW THE ASK' in said.out
    assert 'error: bad: exit code 1: RuntimeError: no such model' in said.err
    found = json.loads((out / 'benchmark.json').read_text())
    assert found['rows'][0]['ours'] == [1., 1.]
    assert found['rows'][0]['case'] == 'seed 3'
    assert found['stages']['good']['error'] is None
    assert found['stages']['good']['threads'] == 1
    assert found['machine']['torch'] and found['machine']['numpy']
    assert (out / 'benchmark.png').stat().st_size > 5000
    assert not docs.exists()


def test_counts_are_no_times(stages, capsys, monkeypatch):
    (stages / 'stages' / 'gpu_counts.py').write_text(COUNTING)
    monkeypatch.setattr(run, 'STAGES', dict(gpu_counts=1))
    assert run.main(['--out', str(stages / 'out')]) == 0
    found = json.loads((stages / 'out' / 'benchmark.json').read_text())
    assert found['rows'] == [] and found['counts'][0]['case'] == 'COCO'
    assert not (stages / 'out' / 'benchmark.png').exists()
    assert 'on a pretended GPU' in capsys.readouterr().out


@pytest.mark.parametrize('arguments, said', [
    (['--only', 'merge', '--write-docs'], 'leave out --only'),
    (['--rounds', 'x'], 'is no number above 0'),
])
def test_wrong_arguments(arguments, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        run.main(arguments)
    assert stopped.value.code == 2 and said in capsys.readouterr().err


def test_medians_of_runs(tmp_path):
    paths = []
    for i, (ours, theirs) in enumerate([(2., 10.), (1., 30.), (4., 12.)]):
        rows = [
            row(ours=ours, theirs=theirs, ours_bytes=i, theirs_bytes=8),
            row(case='other', ours=1., theirs=1.),
            row(case='other', ours=1., theirs=3., against='Detectron2')
        ]
        # the order of the stages does not matter
        rows = rows[::-1] if i == 1 else rows
        paths.append(tmp_path / f'{i}.json')
        paths[-1].write_text(json.dumps(report(*rows, date=f'2026-01-0{i}')))
    out = tmp_path / 'out'
    code = run.main(['--out', str(out), '--merge-runs', *map(str, paths)])
    assert code == 0
    merged = json.loads((out / 'benchmark.json').read_text())
    assert merged['runs'] == 3 and merged['date'] == '2026-01-02'
    first, second, third = map(Row.from_dict, merged['rows'])
    assert first.ours == [2., 1., 4.] and first.theirs == [10., 30., 12.]
    assert first.ratio == 6. and (first.ours_bytes, first.theirs_bytes) == (1,
                                                                            8)
    assert second.case == 'other' and second.ratio == 1.
    assert third.case == 'other' and third.ratio == 3.


@pytest.mark.parametrize('other, said', [
    (report(row(case='2048x1024')), 'differ in the row merge: 2048x1024'),
    (report(row(), machine=dict(report()['machine'],
                                cores=64)), 'another machine than'),
    (report(row(), runs=3), 'is made of 3 runs'),
    (dict(rows=[]), 'is no report'),
    ('', 'is no report'),
])
def test_runs_that_do_not_go_together(tmp_path, capsys, other, said):
    paths = [tmp_path / 'a.json', tmp_path / 'b.json']
    paths[0].write_text(json.dumps(report(row())))
    paths[1].write_text(json.dumps(other) if other else '')
    assert run.main(['--merge-runs', *map(str, paths)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize('flags, has', [
    ('fpu avx512_bf16 avx2', True),
    ('asimd bf16', True),
    ('fpu avx512f avx2', False),
    ('', False),
])
def test_bfloat16_is_measured_where_the_cpu_has_it(flags, has, monkeypatch):
    monkeypatch.setattr(machine, '_cpuinfo', lambda *names: flags)
    assert machine.has_bfloat16() == has
