"""The miniature Cityscapes: what it promises, read back from its files."""
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels, name2label
from cityscapesscripts.preparation.json2instanceImg import json2instanceImg
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from PIL import Image

from mmengine_exact.errors import InputError
from panoptic_apps.toy_data import miniature as module
from panoptic_apps.toy_data.miniature import make_miniature
from panoptic_fpn.cityscapes import image_id, label_space
from tests.conftest import REPO_ROOT, call_tool

TOOL = REPO_ROOT / 'tools/dataset_converters/miniature_cityscapes.py'
SPLITS = dict(train=8, val=4, test=2)
KINDS = ('polygons.json', 'labelIds.png', 'instanceIds.png', 'color.png')


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def values_of(root, split):
    """All values of the instance images of a split."""
    paths = root.glob(f'gtFine/{split}/*/*_instanceIds.png')
    return set().union(*(np.unique(read(path)).tolist() for path in paths))


def names_of(root, split):
    return {
        item['label']
        for path in root.glob(f'gtFine/{split}/*/*_polygons.json')
        for item in json.loads(path.read_text())['objects']
    }


def contents(root):
    return {
        path.relative_to(root): path.read_bytes()
        for path in root.rglob('*') if path.is_file()
    }


@pytest.fixture(name='data', scope='module')
def _data(tmp_path_factory):
    root = tmp_path_factory.mktemp('miniature') / 'data'
    make_miniature(str(root), SPLITS)
    return root


def test_folders_and_names_are_those_of_cityscapes(data):
    for split, count in SPLITS.items():
        images = sorted(data.glob(f'leftImg8bit/{split}/*/*'))
        assert len(images) == count
        for path in images:
            name = image_id(str(path))
            city, sequence, frame = name.split('_')
            assert path.name == f'{name}_leftImg8bit.png'
            assert path.parent.name == city
            assert (len(sequence), len(frame)) == (6, 6)
            for kind in KINDS:
                folder = data / 'gtFine' / split / city
                assert (folder / f'{name}_gtFine_{kind}').is_file()
            assert Image.open(path).mode == 'RGB'
            assert Image.open(path).size == (256, 128)
            assert read(path)[20:100].std() > 40
        assert len(list(data.glob(f'gtFine/{split}/*/*'))) == 4 * count
        cities = {path.parent.name for path in images}
        assert len(cities) == min(3, count)


def test_label_images_are_those_that_the_official_converters_draw(
        data, tmp_path):
    for polygons in data.glob('gtFine/*/*/*_polygons.json'):
        content = json.loads(polygons.read_text())
        assert (content['imgHeight'], content['imgWidth']) == (128, 256)
        stem = str(polygons)[:-len('polygons.json')]
        json2instanceImg(str(polygons), str(tmp_path / 'instanceIds.png'))
        json2labelImg(str(polygons), str(tmp_path / 'labelIds.png'))
        json2labelImg(
            str(polygons), str(tmp_path / 'color.png'), encoding='color')
        for kind, dtype in (('instanceIds', np.uint16), ('labelIds', np.uint8),
                            ('color', np.uint8)):
            ours = read(f'{stem}{kind}.png')
            assert ours.dtype == dtype
            np.testing.assert_array_equal(read(tmp_path / f'{kind}.png'), ours)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_every_split_has_every_class_and_every_kind_of_void(data, split):
    values = values_of(data, split)
    classes = {v // 1000 if v >= 1000 else v for v in values}
    assert set(label_space().category_ids) <= classes
    # each thing class, caravan and trailer have single instances
    with_instances = {label.id for label in labels if label.hasInstances}
    assert {v // 1000 for v in values if v >= 1000} == with_instances
    # groups: the bare id of a thing class
    void = [
        'unlabeled', 'ego vehicle', 'rectification border', 'out of roi',
        'static', 'dynamic', 'ground', 'parking', 'polegroup', 'rail track'
    ]
    assert {
        name2label[name].id
        for name in [*void, 'person', 'car', 'bicycle']
    } <= values
    assert {'license plate', 'persongroup',
            'cargroup'} <= names_of(data, split)


def test_four_images_hold_all_classes_whatever_the_seed(tmp_path):
    for seed in range(1, 6):
        root = tmp_path / str(seed)
        make_miniature(str(root), dict(val=4), seed=seed)
        found = {v // 1000 if v >= 1000 else v for v in values_of(root, 'val')}
        assert set(label_space().category_ids) <= found


def test_labels_of_the_test_split_hold_void_alone(data):
    assert values_of(data, 'test') == {0, 1, 2, 3}
    assert names_of(
        data, 'test') == {'ego vehicle', 'rectification border', 'out of roi'}


def test_full_size_images_hold_as_many_segments_as_cityscapes():
    size = (1024, 2048)
    image, items = module.draw_street('val', 0, 4, size, 0)
    values = module.label_images(module.polygon_json(items,
                                                     size))['instanceIds']
    assert image.shape == (1024, 2048, 3) and values.shape == size
    kinds, areas = np.unique(values, return_counts=True)
    assert 35 <= len(kinds) <= 75
    things = areas[kinds >= 1000]
    # from far away to near, as on a real street
    assert things.min() < 4000 and things.max() > 40000


def test_the_seed_decides(data, tmp_path):
    """In another process too, where sets have another order."""
    again = tmp_path / 'again'
    counts = [f'--num-{split}={count}' for split, count in SPLITS.items()]
    subprocess.run(
        [sys.executable, TOOL, again, '--size', '128', '256', *counts],
        env=dict(os.environ, PYTHONHASHSEED='5'),
        check=True)
    assert contents(again) == contents(data)
    make_miniature(str(tmp_path / 'other'), dict(val=4), seed=1)
    images = {p.read_bytes() for p in tmp_path.glob('*/leftImg8bit/*/*/*')}
    assert len(images) == sum(SPLITS.values()) + 4


def test_a_size_without_room_for_all_classes(tmp_path):
    with pytest.raises(InputError, match='too small'):
        make_miniature(str(tmp_path / 'data'), size=(64, 128))
    assert not list(tmp_path.iterdir())


def test_the_tool_names_what_is_wrong(data, tmp_path, monkeypatch, capsys):
    name = 'dataset_converters/miniature_cityscapes'
    assert call_tool(monkeypatch, name, data, '--seed', 3) == 1
    assert 'Delete the folder' in capsys.readouterr().err
    assert call_tool(monkeypatch, name, tmp_path / 'x', '--num-val', -2) == 2
