"""Exports of annotation tools, drawn in their layouts: polygons and RLEs of
CVAT (COCO 1.0), LabelMe, Label Studio and Roboflow; masks of CVAT and VOC.

The scene: sky above, road below, a small car in front of a large one, which
both stand on the road; a strip at the bottom without label.
"""
import json

import numpy as np
import pytest
from PIL import Image

from .conftest import box, names_of, written
from .test_instances_and_semantic import rle

SIZE = 20, 30
SHAPES = [('sky', box(0, 0, 9, 30)), ('car', box(4, 3, 14, 15)),
          ('car', box(9, 11, 14, 20)), ('road', box(7, 0, 18, 30))]
COCO = 'coco_instances_and_semantic'


def scene(uncovered=''):
    """Names by hand; road is smaller than sky, as is the second car."""
    names = np.full(SIZE, uncovered, object)
    names[7:18] = 'road'
    names[:9] = 'sky'
    names[4:14, 3:15] = 'car'
    names[9:14, 11:20] = 'car'
    return names


def coco(file_name, categories, first=1, heading=(), **more):
    """A JSON with the ids that tools count from ``first``."""
    ids = {name: i for i, name in enumerate(categories, first)}
    notes = []
    for i, (name, polygon) in enumerate(SHAPES, first):
        x, y, right, _, _, bottom = polygon[0][:6]
        notes.append(
            dict(
                id=i,
                image_id=first,
                category_id=ids[name],
                segmentation=[[float(v) for v in polygon[0]]],
                bbox=[x, y, right - x, bottom - y],
                area=float((right - x) * (bottom - y)),
                iscrowd=0,
                **more))
    return dict(
        images=[
            dict(id=first, file_name=file_name, height=SIZE[0], width=SIZE[1])
        ],
        categories=[*heading] + [
            dict(id=id_, name=name, supercategory='')
            for name, id_ in ids.items()
        ],
        annotations=notes)


def cvat():
    found = coco(
        'a.jpg', ['car', 'sky', 'road', 'bird'],
        attributes={'occluded': False})
    found['licenses'] = [dict(name='', id=0, url='')]
    found['info'] = dict.fromkeys(('contributor', 'date_created',
                                   'description', 'url', 'version', 'year'),
                                  '')
    found['images'][0].update(
        license=0, flickr_url='', coco_url='', date_captured=0)
    # a mask of the brush
    found['annotations'][0].update(
        segmentation=rle(0, 0, 9, 30, compressed=False), iscrowd=1)
    found['annotations'][2].update(
        segmentation=rle(9, 11, 14, 20, compressed=False), iscrowd=1)
    return found


def labelme():
    found = coco(
        'JPEGImages/a.jpg', ['car', 'sky', 'road'],
        heading=[dict(supercategory=None, id=0, name='_background_')])
    for category in found['categories']:
        category['supercategory'] = None
    found.update(
        info=dict(description=None, url=None, version=None, year=2024),
        licenses=[dict(url=None, id=0, name=None)],
        type='instances')
    return found


def label_studio(name='images\\7f0c1d2e-a.jpg'):
    found = coco(name, ['car', 'road', 'sky'], first=0, ignore=0)
    for category in found['categories']:
        del category['supercategory']
    found['info'] = dict(
        year=2024, version='1.0', description='', contributor='Label Studio')
    return found


def roboflow():
    found = coco(
        'a_jpg.rf.0123456789abcdef0123456789abcdef.jpg',
        ['car', 'road', 'sky'],
        heading=[dict(id=0, name='street', supercategory='none')])
    for category in found['categories'][1:]:
        category['supercategory'] = 'street'
    found['images'][0].update(
        license=1,
        date_captured='2024-03-01T10:00:00+00:00',
        extra=dict(name='a.jpg'))
    return found


