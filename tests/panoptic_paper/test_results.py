"""States of folders, metrics in percent, spreads by hand."""
import json
import os
from pathlib import Path

import pytest

from panoptic_paper.listing import list_rows, map_page, show_row, state_text
from panoptic_paper.plan import LaunchOptions
from panoptic_paper.results import State, read_metrics, state_of, states_of
from panoptic_paper.runs import Run, run_of

from .fakes import ROOT, TABLES, write_metrics

ROW = 'table3a/coco-r50'


@pytest.fixture
def run():
    return run_of(TABLES, TABLES.row(ROW))


@pytest.mark.parametrize('content,expected', [
    ({
        'coco/segm_mAP': 0.333,
        'coco/segm_mAP_50': 0.5,
        'coco/segm_mAP_75': None,
        'coco/bbox_mAP': 0.9,
        'coco_panoptic/PQ': 39.0,
        'coco_panoptic/PQ_th': 45.9,
        'fIoU': 68.0,
        'classwise': dict(car=dict(PQ=3.))
    }, dict(AP=33.3, AP50=50., AP75=None, PQ=39., PQ_th=45.9, fIoU=68.)),
    ({
        'cityscapes/mAP': 0.32,
        'cityscapes/AP@50': 0.587,
        'mIoU': 75.0,
        'iIoU': 58.2
    }, dict(AP=32.0, AP50=58.7, mIoU=75.0, iIoU=58.2)),
])
def test_metrics_in_percent(tmp_path, content, expected):
    path = tmp_path / 'metrics.json'
    path.write_text(json.dumps(content))
    assert read_metrics(path) == pytest.approx(expected)


@pytest.mark.parametrize('text', ['', '[]', '{"mIoU": "a"}', '{"mIoU": NaN}'])
def test_broken_metrics(tmp_path, text, run):
    path = tmp_path / run.name / 'seed-0' / 'test' / 'metrics.json'
    path.parent.mkdir(parents=True)
    path.write_text(text)
    state = state_of(run, tmp_path, 0)
    assert state.metrics is None and state.text.startswith(f'{path}: cannot')
    assert 'run the row again' in state.text


def test_states(tmp_path, run):
    folder = run.folder(tmp_path, 2)
    assert state_of(run, tmp_path, 2).text == 'not run'
    assert states_of(run, [tmp_path]) == {}
    folder.mkdir(parents=True)
    assert state_of(run, tmp_path, 2).text == 'started'
    for iters in (9000, 31500):
        (folder / f'iter_{iters}.pth').touch()
    (folder / 'best_coco_panoptic_PQ_iter_80000.pth').touch()
    assert state_of(run, tmp_path, 2).text == 'training 35 %'
    (folder / 'run.json').write_text('{"max_iters": 63000}')
    assert state_of(run, tmp_path, 2).text == 'training 50 %'
    (folder / 'iter_63000.pth').touch()
    state = state_of(run, tmp_path, 2)
    assert state.text == 'trained' and state.metrics is None
    write_metrics(tmp_path, ROW, 2, coco_panoptic__PQ=39.0)
    state = state_of(run, tmp_path, 2)
    assert (state.text, state.metrics) == ('done', dict(PQ=39.0))
    assert list(states_of(run, [tmp_path])) == [2]


def test_states_of_the_export(tmp_path):
    run = run_of(TABLES, TABLES.row('table4a/r101'))
    folder = run.folder(tmp_path, 0)
    folder.mkdir(parents=True)
    (folder / 'iter_90000.pth').touch()
    assert state_of(run, tmp_path, 0).text == 'not exported'
    (folder / 'test-dev.panoptic.json').touch()
    assert state_of(run, tmp_path, 0).text == 'exported'
    (folder / 'test-dev').mkdir()
    (folder / 'test-dev' /
     'metrics.json').write_text('{"coco_panoptic/PQ": 40.9}')
    assert state_of(run, tmp_path, 0).metrics == dict(PQ=40.9)


def test_of_several_folders_what_is_done_counts(tmp_path, run):
    first, second = tmp_path / 'a', tmp_path / 'b'
    run.folder(first, 0).mkdir(parents=True)
    write_metrics(second, ROW, 0, coco_panoptic__PQ=39.0)
    write_metrics(second, ROW, 1, coco_panoptic__PQ=38.0)
    for folders in ([first, second], [second, first]):
        states = states_of(run, folders)
        assert [states[seed].text for seed in (0, 1)] == ['done', 'done']


