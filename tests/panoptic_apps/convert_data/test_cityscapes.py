"""Preparing Cityscapes: against the official converter and slow oracles."""
import json
import shutil

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic

from panoptic_apps.convert_data import format_summary, prepare
from panoptic_apps.convert_data.cityscapes.prepared import summarize
from panoptic_fpn import cityscapes as cs
from panoptic_fpn.data import CityscapesPanopticDataset


def read(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return image


def prepared(root, split):
    return json.loads((root / f'gtFine/panoptic_fpn_{split}.json').read_text())


@pytest.fixture(scope='module', name='done')
def _done(miniature, tmp_path_factory):
    """The miniature, prepared; of the test split without labels. Read-only."""
    root = tmp_path_factory.mktemp('done') / 'data'
    shutil.copytree(miniature, root)
    shutil.rmtree(root / 'gtFine/test')
    prepare(str(root), num_workers=1, report=str)
    return root


def test_val_equals_what_the_official_converter_writes(done, tmp_path):
    convert2panoptic(str(done / 'gtFine'), str(tmp_path), setNames=['val'])
    name = 'cityscapes_panoptic_val'
    theirs = json.loads((tmp_path / f'{name}.json').read_text())
    ours = json.loads((done / f'gtFine/{name}.json').read_text())
    for image in ours['images']:
        assert (done / 'leftImg8bit/val' / image['file_name']).is_file()
    for image in theirs['images'] + ours['images']:
        image['file_name'] = None
    assert ours == theirs
    pngs = sorted(p.name for p in (tmp_path / name).iterdir())
    assert len(pngs) == 4
    assert pngs == sorted(p.name for p in (done / 'gtFine' / name).iterdir())
    for png in pngs:
        np.testing.assert_array_equal(
            read(done / 'gtFine' / name / png), read(tmp_path / name / png))


def slow_segments(values):
    """Oracle: one pixel after the other; shares no code with the package."""
    found = {}
    for y, row in enumerate(values.tolist()):
        for x, value in enumerate(row):
            found.setdefault(value, []).append((x, y))
    segments, void, ignored = [], [], []
    for value in sorted(found):
        label = id2label[value if value < 1000 else value // 1000]
        if label.ignoreInEval:
            (void if value < 1000 else ignored).append(value)
            continue
        xs, ys = zip(*found[value])
        box = [min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1]
        segments.append(
            dict(
                id=value,
                category_id=label.id,
                area=len(xs),
                bbox=box,
                iscrowd=int(label.hasInstances and value < 1000)))
    return dict(segments_info=segments, void_ids=void, ignored_ids=ignored)


@pytest.mark.parametrize('split, count', [('train', 8), ('val', 4)])
def test_prepared_json_against_a_slow_oracle(done, split, count):
    content = prepared(done, split)
    assert content['categories'] == json.loads(json.dumps(cs.categories()))
    info = content['info']
    assert info['prepared_for'] == 'projects.panoptic_fpn'
    assert (info['version'], info['split']) == (1, split)
    names = [image['id'] for image in content['images']]
    assert len(names) == count and names == sorted(names)
    seen = dict(crowd=0, ignored=0, void=0)
    for image, note in zip(content['images'], content['annotations']):
        photo = done / 'leftImg8bit' / split / image['file_name']
        assert photo.name == image['id'] + '_leftImg8bit.png'
        assert (image['height'], image['width']) == read(photo).shape[:2]
        expected = slow_segments(
            read(done / 'gtFine' / split / note['file_name']))
        assert note == dict(
            expected, image_id=image['id'], file_name=note['file_name'])
        seen['crowd'] += sum(s['iscrowd'] for s in expected['segments_info'])
        seen['ignored'] += len(expected['ignored_ids'])
        seen['void'] += len(expected['void_ids'])
    assert all(seen.values()), seen


def test_the_test_split_lists_images_alone(done):
    content = prepared(done, 'test')
    assert 'annotations' not in content
    assert [image['file_name'] for image in content['images']] == [
        'berlin/berlin_000000_000019_leftImg8bit.png',
        'bielefeld/bielefeld_000000_000019_leftImg8bit.png'
    ]
    assert content['info']['summary'] == dict(images=2, pixels=2 * 128 * 256)


def write_image_pair(root, name, values):
    """A label image of the given values and a black photograph."""
    city = name.split('_')[0]
    for kind, suffix, content in (('leftImg8bit', '_leftImg8bit.png',
                                   np.zeros((*values.shape, 3), np.uint8)),
                                  ('gtFine', '_gtFine_instanceIds.png',
                                   values)):
        folder = root / kind / 'val' / city
        folder.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / f'{name}{suffix}'), content)


