"""The miniature Cityscapes: what it promises, read back from its files."""
import hashlib
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label, labels, name2label
from cityscapesscripts.preparation.json2instanceImg import json2instanceImg
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from PIL import Image

from mmengine_exact.errors import InputError
from panoptic_apps.toy_data import miniature as module
from panoptic_apps.toy_data.miniature import make_miniature
from panoptic_fpn.cityscapes import image_id, label_space
from tests.conftest import REPO_ROOT

TOOL = REPO_ROOT / 'tools/dataset_converters/miniature_cityscapes.py'
SPLITS = dict(train=8, val=4, test=2)
KINDS = ('polygons.json', 'labelIds.png', 'instanceIds.png', 'color.png')


def read(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return image


def instance_images(root, split):
    return [
        read(path)
        for path in sorted(root.glob(f'gtFine/{split}/*/*_instanceIds.png'))
    ]


def digest(root):
    content = hashlib.sha256()
    for path in sorted(p for p in root.rglob('*') if p.is_file()):
        content.update(str(path.relative_to(root)).encode())
        content.update(path.read_bytes())
    return content.hexdigest()


@pytest.fixture(name='data', scope='module')
def _data(tmp_path_factory):
    root = tmp_path_factory.mktemp('miniature') / 'data'
    make_miniature(str(root), SPLITS)
    return root


def run_tool(*args, **env):
    return subprocess.run([sys.executable, TOOL, *map(str, args)],
                          env=dict(os.environ, **env),
                          capture_output=True,
                          text=True)


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
        assert len(list(data.glob(f'gtFine/{split}/*/*'))) == 4 * count
        cities = {path.parent.name for path in images}
        assert len(cities) == min(3, count)


def test_files_are_of_the_official_kinds(data):
    for image in data.glob('leftImg8bit/*/*/*.png'):
        assert Image.open(image).mode == 'RGB'
        assert Image.open(image).size == (256, 128)
    for kind, dtype, shape in (('instanceIds', np.uint16, (128, 256)),
                               ('labelIds', np.uint8, (128, 256)),
                               ('color', np.uint8, (128, 256, 4))):
        for path in data.glob(f'gtFine/*/*/*_{kind}.png'):
            found = read(path)
            assert (found.dtype, found.shape) == (dtype, shape)


def test_the_official_converters_draw_the_same_from_the_polygons(
        data, tmp_path):
    for polygons in data.glob('gtFine/*/*/*_polygons.json'):
        content = json.loads(polygons.read_text())
        assert (content['imgHeight'], content['imgWidth']) == (128, 256)
        stem = str(polygons)[:-len('polygons.json')]
        json2instanceImg(str(polygons), str(tmp_path / 'instanceIds.png'))
        json2labelImg(str(polygons), str(tmp_path / 'labelIds.png'))
        json2labelImg(
            str(polygons), str(tmp_path / 'color.png'), encoding='color')
        for kind in ('instanceIds', 'labelIds', 'color'):
            np.testing.assert_array_equal(
                read(tmp_path / f'{kind}.png'), read(f'{stem}{kind}.png'))


@pytest.mark.parametrize('split', ['train', 'val'])
def test_every_split_has_every_class_and_every_kind_of_void(data, split):
    values = set(
        np.concatenate([np.unique(v)
                        for v in instance_images(data, split)]).tolist())
    classes = {v // 1000 if v >= 1000 else v for v in values}
    assert set(label_space().category_ids) <= classes
    # each thing class, caravan and trailer have single instances
    with_instances = {label.id for label in labels if label.hasInstances}
    assert {v // 1000 for v in values if v >= 1000} == with_instances
    # groups: the bare id of a thing class
    groups = {name2label[n].id for n in ('person', 'car', 'bicycle')}
    assert groups <= values
    void = [
        'unlabeled', 'ego vehicle', 'rectification border', 'out of roi',
        'static', 'dynamic', 'ground', 'parking', 'polegroup', 'rail track'
    ]
    assert {name2label[name].id for name in void} <= values
    names = {
        item['label']
        for path in data.glob(f'gtFine/{split}/*/*_polygons.json')
        for item in json.loads(path.read_text())['objects']
    }
    assert {'license plate', 'persongroup', 'cargroup'} <= names


def test_four_images_hold_all_classes_whatever_the_seed(tmp_path):
    for seed in range(1, 6):
        root = tmp_path / str(seed)
        make_miniature(str(root), dict(val=4), seed=seed)
        found = {
            int(v) // 1000 if v >= 1000 else int(v)
            for image in instance_images(root, 'val')
            for v in np.unique(image)
        }
        missing = set(label_space().category_ids) - found
        assert not missing, [id2label[i].name for i in missing]


def test_labels_of_the_test_split_hold_void_alone(data):
    for values in instance_images(data, 'test'):
        assert set(np.unique(values).tolist()) == {0, 1, 2, 3}
    for path in data.glob('gtFine/test/*/*_polygons.json'):
        names = {
            item['label']
            for item in json.loads(path.read_text())['objects']
        }
        assert names == {'ego vehicle', 'rectification border', 'out of roi'}
    # the photographs show streets all the same
    for path in data.glob('leftImg8bit/test/*/*.png'):
        assert read(path)[20:100].std() > 40


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
    run = run_tool(
        again, '--size', 128, 256, *counts, PYTHONHASHSEED='5')
    assert run.returncode == 0, run.stderr
    assert digest(again) == digest(data)
    other = tmp_path / 'other'
    make_miniature(str(other), SPLITS, seed=1)
    images = {p.read_bytes() for p in data.glob('leftImg8bit/*/*/*')}
    others = {p.read_bytes() for p in other.glob('leftImg8bit/*/*/*')}
    assert len(images) == len(others) == sum(SPLITS.values())
    assert not images & others


def test_a_size_without_room_for_all_classes(tmp_path):
    with pytest.raises(InputError, match='too small'):
        make_miniature(str(tmp_path / 'data'), size=(64, 128))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='cannot write'):
        make_miniature(str(tmp_path / 'file' / 'data'))


def test_the_tool_names_what_is_wrong(data, tmp_path):
    run = run_tool(data, '--seed', 3)
    assert run.returncode == 1 and 'Delete the folder' in run.stderr
    assert run_tool(tmp_path / 'x', '--num-val', -2).returncode == 2
