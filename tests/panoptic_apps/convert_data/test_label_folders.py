"""Folders in the style of Cityscapes, against plain loops."""
import json

import numpy as np
import pytest
from PIL import Image

from mmengine_exact.errors import InputError
from mmengine_exact.files import write_bytes
from panoptic_apps.convert_data import (convert_label_folders, panoptic_folder,
                                        resumable)
from panoptic_apps.convert_data.label_map import class_table, read_rows

from .conftest import faults_of, names_of, written

CLASSES = [
    dict(id=40, name='sky', isthing=0, values=[0, 9], color=[1, 2, 3]),
    dict(id=7, name='road', isthing=0),
    dict(id=26, name='car', isthing=1),
    dict(id=3, name='border', isthing=0, ignore=1),
]
CSV = ('id,name,isthing,ignore,values,color\n40,sky,0,,0 9,1 2 3\n'
       '7,road,0,0,,\n26,car,1,,,\n3,border,0,1,,\n')


def label_map(index):
    """Two cars, a group of cars, both values of sky, void: (24, 32)."""
    values = np.full((24, 32), 7, np.uint16)
    values[:6] = 0
    values[6:8] = 9
    values[10:14, 2 + index:9] = 26001
    values[12:18, 7:12] = 26002
    values[12:18, 20:25] = 26
    values[20:, :5] = 3
    values[20:, 10:14] = 200
    return values


@pytest.fixture(name='folders')
def _folders(tmp_path):
    for index, city in enumerate(('a', 'a', 'b')):
        for kind in ('images', 'labels'):
            (tmp_path / kind / city).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(index).integers(0, 255, (24, 32, 3))
        Image.fromarray(noise.astype(np.uint8)).save(
            tmp_path / f'images/{city}/{index}_photo.png')
        Image.fromarray(label_map(index)).save(
            tmp_path / f'labels/{city}/{index}_ids.png')
    (tmp_path / 'classes.json').write_text(json.dumps(CLASSES))
    return tmp_path


def convert(folders, **kwargs):
    return convert_label_folders(
        str(folders / 'images'), str(folders / 'labels'),
        str(folders / 'classes.json'), str(folders / 'out'), 'set',
        **dict(
            dict(
                image_suffix='_photo.png',
                label_suffix='_ids.png',
                void_values=(200, ),
                num_workers=1,
                report=str), **kwargs))


def read_class_table(path, **kwargs):
    return class_table(read_rows(path), path, **kwargs)


def contents(folders):
    """Bytes of every file below the results, hidden ones too."""
    out = folders / 'out'
    return {
        str(p.relative_to(out)): p.read_bytes()
        for p in out.rglob('*') if p.is_file()
    }


def test_every_pixel_is_the_segment_of_its_value(folders):
    summary = convert(folders)
    content = json.loads((folders / 'out/set.json').read_text())
    assert [i['id'] for i in content['images']] == ['a/0', 'a/1', 'b/2']
    assert [c['id'] for c in content['categories']] == [40, 7, 26]
    assert content['categories'][0]['color'] == [1, 2, 3]
    segments = 0
    for index, (image, note) in enumerate(
            zip(content['images'], content['annotations'])):
        assert image['file_name'] == f'{image["id"]}_photo.png'
        assert (image['height'], image['width']) == (24, 32)
        rgb = np.asarray(Image.open(folders / 'out/set' /
                                    note['file_name'])).astype(int)
        by_id = {s['id']: s for s in note['segments_info']}
        segments += len(by_id)
        for place, value in np.ndenumerate(label_map(index)):
            id_ = rgb[place] @ [1, 256, 65536]
            if value in (3, 200):
                assert id_ == 0
                continue
            car = value in (26, 26001, 26002)
            found = by_id[id_]
            assert found['category_id'] == (26 if car else
                                            7 if value == 7 else 40)
            assert found['iscrowd'] == int(value == 26)
            # both values of sky are one segment
            assert found['id'] == (65536 if value in (0, 9) else value)
    assert summary == dict(
        images=3,
        segments=segments,
        crowd=3,
        void_pixels=sum(
            int(np.isin(label_map(i), (3, 200)).sum()) for i in range(3)))