def test_results_of_an_edited_config_do_not_count(tmp_path):
    """Without a fingerprint in run.json they count."""
    config = tmp_path / 'c.py'
    config.write_text("model = dict(a=1)\ndata = '{{$D:data}}'\nlr = 0.1\n")
    run = Run(config, 'c')
    folder = run.folder(tmp_path, 0)
    (folder / 'test').mkdir(parents=True)
    (folder / 'test' / 'metrics.json').write_text('{"mIoU": 3.0}')
    record = folder / 'run.json'
    for content in ({}, dict(fingerprint=run.fingerprint())):
        record.write_text(json.dumps(content))
        assert state_of(run, tmp_path, 0).text == 'done'
    for name, other in (('lr', Run(edited(config, '0.1', '0.2'),
                                   'c')), ('loss weights',
                                           Run(config, 'c', (1., .5)))):
        state = state_of(other, tmp_path, 0)
        assert state.metrics is None
        assert state.text == f'run with another config ({name} differs)'
    comment = edited(config, 'lr = 0.1', 'lr = 0.1  # as in the paper')
    assert state_of(Run(comment, 'c'), tmp_path, 0).metrics == dict(mIoU=3.)


def edited(config, old, new):
    """Another file: configs are read once."""
    path = config.with_name(f'{abs(hash(new))}.py')
    path.write_text(config.read_text().replace(old, new))
    return path


def test_the_fingerprint_is_the_same_wherever_the_data_lie(
        tmp_path, monkeypatch):
    config = tmp_path / 'c.py'
    config.write_text("data = '{{$PFPN_TEST_DATA:data}}'\n")
    before = Run(config, 'c').fingerprint()
    monkeypatch.setenv('PFPN_TEST_DATA', '/elsewhere')
    assert Run(edited(config, '', ''), 'c').fingerprint() == before


def test_two_networks_are_as_old_as_theirs(tmp_path):
    """A network that was trained again, or with another config."""
    run = run_of(TABLES, TABLES.row('table3a/coco-r50x2'))
    path = write_metrics(
        tmp_path, 'table3a/coco-r50x2', 0, coco_panoptic__PQ=39.0)
    checkpoint = run.networks[1].folder(tmp_path, 0) / 'iter_90000.pth'
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    os.utime(checkpoint, (10, 10))
    os.utime(path, (20, 20))
    assert state_of(run, tmp_path, 0).text == 'done'
    os.utime(checkpoint, (30, 30))
    state = state_of(run, tmp_path, 0)
    assert state.metrics is None and state.text == 'older than its networks'


def test_state_text():
    here = Path('.')
    states = {
        0: State('done', here, dict(PQ=39.04)),
        1: State('training 35 %', here),
        2: State('training 35 %', here),
        3: State('done', here, dict(AP=1.))
    }
    assert state_text(TABLES.table('table3a'), states) == (
        'done with PQ 39.0 (seed 0), training 35 % (seed 1, 2), done with PQ '
        'n/a (seed 3)')


def test_list_names_every_row_with_a_config(tmp_path):
    text = list_rows(TABLES, TABLES, tmp_path, False)
    for row in TABLES.rows.values():
        assert (f'  {row.name}  [' in text) == (row.config is not None)
    assert text.count('not run') == sum(r.trained
                                        for r in TABLES.rows.values())
    assert text.count('not computed') == 6  # of Table 1a and Figure 4
    write_metrics(tmp_path, ROW, 0, coco_panoptic__PQ=39.0)
    text = list_rows(TABLES, [TABLES.table('table3a')], tmp_path, False)
    assert text.count('done with PQ 39.0 (seed 0)') == 1
    small = list_rows(TABLES, TABLES, tmp_path, True)
    assert 'configs/paper/miniature/x2.py' in small and 'table1a' not in small


def test_show(tmp_path):

    def show(name, gpus=8, miniature=False):
        launch = LaunchOptions(tmp_path, ROOT / 'tools', gpus)
        return show_row(TABLES, TABLES.row(name), launch, miniature)

    text = show('table2a/lambda-s-0.25')
    for expected in ('paper: mIoU 39.6  AP 33.7', 'semantic=0.25',
                     'dist_train.sh', '/test', 'state: not run', 'seeds: 1'):
        assert expected in text
    assert ('same run: table2a/lambda-s-0.5, table2b/lambda-s-0.5, table3a/'
            'cityscapes-r50, table3c/') in show(
                ROW, miniature=True)
    text = show('table3a/cityscapes-r50x2')
    assert 'networks: table2b/lambda-s-0.0, table2d/lambda-i-0.0' in text
    assert 'seeds: 5 as in the paper' in text
    assert 'COCO\'s server' in show('table4a/r101')
    assert 'nothing to run' in show('table4a/artemis')
    assert 'no miniature of it' in show('table4b/r101', miniature=True)
    assert 'tools/complexity.py' in show('figure4/d8')


def test_the_map_of_the_rows_is_current():
    path = ROOT / 'configs' / 'paper' / 'README.md'
    assert path.read_text() == map_page(TABLES), (
        'python tools/paper.py list --markdown > configs/paper/README.md')
