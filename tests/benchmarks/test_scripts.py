"""Scaling, memory and two processes: a small run of each, and pictures."""
import json

import pytest

from benchmarks import memory, scaling, scaling_cases, two_processes

from .fakes import report


def test_every_stage_runs_on_a_small_case(tmp_path):
    case = scaling_cases.write(
        scaling_cases.Case(tmp_path, megapixels=0.1, instances=6, classes=10))
    assert case.shape == (224, 448)
    for stage, make in scaling_cases.STAGES.items():
        calls = make(case)
        assert list(calls) == ['ours', 'mmdet'], stage
        found = {name: call() for name, call in calls.items()}
        if stage == 'merge':
            same = found['ours'] == found['mmdet']
            assert same.double().mean() > 0.999
        elif stage == 'PQ metric':
            for key, value in found['mmdet'].items():
                assert found['ours'][key] == pytest.approx(value)
            assert 20 < found['ours']['coco_panoptic/PQ'] < 100
        else:
            ours, mmdet = (f['inputs'] for f in found.values())
            assert ours.shape == mmdet.shape == (3, 112, 224)


def test_curves_end_and_are_drawn(tmp_path, monkeypatch, capsys):
    curves = dict(ours=[0.01, 0.02], mmdet=[0.5, None])
    found = report(
        axes=dict(megapixels=[1, 2], instances=[5, 50]),
        curves={
            stage: dict(megapixels=curves, instances=curves)
            for stage in ('merge', 'PQ metric')
        },
        workers=dict(ours={
            0: 10.,
            1: 12.
        }, mmdet={
            0: 1.,
            1: 1.
        }))
    # keys of JSON are texts
    found = json.loads(json.dumps(found))
    text = scaling.text_of(found)
    assert '500.00         -' in text and '12.0 with 1' in text
    assert scaling.draw(found).shape[2] == 3


def test_a_slow_curve_of_mmdet_ends(monkeypatch):
    seen = []

    def stage(case):
        seen.append(case.instances)
        return dict(ours=lambda: None, mmdet=lambda: sum(range(10**5)))

    monkeypatch.setattr(scaling_cases, 'STAGES', dict(merge=stage))
    monkeypatch.setattr(scaling, 'AXES', dict(instances=(1, 2, 3)))
    monkeypatch.setattr(scaling, 'BASE', dict(megapixels=0.02, classes=4))
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    args = scaling.parse_args(['--rounds', '1', '--limit', '1e-6'])
    found = scaling.measure_axis('instances', args)['merge']
    assert seen == [1, 2, 3] and None not in found['ours']
    assert found['mmdet'][0] > 0 and found['mmdet'][1:] == [None, None]


def test_memory_of_a_metric_is_drawn():
    line = dict(
        points=[dict(images=10, held=10**6, rows=10**4)], compute_peak=5)
    found = report(lines={name: line for name in memory.LINES})
    assert '1000' in memory.text_of(found)
    assert memory.draw(found).shape[2] == 3


@pytest.mark.slow
def test_memory_is_measured(tmp_path):
    assert memory.main(['--images', '4', '8', '--out', str(tmp_path)]) == 0
    lines = json.loads((tmp_path / 'memory.json').read_text())['lines']
    for name, line in lines.items():
        assert [point['images'] for point in line['points']] == [4, 8]
        # AP keeps 100 RLEs of an image
        assert (memory.row_bytes(line) > 10**4) == ('AP' in name)
    assert (tmp_path / 'memory.png').is_file()


@pytest.mark.slow
def test_two_processes_are_measured(tmp_path, capsys):
    assert two_processes.main(
        ['--rounds', '1', '--iterations', '2', '--out',
         str(tmp_path)]) == 0
    assert 'efficiency' in capsys.readouterr().out
    found = json.loads((tmp_path / 'two_processes.json').read_text())
    for task in two_processes.TASKS:
        assert min(found[task]['1'] + found[task]['2']) > 0