def test_the_result_passes_the_check(folders):
    convert(folders)
    assert faults_of(folders) == {}


def test_a_csv_says_the_same(folders):
    (folders / 'classes.csv').write_text(CSV)
    assert read_class_table(str(folders / 'classes.csv')) == read_class_table(
        str(folders / 'classes.json'))


@pytest.mark.parametrize('text', [
    CSV.replace(',', ' , '),
    CSV.replace(',', ';').replace('0 9', '0, 9').replace('1 2 3', '#010203'),
    CSV.replace(',', '\t').replace('\n', '\r\n'),
    CSV.replace('\n', '\n,,,,,\n\n ; ;\n'),
    CSV.replace('id,name,isthing', 'ID,Name,IsThing'),
    CSV.replace('car,1', 'car,TRUE').replace('sky,0', 'sky,False').replace(
        'road,0', 'road,no').replace(',0,1,', ',No,yes,'),
    CSV.replace('color', 'r,g,b').replace('1 2 3', '1,2,3'),
    CSV.replace('1 2 3', '"(1, 2, 3)"').replace('car,1', 'car,1.0'),
    CSV.replace('1 2 3', '"[1, 2, 3]"').replace('car,1', 'car,thing').replace(
        'sky,0', 'sky,stuff'),
    CSV.replace('1 2 3', '010203').replace('car,1', 'car,t').replace(
        'sky,0', 'sky,f').replace('road,0', 'road,0.0'),
    '# classes, by hand\n# 2024\n' + CSV,
])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_a_csv_as_spreadsheets_write_it(folders, text, encoding):
    (folders / 'classes.csv').write_bytes(text.encode(encoding))
    assert read_class_table(str(folders / 'classes.csv')) == read_class_table(
        str(folders / 'classes.json'))


def test_things_by_name(folders):
    """Where isthing is missing or wrong."""
    path = folders / 'classes.csv'
    path.write_text('id,name,isthing,ignore\n40,sky,1\n7,road\n3,edge,1,y\n')
    table = read_class_table(str(path), things=['road'])
    assert [(c['name'], c['isthing'])
            for c in table.categories] == [('sky', 0), ('road', 1)]
    assert table.category_of == {40: 40, 7: 7, 3: None}
    with pytest.raises(InputError, match="no class is called 'Road', but 's"):
        read_class_table(str(path), things=['Road'])


def interrupt_at_b(path, content):
    if 'b/' in path:
        raise KeyboardInterrupt
    write_bytes(path, content)


def test_an_interrupted_run_leaves_no_json_and_is_continued(
        folders, monkeypatch):
    convert(folders)
    expected = contents(folders)
    assert set(expected) == {
        'set.json', 'set/a/0_photo.png', 'set/a/1_photo.png',
        'set/b/2_photo.png'
    }
    with monkeypatch.context() as patch:
        patch.setattr(resumable, 'write_bytes', interrupt_at_b)
        with pytest.raises(KeyboardInterrupt):
            convert(folders)
    assert not (folders / 'out/set.json').exists()
    lines = []
    convert(folders, num_workers=2, report=lines.append)
    assert '2 of 3 images are converted already' in lines
    assert contents(folders) == expected


def interrupt(*_):
    raise KeyboardInterrupt


def test_other_rules_take_nothing_over(folders, monkeypatch):
    lines = []
    # 7 is a class: it stays one, and so do all results
    for voids in ((200, ), (200, 7)):
        with monkeypatch.context() as patch:
            # killed when all images are done
            patch.setattr(panoptic_folder, 'write_if_changed', interrupt)
            with pytest.raises(KeyboardInterrupt):
                convert(folders, void_values=voids, report=lines.append)
    assert '3 of 3 images are converted already' in lines
    changed = [dict(c) for c in CLASSES]
    changed[1]['id'], changed[1]['values'] = 8, [7]
    (folders / 'classes.json').write_text(json.dumps(changed))
    lines.clear()
    convert(folders, report=lines.append)
    assert not any('already' in line for line in lines)
    content = json.loads((folders / 'out/set.json').read_text())
    ids = {
        s['category_id']
        for n in content['annotations']
        for s in n['segments_info']
    }
    assert ids == {40, 8, 26}


