"""The Python of docs/import.md."""
import json

import numpy as np
import pytest
from mmengine.config import Config

from tests.conftest import REPO_ROOT
from tests.docs.pages import blocks
from tests.oracles.perturb import random_data, write_coco_panoptic
from tests.panoptic_apps.check_dataset.data import read_ids


def texts(with_):
    return [
        block.text for block in blocks('docs/import.md')
        if block.language == 'python' and with_ in block.text
    ]


def test_configs_load(tmp_path):
    """They change nothing but where files are read from."""
    zips, lmdb = [
        text.replace('../', f'{REPO_ROOT}/configs/')
        for text in texts('_base_ =')
    ]
    (tmp_path / 'zips.py').write_text(zips)
    (tmp_path / 'lmdb.py').write_text(lmdb)
    base = Config.fromfile(REPO_ROOT /
                           'configs/coco/panoptic-fpn_r50_fpn_1x_coco.py')
    for key in ('train', 'val', 'test'):
        dataset = Config.fromfile(tmp_path / 'zips.py')[f'{key}_dataloader']
        dataset = dataset.dataset.to_dict()
        expected = base[f'{key}_dataloader'].dataset.to_dict()
        assert dataset.pop('data_root') == 'zip://' + expected.pop('data_root')
        for kind, folder in expected.pop('data_prefix').items():
            archive = dataset['data_prefix'].pop(kind)
            name = folder.rstrip('/').rsplit('/')[-1]
            assert archive == f'{folder.rstrip("/")}.zip/{name}/'
        assert dataset.pop('data_prefix') == {} and dataset == expected
    dataset = Config.fromfile(tmp_path / 'lmdb.py').train_dataloader.dataset
    dataset, expected = dataset.to_dict(), base.train_dataloader.dataset
    for step in dataset['pipeline'][:2]:
        assert step['backend_args'].pop('backend') == 'lmdb'
        step['backend_args'] = None
    assert dataset == expected.to_dict()


def in_folders(path):
    """Names of the same stem in different folders, and empty boxes."""
    content = json.loads(path.read_text())
    for folder, key in (('images', 'images'), ('panoptic', 'annotations')):
        for i, entry in enumerate(content[key]):
            old = path.parent / folder / entry['file_name']
            entry['file_name'] = f'{i}/0{old.suffix}'
            new = path.parent / folder / entry['file_name']
            new.parent.mkdir()
            old.rename(new)
    for segment in content['annotations'][0]['segments_info']:
        segment['bbox'] = []
    path.write_text(json.dumps(content))


def test_to_fiftyone_and_back(tmp_path):
    pytest.importorskip('fiftyone')
    found = {}
    text, = texts('import fiftyone')
    exec(text, found)
    data = random_data(5, num_images=3)
    path = write_coco_panoptic(data, tmp_path / 'data', with_images=True)
    root = path.parent
    in_folders(path)
    samples, categories = found['read_samples'](path, root / 'images',
                                                root / 'panoptic')
    found['write_samples'](samples, 'ground_truth', categories,
                           tmp_path / 'back')
    old, new = map(json.loads,
                   (path.read_text(), (tmp_path / 'back.json').read_text()))
    assert new['categories'] == old['categories']
    assert new['images'] == old['images']
    for old_note, new_note in zip(old['annotations'], new['annotations']):
        before = read_ids(root / 'panoptic' / old_note['file_name'])
        after = read_ids(tmp_path / 'back' / new_note['file_name'])
        segments = old_note['segments_info']
        expected = np.zeros_like(before)
        for number, segment in enumerate(segments, 1):
            expected[before == segment['id']] = number
        assert np.array_equal(after, expected)
        assert new_note['segments_info'] == [
            dict(
                id=number,
                category_id=segment['category_id'],
                iscrowd=segment['iscrowd'])
            for number, segment in enumerate(segments, 1)
        ]
