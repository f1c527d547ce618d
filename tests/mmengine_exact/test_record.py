"""What a number was made with, and a test that is not of what was trained."""
import hashlib
import json
import shutil
import subprocess
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from mmengine_exact import record
from mmengine_exact.match import classes_warning
from mmengine_exact.record import data_record, fingerprint, revision
from tests.conftest import call_tool

from . import toy
from .test_tools import config  # noqa: F401


def test_an_evaluation_says_what_it_was_made_with(
        config,  # noqa: F811
        tmp_path,
        monkeypatch):
    cfg = Config.fromfile(config)
    cfg.custom_hooks.append(dict(type='RunRecordHook'))
    cfg.dump(config)
    run, out = tmp_path / 'run', tmp_path / 'out'
    assert call_tool(monkeypatch, 'train', config, '--work-dir', run, '--seed',
                     7) == 0
    checkpoint = run / 'iter_10.pth'
    assert call_tool(monkeypatch, 'test', config, checkpoint, '--work-dir',
                     out) == 0
    trained = json.loads((run / 'record.json').read_text())
    tested = json.loads((out / 'record.json').read_text())
    assert trained['seed'] == 7 and trained['iteration'] == 10
    assert trained['weights'] == []
    content = checkpoint.read_bytes()
    assert tested['weights'] == [
        dict(file=str(checkpoint), sha256=hashlib.sha256(content).hexdigest())
    ]
    assert tested['config'] == str(config)
    model = Config.fromstring(tested['config_text'], '.py').model
    assert model.type == 'ToyModel'
    for name in ('python', 'torch', 'mmdet', 'numpy'):
        assert tested['versions'][name]
    assert [data['type'] for data in tested['data']] == ['ToyDataset']
    meta = torch.load(checkpoint, weights_only=True)['meta']
    assert meta['record']['seed'] == 7
    assert meta['record']['versions'] == trained['versions']


def test_each_file_of_results_has_its_record(
        config,  # noqa: F811
        tmp_path,
        monkeypatch):
    cfg = Config.fromfile(config)
    cfg.custom_hooks = [
        dict(type='MetricsJsonHook', record=True),
        dict(type='RunRecordHook')
    ]
    cfg.test_evaluator = dict(type='ToyMetric', outfile_prefix='results/of')
    cfg.dump(config)
    monkeypatch.chdir(tmp_path)
    for name in ('a', 'b'):
        assert call_tool(monkeypatch, 'train', config, '--work-dir', name) == 0
    trained = [(tmp_path / name / 'metrics.json').read_text() for name in 'ab']
    assert trained[0] == trained[1]
    assert call_tool(monkeypatch, 'test', config, 'a/iter_10.pth',
                     '--work-dir', 'o', '--out', 'predictions.pkl') == 0
    scores = json.loads((tmp_path / 'o' / 'metrics.json').read_text())
    made_with = scores['record']
    weights = hashlib.sha256((tmp_path / 'a/iter_10.pth').read_bytes())
    assert made_with['weights'][0]['sha256'] == weights.hexdigest()
    text = made_with['config_text']
    assert "'type': 'ToyModel'" in text and 'work_dir' not in text
    whole = json.loads((tmp_path / 'o' / 'record.json').read_text())
    for name in ('config', 'revision', 'versions', 'data', 'seed', 'weights'):
        assert made_with[name] == whole[name]
    for path in ('results/of.record.json', 'predictions.record.json'):
        assert json.loads((tmp_path / path).read_text()) == whole


@pytest.mark.skipif(not shutil.which('git'), reason='git is not here')
def test_a_package_inside_another_repository_has_no_revision(
        tmp_path, monkeypatch):
    """As one that is installed in an environment of a project of the user."""
    for command in ('init', 'commit --allow-empty -m x'):
        subprocess.run([
            'git', '-c', 'user.name=x', '-c', 'user.email=x', *command.split()
        ],
                       cwd=tmp_path,
                       check=True)
    installed = tmp_path / 'site-packages'
    installed.mkdir()
    shutil.copy(record.__file__, installed)
    monkeypatch.setattr(record, '_FOLDER', str(installed))
    monkeypatch.setattr(record, '__file__', str(installed / 'record.py'))
    revision.cache_clear()
    assert revision() is None
    revision.cache_clear()


def test_data_are_distinguished_by_their_content(tmp_path):
    path = tmp_path / 'panoptic.json'
    path.write_text('{}')

    class Leaf(list):
        ann_file = str(path)

    wrapped = SimpleNamespace(datasets=[Leaf([1, 2]), Leaf([3])])
    first, second = data_record(wrapped)
    assert (first['images'], second['images']) == (2, 1)
    assert first['sha256'] == hashlib.sha256(b'{}').hexdigest()
    path.write_text('{ }')
    assert data_record(wrapped)[0]['sha256'] != first['sha256']
    assert fingerprint(str(tmp_path / 'missing.json')) is None


def test_data_without_annotation_file_is_known_by_its_names():

    class Folder(list):

        def get_data_info(self, index):
            return dict(img_path=self[index], seg_map_path=None)

    first, = data_record(Folder(['a.png', 'b.png']))
    again, = data_record(Folder(['a.png', 'b.png']))
    other, = data_record(Folder(['a.png', 'c.png']))
    assert first == again and first['images'] == 2
    assert len(first['names_sha256']) == 64
    assert first['names_sha256'] != other['names_sha256']


@pytest.mark.parametrize('then, now, said', [
    (dict(thing_classes=('a', 'b')), dict(thing_classes=['a', 'b']), ''),
    (dict(classes=('a', 'b')), dict(classes=['b', 'a']), 'reordered'),
    (dict(classes=('a', )), dict(classes=['a', 'c']),
     '1 and 2 classes, in one only: c'),
    ({}, dict(classes=['a']), ''),
])
def test_other_classes_are_reported(then, now, said):
    found = classes_warning(then, now, 'x.pth')
    assert said in found and bool(said) == bool(found)


def test_the_test_tool_warns(
        config,  # noqa: F811
        tmp_path,
        monkeypatch,
        capfd):
    run = tmp_path / 'run'
    assert call_tool(monkeypatch, 'train', config, '--work-dir', run) == 0
    test = ('test', config, run / 'iter_10.pth', '--work-dir', tmp_path / 'o')
    assert call_tool(monkeypatch, *test) == 0
    assert 'other classes' not in capfd.readouterr().out
    monkeypatch.setattr(toy._Reads, '__init__',
                        _with_other_classes(toy._Reads.__init__))
    assert call_tool(monkeypatch, *test) == 0
    assert 'in one only: b, c' in capfd.readouterr().out


def _with_other_classes(init):

    def other(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.metainfo = dict(classes=('a', 'c'))

    return other
