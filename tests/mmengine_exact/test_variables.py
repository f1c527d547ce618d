"""Variables of configs: on the command line and in files that inherit."""
import pytest
from mmengine.config import Config

from mmengine_exact import RunError, read_config

BASE = """
max_iters = 600
num_things, num_stuff = 4, 5
data_root = 'data/a/'
loader = dict(batch_size=2, num_workers=0)
warm_up = max_iters // 10
train_pipeline = [dict(type='Load'), dict(type='RandomFlip', prob=0.5)]
train_cfg = dict(max_iters=max_iters, val_interval=200)
param_scheduler = [
    dict(type='LinearLR', end=warm_up),
    dict(type='MultiStepLR', end=max_iters,
         milestones=[round(max_iters * share) for share in (.5, .9)])]
model = dict(num_classes=num_things, data_preprocessor=dict(size=64))
train_dataloader = dict(
    dataset=dict(data_root=data_root, pipeline=train_pipeline), **loader)
val_evaluator = dict(ann_file=data_root + 'b.json')
unused = 3
"""
MIDDLE = """
_base_ = ['./base.py']
num_stuff = 6
val_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
"""


@pytest.fixture(name='files')
def _files(tmp_path):
    (tmp_path / 'base.py').write_text(BASE)
    (tmp_path / 'middle.py').write_text(MIDDLE)

    def write(text):
        path = tmp_path / 'leaf.py'
        path.write_text(f"_base_ = './middle.py'\n{text}")
        return str(path)

    return write


@pytest.mark.parametrize(
    'options, expected',
    [
        (dict(max_iters=100), {
            'train_cfg.max_iters': 100,
            'param_scheduler.0.end': 10,
            'param_scheduler.1.end': 100,
            'param_scheduler.1.milestones': [50, 90],
            'param_scheduler.1.type': 'MultiStepLR',
            'train_cfg.val_interval': 200
        }),
        (dict(num_things=3), {
            'model.num_classes': 3
        }),
        (dict(data_root='/x/'), {
            'train_dataloader.dataset.data_root': '/x/',
            'val_evaluator.ann_file': '/x/b.json'
        }),
        ({
            'train_pipeline.1.prob': 0,
            'loader.num_workers': 2
        }, {
            'train_dataloader.dataset.pipeline.1.prob': 0,
            'train_dataloader.dataset.pipeline.0.type': 'Load',
            'val_dataloader.dataset.pipeline.1.prob': 0,
            'train_dataloader.num_workers': 2,
            'train_dataloader.batch_size': 2
        }),
        # what is said of the key itself counts
        ({
            'max_iters': 100,
            'train_cfg.max_iters': 7
        }, {
            'train_cfg.max_iters': 7,
            'param_scheduler.1.end': 100
        }),
    ])
def test_an_option_for_a_variable_sets_what_is_computed_from_it(
        files, capfd, options, expected):
    cfg = read_config(files(''), options)
    for key, value in expected.items():
        found = cfg
        for part in key.split('.'):
            found = found[int(part) if part.isdigit() else part]
        assert found == value, key
    assert 'this also sets' in capfd.readouterr().out
    assert cfg.filename.endswith('leaf.py')
    # everything else is as before
    plain = Config.fromfile(cfg.filename)
    assert cfg.model.data_preprocessor == plain.model.data_preprocessor
    assert set(cfg) == set(plain)


@pytest.mark.parametrize(
    'options, text',
    [
        (dict(unused=4, max_iters=5), 'unused: no run .* there are: none'),
        # the model has its own
        ({
            'data_preprocessor.size': 32
        }, 'data_preprocessor: no run'),
        # as MMEngine writes a config: with values alone
        (dict(max_iters=5),
         'there are: param_scheduler.1.end=5 train_cfg.max_iters=5'),
        # a key of another name has the same value
        ({
            'unused': 4,
            'train_cfg.max_iters': 4
        }, 'unused: no run .* there are: none'),
    ])
def test_a_variable_that_nothing_is_computed_from(files, options, text):
    path = files('data_preprocessor = dict(size=3)')
    if 'unused' not in options:
        Config.fromfile(path).dump(path)
    with pytest.raises(RunError, match=text):
        read_config(path, options)
    assert read_config(path, dict(unused=3)).unused == 3
    both = dict(max_iters=7, **{'train_cfg.max_iters': 7})
    assert read_config(path, both).train_cfg.max_iters == 7


@pytest.mark.parametrize('text, variable, keys', [
    ('max_iters = 1', 'max_iters', [
        'train_cfg.max_iters=1', 'param_scheduler.0.end=0',
        'param_scheduler.1.end=1', 'param_scheduler.1.milestones=[0,1]'
    ]),
    ('num_things = 3', 'num_things', ['model.num_classes=3']),
    ('max_iters = 1\ntrain_cfg = dict(max_iters=1)', 'max_iters',
     ['param_scheduler.1.end=1']),
    ("data_root = '/x/'\n"
     'train_dataloader = dict(dataset=dict(data_root=data_root))', 'data_root',
     ['val_evaluator.ann_file=/x/b.json']),
    ("train_pipeline = [dict(type='Load')]", 'train_pipeline',
     ['train_dataloader.dataset.pipeline', 'val_dataloader.dataset.pipeline']),
    ('num_things = 3\nnum_stuff = 7\nmax_iters = 600', 'num_things',
     ['model.num_classes=3']),
])
def test_a_variable_that_a_file_sets_in_vain_is_refused(
        files, text, variable, keys):
    with pytest.raises(RunError) as error:
        read_config(files(text))
    message = str(error.value)
    assert f'leaf.py: {variable} is set anew' in message
    assert all(key in message for key in keys)
    assert 'train_cfg.val_interval' not in message


@pytest.mark.parametrize(
    'text',
    [
        "data_root = '/x/'\n"
        'train_dataloader = dict(dataset=dict(data_root=data_root))\n'
        "val_evaluator = dict(ann_file=data_root + 'b.json')",
        'max_iters = 600',
        'unused = 8',
        'mine = 8',
        "num_things = 3\nmodel = dict(_delete_=True, type='X', n=num_things)",
        # part of a dict, which is merged with the base's
        'loader = dict(num_workers=0)\nval_dataloader = dict(**loader)',
        # the base cannot compute with it, and need not
        'max_iters = None\ntrain_cfg = dict(_delete_=True, max_epochs=3)\n'
        'param_scheduler = []',
    ])
def test_variables_that_a_file_may_set(files, text):
    path = files(text)
    assert read_config(path).to_dict() == Config.fromfile(path).to_dict()


def test_variables_of_the_environment_and_of_the_place(tmp_path, monkeypatch):
    monkeypatch.setenv('ITERS', '50')
    path = tmp_path / 'a.py'
    path.write_text("max_iters = {{'$ITERS:9'}}\n"
                    "folder = '{{ fileDirname }}/data'\n"
                    'train_cfg = dict(max_iters=max_iters, at=folder)\n')
    assert read_config(str(path)).train_cfg.max_iters == 50
    cfg = read_config(str(path), dict(max_iters=3))
    assert cfg.train_cfg == dict(max_iters=3, at=f'{tmp_path}/data')