def spoil(folders, change):
    path = folders / 'labels/a/0_ids.png'
    values = np.asarray(Image.open(path)).copy()
    Image.fromarray(change(values)).save(path)


@pytest.mark.parametrize('change,why', [
    (lambda v: np.where(v == 26, 99, v).astype(np.uint16),
     'value 99: no class has it'),
    (lambda v: np.where(v == 26, 60001, v).astype(np.uint16),
     'value 60001: no class has 60.'),
    (lambda v: np.where(v == 26, 7001, v).astype(np.uint16), 'which is stuff'),
    (lambda v: np.stack([v % 255] * 3, -1).astype(np.uint8),
     "3 channels, which hold colours"),
    (lambda v: v[:20], 'but its image is (24, 32)'),
])
def test_label_maps_that_cannot_be_used(folders, change, why):
    spoil(folders, change)
    with pytest.raises(InputError) as error:
        convert(folders)
    assert why in str(error.value)
    assert 'labels/a/0_ids.png' in str(error.value)
    assert not (folders / 'out/set.json').exists()


@pytest.mark.parametrize('rows,why', [
    ([dict(id=1, name='a')], '`isthing` - at `$[0]`'),
    ([dict(id='x', name='a', isthing=1)], 'at `$[0].id`'),
    ([dict(id=1, name='a', isthing=3)], 'at `$[0].isthing`'),
    ([dict(id=1, name='a', isthing=1),
      dict(id=1, name='b', isthing=1)], 'belongs to two'),
    ([dict(id=1, name='a', isthing=1),
      dict(id=2, name='a', isthing=1)], "name 'a'"),
    ([dict(id=1, name='a', isthing=1, values=[1000])], 'not below the offset'),
    ([dict(id=0, name='a', isthing=1)], "0 of label maps is the thing 'a'"),
    ([dict(name='a', isthing=1, color='#80')
      ], 'Expected `int`, got `str` - at `$[0].color[0]`'),
    ([], 'length >= 1'),
    ({}, 'not a class list'),
])
def test_class_lists_that_cannot_be_used(folders, rows, why):
    (folders / 'classes.json').write_text(json.dumps(rows))
    with pytest.raises(InputError) as error:
        convert(folders)
    assert why in str(error.value) and 'classes.json' in str(error.value)


def test_images_without_label_map(folders):
    (folders / 'labels/b/2_ids.png').unlink()
    with pytest.raises(InputError, match='label map of b/2_photo.png'):
        convert(folders)
    with pytest.raises(InputError, match='no image that ends with .tiff'):
        convert(folders, image_suffix='.tiff')


def test_a_palette_counts_by_its_indices(folders):
    values = np.where(np.arange(24)[:, None] < 9, 9, 7) + np.zeros(
        (24, 32), int)
    picture = Image.fromarray(values.astype(np.uint8)).convert('P')
    picture.putpalette(list(range(255, -1, -1)) * 3)
    picture.save(folders / 'labels/a/0_ids.png')
    convert(folders)
    content = json.loads((folders / 'out/set.json').read_text())
    assert {(s['id'], s['category_id'], s['area'])
            for s in content['annotations'][0]['segments_info']
            } == {(9, 40, 9 * 32), (7, 7, 15 * 32)}


def test_files_that_systems_leave_are_skipped(folders):
    expected = convert(folders)
    for name in ('.DS_Store', 'a/._0_photo.png', 'a/Thumbs.db', '.git/_photo',
                 'a/@eaDir/0_photo.png/SYNOPHOTO_THUMB_photo.png',
                 '__MACOSX/a/0_photo.png', '.ipynb_checkpoints/0_photo.png'):
        path = folders / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'no image')
    assert convert(folders) == expected