@pytest.fixture(name='convert')
def _convert(tmp_path, run_tool, capsys):
    """Run the tool for COCO; the names of pixels, the JSON, what it says."""

    def convert(content, *options, code=0):
        (tmp_path / 'instances.json').write_text(json.dumps(content))
        assert run_tool(COCO, tmp_path / 'instances.json', '--out-dir',
                        tmp_path / 'out', *options) == code
        said = ''.join(capsys.readouterr())
        if code:
            return said
        content, ids = written(tmp_path / 'out/panoptic')
        return names_of(content, ids), content, said

    return convert


@pytest.mark.parametrize('export, name', [
    (labelme, 'JPEGImages/a.jpg'),
    (label_studio, 'images/7f0c1d2e-a.jpg'),
    (roboflow, 'a_jpg.rf.0123456789abcdef0123456789abcdef.jpg'),
])
def test_polygons_alone(convert, export, name):
    """Stuff below things, the smaller on top, the rest void."""
    names, content, _ = convert(export(), '--things', 'car')
    assert (names == scene()).all()
    assert content['images'][0]['file_name'] == name
    segments = content['annotations'][0]['segments_info']
    assert len(segments) == 4 and not any(s['iscrowd'] for s in segments)
    listed = {c['name']: c['isthing'] for c in content['categories']}
    listed.pop('_background_', None)
    assert listed == dict(car=1, road=0, sky=0)


def test_masks_of_cvats_brush(convert):
    """Marked as crowd: stuff is none; things are, unless the user knows."""
    names, _, said = convert(cvat(), '--things', 'car', 'bird')
    want = scene()
    want[9:14, 15:20] = 'car crowd'  # below the other one
    assert (names == want).all() and '--no-crowd' in said
    names, _, _ = convert(cvat(), '--things', 'car', '--no-crowd')
    assert (names == scene()).all()
    content = cvat()
    for note in content['annotations']:
        note['iscrowd'] = 1
    said = convert(content, '--things', 'car')[2]
    assert '2 annotations are crowds' in said and '--no-crowd' in said


@pytest.mark.parametrize(
    'color',
    ['red', '#80', [1, 2], [1, 2, 3, 4], [.5, .5, .5], [1, 2, 256],
     dict(r=1)])
def test_colours_of_categories_that_are_not_rgb(convert, color):
    content = labelme()
    content['categories'][1]['color'] = color
    content['categories'][2]['color'] = [7, 8, 9]
    names, found, _ = convert(content, '--things', 'car')
    assert (names == scene()).all()
    assert found['categories'][2]['color'] == [7, 8, 9]


@pytest.mark.parametrize('name', ['_background_', 'floor'])
def test_a_background_of_ones_own_or_a_listed_one(convert, name):
    names, content, _ = convert(labelme(), '--things', 'car', '--background',
                                name)
    assert (names == scene(name)).all()
    ids = {c['name']: c['id'] for c in content['categories']}
    assert ids[name] == dict(_background_=0, floor=4)[name]


def test_a_background_is_stuff(convert):
    said = convert(labelme(), '--things', 'car', '--background', 'car', code=1)
    assert '--background car: it is a thing' in said


def test_a_class_list_without_label_maps(convert, tmp_path):
    path, rows = tmp_path / 'classes.csv', 'id; name; isthing\n5; car; yes\n'
    path.write_text(rows + '3; road; no\n')
    said = convert(labelme(), path, code=1)
    assert "'sky', the category of annotation 1 of" in said
    path.write_text(rows + '3; road; no;;\n8; sky; no\n')
    names, content, _ = convert(labelme(), '--order', 'annotation', path)
    want = scene()
    want[7:9][want[7:9] == 'sky'] = 'road'
    assert (names == want).all()
    assert [c['id'] for c in content['categories']] == [5, 3, 8]


def test_things_have_to_be_named(convert):
    said = convert(labelme(), code=1)
    assert 'required field `isthing`' in said and '--things NAME' in said
    assert "no class is called 'Car', but '_b" in convert(
        labelme(), '--things', 'Car', code=1)


