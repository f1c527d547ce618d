"""Counted classes against counting the maps themselves."""
import json

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config

import panoptic_fpn  # noqa: F401  registers
from mmengine_exact.errors import CorruptFileError, InputError
from panoptic_apps.class_frequencies import class_frequencies
from panoptic_fpn.models.class_balance import log_prior
from tests.conftest import call_tool
from tests.oracles.derive import count_things, derive_semantic
from tests.oracles.perturb import random_data, write_coco_panoptic
from tests.oracles.semantic import gt_channels
from tests.panoptic_fpn.data import coco_stuff


def stuff_config(root, **head):
    dataset = dict(
        type='CocoStuffDataset',
        data_root=str(root),
        ann_file='annotations/stuff_train2017.json',
        data_prefix=dict(
            img='train2017/', seg='annotations/stuff_train2017_pixelmaps/'),
        pipeline=[dict(type='LoadPanopticImage')])
    return Config(
        dict(
            model=dict(semantic_head=head),
            train_dataloader=dict(dataset=dataset)))


@pytest.fixture
def stuff(tmp_path):
    return tmp_path, coco_stuff.write_coco_stuff(tmp_path, 35, 1)['train']


def pixels_of(content):
    return [entry['pixels'] for entry in content['classes']]


@pytest.mark.parametrize('workers', [1, 2])
def test_coco_stuff(stuff, workers):
    """More images than one job has; void is nothing. A broken map is named."""
    root, maps = stuff
    content = class_frequencies(stuff_config(root), workers)
    expected = sum(
        np.bincount(ids.ravel(), minlength=184) for ids in maps.values())
    assert expected[0] > 0
    assert pixels_of(content) == expected[92:].tolist()
    names = [entry['name'] for entry in content['classes']]
    assert names == [f'stuff-{i}' for i in range(92, 183)] + ['other']
    assert content['images'] == 35 and content['predict_things'] is False
    maps = root / 'annotations/stuff_train2017_pixelmaps'
    (maps / '000000000007.png').unlink()
    with pytest.raises(CorruptFileError, match='000000000007.png'):
        class_frequencies(stuff_config(root), workers)


@pytest.mark.parametrize('predict_things', [False, True])
def test_panoptic_data(tmp_path, predict_things):
    """Crowd and things in RGB maps, without reading the images; twice."""
    data = random_data(11, num_images=3, shape=(45, 61))
    path = write_coco_panoptic(data, tmp_path)
    config = stuff_config(tmp_path, predict_things=predict_things)
    leaf = dict(
        type='CocoPanopticFPNDataset',
        data_root=str(path.parent),
        ann_file=path.name,
        data_prefix=dict(img='images/', seg='panoptic/'),
        pipeline=[])
    config.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[leaf, leaf])
    things = count_things(data.categories)
    stuff = len(data.categories) - things
    expected = np.zeros(stuff + (things if predict_things else 1), int)
    for image in data.images:
        labels = derive_semantic(image.id_map, image.segments, data.categories)
        channels = gt_channels(labels, things, stuff, predict_things)
        for channel in channels[channels >= 0]:
            expected[channel] += 2
    content = class_frequencies(config, 1)
    assert pixels_of(content) == expected.tolist()
    assert content['images'] == 6
    assert content['predict_things'] is predict_things


@pytest.mark.parametrize('key', ['model', 'train_dataloader'])
def test_configs_that_cannot_be_counted(tmp_path, key):
    config = stuff_config(tmp_path)
    config[key] = {} if key == 'model' else None
    with pytest.raises(InputError, match='Give a config that has both'):
        class_frequencies(config, 1)


def test_tool(stuff, tmp_path, monkeypatch, capsys):
    root, _ = stuff
    config, out = tmp_path / 'config.py', tmp_path / 'new' / 'f.json'
    stuff_config(root).dump(config)
    assert call_tool(monkeypatch, 'class_frequencies', config, '--out', out,
                     '--num-workers', 1) == 0
    assert '35 images; most and least frequent of 92' in capsys.readouterr(
    ).out
    counts = np.array(pixels_of(json.loads(out.read_text())))
    counts = np.maximum(counts, counts[counts > 0].min())
    prior = log_prior(str(out), 1.0, 92, False)
    assert np.allclose(prior, np.log(counts / counts.sum()), atol=0.02)
    out.unlink()
    (root / 'annotations/stuff_train2017.json').unlink()
    assert call_tool(monkeypatch, 'class_frequencies', config, '--out',
                     out) == 1
    said = capsys.readouterr().err
    assert 'stuff_train2017.json: cannot read' in said
    assert 'No such file' in said
    assert not out.exists()
    for args in ((tmp_path / 'no.py', '--out', out), (config, ),
                 (config, '--out', tmp_path), (config, '--out', 'f.txt'),
                 (config, '--out', out, '--num-workers', 0)):
        assert call_tool(monkeypatch, 'class_frequencies', *args) == 2


def test_images_share_the_list_of_all_classes(stuff):
    """118k images of COCO with 92 classes each would not fit a memory."""
    dataset = DATASETS.build(stuff_config(stuff[0]).train_dataloader.dataset)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert len(infos) > 1
    assert all(info['segments_info'] is infos[0]['segments_info']
               for info in infos)