def test_stuff_with_number_0_as_in_kitti(folders):
    """``class * 256 + number``; instance 0 of a thing is an instance."""
    values = np.full((24, 32), 7 * 256, np.uint16)
    values[:6] = 40 * 256
    values[8:12, 4:9] = 26 * 256
    values[8:12, 14:19] = 26 * 256 + 1
    values[20:] = 3 * 256
    spoil(folders, lambda v: values)
    for path in ('a/1', 'b/2'):
        (folders / f'images/{path}_photo.png').unlink()
    classes = [dict(c, values=None) for c in CLASSES]
    (folders / 'classes.json').write_text(json.dumps(classes))
    convert(folders, offset=256)
    content, ids = written(folders / 'out/set')
    want = np.full((24, 32), 'road', object)
    want[:6], want[20:] = 'sky', ''
    want[8:12, 4:9] = want[8:12, 14:19] = 'car'
    assert (names_of(content, ids) == want).all()
    assert len(content['annotations'][0]['segments_info']) == 4
    with pytest.raises(
            InputError, match=r'768: no class .*--offset \(KITTI, M'):
        convert(folders)
    spoil(folders, lambda v: v + (v == 7 * 256))
    with pytest.raises(InputError, match='instance 1 of class 7, which is st'):
        convert(folders, offset=256)


def test_a_thing_of_class_0_where_every_value_has_a_number(folders):
    """As in Mapillary: value 7 is instance 7 of class 0, not class 7."""
    rows = [dict(CLASSES[1], id=0, isthing=1), dict(CLASSES[0], values=[7])]
    (folders / 'classes.json').write_text(json.dumps(rows))
    values = np.full((24, 32), 7 * 256, np.uint16)
    values[:6], values[9:12], values[20:] = 7, 0, 65535
    for path in (folders / 'labels').rglob('*.png'):
        Image.fromarray(values).save(path)
    with pytest.raises(InputError, match="thing 'road'.*--numbered"):
        convert(folders, offset=256)
    convert(folders, offset=256, numbered=True, void_values=[65535])
    content, ids = written(folders / 'out/set')
    want = np.full((24, 32), 'sky', object)
    want[:6] = want[9:12] = 'road'
    want[20:] = ''
    assert (names_of(content, ids) == want).all()
    assert len(content['annotations'][0]['segments_info']) == 3


def test_values_of_more_than_three_bytes(folders):
    """They do not fit into a panoptic PNG: segments have other ids."""
    values = np.where(np.arange(32) < 9, 26 * 10**6 + 1, 7)
    values = (values + np.zeros((24, 1))).astype(np.int32)
    Image.fromarray(values).save(folders / 'labels/x.tif')
    Image.new('RGB', (32, 24)).save(folders / 'images/x.bmp')
    convert(folders, image_suffix='.bmp', label_suffix='.tif', offset=10**6)
    content, ids = written(folders / 'out/set')
    assert (names_of(content, ids)[0] == ['car'] * 9 + ['road'] * 23).all()


def test_the_tool(folders, run_tool, capfd):
    args = [
        folders / 'images', folders / 'labels', folders / 'classes.json',
        '--name', 'set', '--image-suffix', '_photo.png', '--label-suffix',
        '_ids.png', '--num-workers', 1, '--void-values', 200
    ]
    assert run_tool('cityscapes_style', *args, '--out-dir',
                    folders / 'out') == 0
    assert '3 images, 15 segments, 3 of them crowd' in capfd.readouterr().out
    for wrong in (['--out-dir', folders, '--name',
                   'images'], ['--out-dir', folders, '--offset',
                               1], ['--out-dir', folders, '--name', 'a/b']):
        assert run_tool('cityscapes_style', *args, *wrong) == 2