@pytest.mark.parametrize('name', [
    'C:\\Users\\me\\street\\a.jpg', '/data/upload/1/a.jpg', '../a.jpg',
    '/data/local-files/?d=a/a.jpg', '\\\\host\\a.jpg', 'a.jpg'
])
def test_paths_of_another_machine(convert, name):
    """Nobody knows its folders here."""
    names, content, _ = convert(label_studio(name), '--things', 'car')
    assert (names == scene()).all()
    assert content['images'][0]['file_name'] == 'a.jpg'


# Masks in colours ------------------------------------------------------------

COLORS = dict(
    background=(0, 0, 0),
    car=(128, 0, 0),
    road=(0, 128, 0),
    sky=(51, 221, 255))
LABELMAP = '# label:color_rgb:parts:actions\n' + ''.join(
    f'{name}:{",".join(map(str, color))}::\n'
    for name, color in COLORS.items())


def in_colors(names):
    rgb = np.zeros((*SIZE, 3), np.uint8)
    for name, color in COLORS.items():
        rgb[names == name] = color
    return rgb


@pytest.fixture(name='voc')
def _voc(tmp_path):
    """CVAT's 'Segmentation mask 1.1'; objects of stuff have colours, too."""
    objects = in_colors(scene())
    objects[4:14, 3:15] = 1, 2, 3
    objects[9:14, 11:20] = 3, 2, 1
    for folder, pixels in (('JPEGImages', objects), ('SegmentationClass',
                                                     in_colors(scene())),
                           ('SegmentationObject', objects)):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / 'a.png')
    (tmp_path / 'labelmap.txt').write_text(LABELMAP)
    return tmp_path


@pytest.fixture(name='convert_voc')
def _convert_voc(voc, run_tool, capsys):

    def convert(*options, classes='labelmap.txt', code=0):
        assert run_tool('cityscapes_style', voc / 'JPEGImages',
                        voc / 'SegmentationClass', voc / classes, '--out-dir',
                        voc / 'out', *options) == code
        if code:
            return capsys.readouterr().err
        content, ids = written(voc / 'out/panoptic')
        return names_of(content, ids), content

    return convert


def check_instances(content):
    """Two cars, of which the small one lies in front."""
    segments = content['annotations'][0]['segments_info']
    areas = {c['name']: [] for c in content['categories']}
    by_id = {c['id']: c['name'] for c in content['categories']}
    for segment in segments:
        areas[by_id[segment['category_id']]].append(segment['area'])
    assert sorted(areas['car']) == [5 * 9, 10 * 12 - 5 * 4]
    assert len(segments) == len(content['categories']) + 1


def with_palette(image):
    """The same colours by indices in the order of ``COLORS``, then others."""
    rgb = np.asarray(image).astype(int)
    codes = rgb @ [65536, 256, 1]
    colors = [np.array(c) @ [65536, 256, 1] for c in COLORS.values()]
    colors += sorted({*np.unique(codes).tolist()} - {*colors})
    index = np.array([colors.index(c) for c in codes.ravel()], np.uint8)
    found = Image.fromarray(index.reshape(SIZE)).convert('P')
    found.putdata(index.tolist())
    found.putpalette(
        np.array(colors, '>u4').view('u1').reshape(-1, 4)[:,
                                                          1:].ravel().tolist())
    return found


def with_own_palette(image):
    """Indices in an order of its own, as ``pngquant`` has them."""
    return image.convert('P', palette=Image.Palette.ADAPTIVE)


@pytest.mark.parametrize('classes, objects', [
    (Image.Image.copy, Image.Image.copy),
    (lambda image: image.convert('RGBA'), Image.Image.copy),
    (with_palette, with_palette),
    (with_own_palette, with_own_palette),
    (Image.Image.copy, with_palette),
])
def test_voc_masks_with_objects(convert_voc, voc, classes, objects):
    for folder, change in (('SegmentationClass', classes),
                           ('SegmentationObject', objects)):
        change(Image.open(voc / folder / 'a.png')).save(voc / folder / 'a.png')
    names, content = convert_voc('--instances', voc / 'SegmentationObject',
                                 '--things', 'car')
    assert (names == scene('background')).all()
    check_instances(content)