def test_summary_of_an_image_by_hand(tmp_path):
    # Rows: 6 sky; 2 cars of 2 and 1 pixels, a group of 2 and 1 void; road
    # with one caravan pixel; ego vehicle.
    values = np.array([[23] * 6, [26000, 26000, 26001, 26, 26, 4],
                       [7, 7, 7, 7, 7, 29000], [1] * 6], np.uint16)
    write_image_pair(tmp_path, 'bonn_000000_000019', values)
    summary = prepare(str(tmp_path), ['val'], report=str)['val']
    rows = {row['name']: row for row in summary.pop('classes')}
    assert summary == dict(images=1, pixels=24, void_pixels=8, ignored=1)
    assert list(rows)[:9] == [
        'person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle',
        'bicycle', 'road'
    ]
    assert rows.pop('car') == dict(
        name='car', isthing=1, segments=2, groups=1, images=1, pixels=5)
    assert rows.pop('sky') == dict(
        name='sky', isthing=0, segments=1, groups=0, images=1, pixels=6)
    assert rows.pop('road')['pixels'] == 5
    assert len(rows) == 16
    assert not any(
        row['segments'] + row['groups'] + row['images'] + row['pixels']
        for row in rows.values())


def test_the_table_shows_groups_of_things_alone(done):
    summary = prepared(done, 'val')['info']['summary']
    lines = format_summary('val', summary).splitlines()
    assert lines[0].startswith('val: 4 images, 2 instances of caravan')
    cells = {
        line.split('|')[1].strip(): [c.strip() for c in line.split('|')[2:-1]]
        for line in lines if line.startswith('|')
    }
    car = next(row for row in summary['classes'] if row['name'] == 'car')
    counts = [str(car[key]) for key in ('segments', 'groups', 'images')]
    share = f'{100 * car["pixels"] / (4 * 128 * 256):.2f}%'
    assert cells['car'] == [*counts, share]
    assert cells['road'][:3] == ['4', '', '4']
    shares = [float(row[-1][:-1]) for row in list(cells.values())[1:]]
    assert sum(shares) == pytest.approx(100, abs=.1)
    assert '0 images' in format_summary('val', summarize([]))


def test_another_folder_to_write_to(root, done, tmp_path):
    """As where the data are read-only."""
    out = tmp_path / 'out'
    before = {p for p in root.rglob('*')}
    prepare(str(root), num_workers=1, report=str, out=str(out))
    assert {p for p in root.rglob('*')} == before
    written = {p.relative_to(out) for p in out.rglob('*') if p.is_file()}
    assert len(written) == 4 + 4  # JSON files, PNGs of val
    for name in written:
        assert (out / name).read_bytes() == (done / name).read_bytes()
    dataset = CityscapesPanopticDataset(
        data_root=str(root),
        ann_file=str(out / 'gtFine' / 'panoptic_fpn_val.json'),
        data_prefix=dict(img='leftImg8bit/val/', seg='gtFine/val/'),
        test_mode=True,
        pipeline=[
            dict(type='LoadPanopticImage'),
            dict(type='LoadPanopticMap')
        ])
    assert dataset[0]['gt_seg_map'].shape == dataset[0]['img'].shape[:2]