def test_colours_of_palettes_decide_without_ids(convert_voc, voc):
    path = voc / 'SegmentationClass/a.png'
    image = with_own_palette(Image.open(path))
    assert image.getpalette()[:3] != [0, 0, 0]
    image.save(path)
    names, _ = convert_voc('--things', 'car')
    want = scene('background')
    want[want == 'car'] = 'car crowd'
    assert (names == want).all()
    # with ids indices count
    rows = [
        f'{i};{name};{i == 1};{COLORS[name]}' for i, name in enumerate(COLORS)
    ]
    (voc / 'classes.csv').write_text('\n'.join(
        ['id;name;isthing;color', *rows]))
    index = np.asarray(Image.open(path))[-1, -1]
    names, _ = convert_voc(classes='classes.csv')
    assert names[-1, -1].split()[0] == [*COLORS][index] != 'background'


def test_objects_that_are_missing(convert_voc, voc):
    for folder in ('none', 'SegmentationObject'):
        (voc / 'SegmentationObject/a.png').unlink(missing_ok=True)
        said = convert_voc(
            '--things', 'car', '--instances', voc / folder, code=1)
        assert f'{voc / folder}/a.png: no such file' in said
        assert 'Correct --instances.' in said


def test_labels_with_colons(convert_voc, voc):
    text = LABELMAP.replace('car:', 'vehicle:car:')
    (voc / 'labelmap.txt').write_text(text)
    names, _ = convert_voc('--things', 'vehicle:car')
    assert (names[4:14, 3:15] == 'vehicle:car crowd').all()


def test_colours_without_objects(convert_voc):
    """Nobody knows where a car ends."""
    names, _ = convert_voc('--things', 'car')
    want = scene('background')
    want[want == 'car'] = 'car crowd'
    assert (names == want).all()


@pytest.mark.parametrize('text', [
    'name,isthing,color\nbackground,0,0 0 0\ncar,1,128 0 0\n'
    'road,0,#008000\nsky,0,"51, 221, 255"\n',
    'name,r,g,b,isthing\nbackground,0,0,0,0\ncar,128,0,0,1\nroad,0,128,0,0\n'
    'sky,51,221,255,0\n',
    json.dumps([
        dict(id=i, name=name, color=color, isthing=name == 'car')
        for i, (name, color) in enumerate(COLORS.items())
    ]),
])
def test_a_class_table_with_colours(convert_voc, voc, text):
    (voc / 'classes.csv').write_text(text)
    names, content = convert_voc(
        '--instances', voc / 'SegmentationObject', classes='classes.csv')
    assert (names == scene('background')).all()
    check_instances(content)


def test_classes_in_one_channel_with_objects(convert_voc, voc):
    """Line numbers of the labelmap, which CVAT reads too; a thing may be
    class 0 where instances have maps of their own."""
    values = np.zeros(SIZE, np.uint8)
    for i, name in enumerate(COLORS):
        values[scene() == name] = i
    Image.fromarray(values).save(voc / 'SegmentationClass/a.png')
    options = '--instances', voc / 'SegmentationObject', '--things'
    names, content = convert_voc(*options, 'car')
    assert (names == scene('background')).all()
    check_instances(content)
    names, _ = convert_voc(*options, 'background')
    assert (names == scene('background crowd')).all()


def test_colours_that_cannot_be_used(convert_voc, voc):
    (voc / 'labelmap.txt').write_text(LABELMAP.replace('sky:51', 'sky:50'))
    said = convert_voc('--things', 'car', code=1)
    assert 'colour [51, 221, 255]: no class has it. Add a row' in said
    assert 'ignore=1' in said and '--void-values' not in said
    (voc / 'labelmap.txt').write_text(
        LABELMAP.replace('51,221,255', '128,0,0'))
    said = convert_voc('--things', 'car', code=1)
    assert "[128, 0, 0] of label maps belongs to two classes, 'car' a" in said
