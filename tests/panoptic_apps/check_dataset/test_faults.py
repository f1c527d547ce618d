"""Each planted fault is found and named, and nothing else is."""
import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from mmengine_exact.errors import InputError
from panoptic_apps.check_dataset import check_dataset, format_report
from panoptic_apps.check_dataset.image_files import picture_faults
from panoptic_fpn.coco_format import ERROR, KINDS, collect
from panoptic_fpn.data import CocoPanopticFPNDataset

from . import data


@pytest.mark.parametrize('split', ['train', 'val'])
def test_synthetic_shapes_have_no_fault(tmp_path, split):
    root = data.shapes(tmp_path / 'shapes')
    train = str(root / 'annotations/panoptic_train.json'), str(root / 'train')
    result = check_dataset(
        str(root / f'annotations/panoptic_{split}.json'),
        str(root / split),
        str(root / f'annotations/panoptic_{split}'),
        against=train if split == 'val' else None,
        num_workers=1)
    assert set(data.kinds(result)) <= {'unused_category'}


def spoil(file_of, change):
    """Change the bytes of the first image or PNG."""

    def plant(path):
        content = file_of(path).read_bytes()
        file_of(path).write_bytes(change(bytearray(content)))

    return plant


def resave(file_of, change):
    """Change the pixels of the first image or PNG."""

    def plant(path):
        with Image.open(file_of(path)) as image:
            change(image).save(file_of(path))

    return plant


def by_json(change):
    return lambda path: data.edit(path, change)


def flip_byte(content):
    content[len(content) // 2] ^= 255
    return content


def as_16_bit(image):
    return Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16))


def blacken(path):
    data.write_ids(data.png_of(path), np.zeros((40, 56), np.int64))
    data.edit(path, lambda c: c['annotations'][0].update(segments_info=[]))


def segments(content):
    return content['annotations'][0]['segments_info']


def first(content):
    return segments(content)[0]


def of_kind(content, isthing):
    ids = {c['id'] for c in content['categories'] if c['isthing'] == isthing}
    return next(s for s in segments(content) if s['category_id'] in ids)


def split_stuff(path):
    """A pixel of stuff becomes a second segment of its class."""
    ids = data.read_ids(data.png_of(path))

    def change(content):
        segment = of_kind(content, 0)
        y, x = np.argwhere(ids == segment['id'])[5]
        ids[y, x] = 77
        segment['area'] -= 1
        segments(content).append(
            dict(segment, id=77, area=1, bbox=[int(x), int(y), 1, 1]))

    data.edit(path, change)
    data.write_ids(data.png_of(path), ids)


def many_segments(content):
    segments(content).extend(
        dict(first(content), id=2**23 + i) for i in range(2**16))


def category(content):
    return content['categories'][0]


def crowded(path):
    """140 things of 4 x 4 pixels."""
    y, x = np.mgrid[:40, :56] // 4
    ids = y * 14 + x + 1
    data.write_ids(data.png_of(path), ids)

    def change(content):
        thing = of_kind(content, 1)['category_id']
        segments(content)[:] = [
            dict(
                id=i + 1,
                category_id=thing,
                iscrowd=0,
                area=16,
                bbox=[4 * (i % 14), 4 * (i // 14), 4, 4]) for i in range(140)
        ]

    data.edit(path, change)


def to_instances(content):
    content['annotations'] = [
        dict(
            id=7,
            image_id=content['images'][0]['id'],
            category_id=category(content)['id'],
            bbox=[0, 0, 9, 9],
            segmentation=[[0, 0, 9, 0, 9, 9]])
    ]


def mix_ids(content):
    for entry, key in ((content['images'][0], 'id'),
                       (content['annotations'][0], 'image_id')):
        entry[key] = 7


def away(content):
    """Where the image was on the machine of the exporter."""
    image = content['images'][0]
    image['file_name'] = f'D:\\export\\{image["file_name"]}'


def set_all(isthing):

    def change(content):
        for category in content['categories']:
            category['isthing'] = isthing

    return change


def only_crowd(content):
    thing = of_kind(content, 1)['category_id']
    for note in content['annotations']:
        for segment in note['segments_info']:
            if segment['category_id'] == thing:
                segment['iscrowd'] = 1


def blacken_all(path):
    for index in range(3):
        data.write_ids(data.png_of(path, index), np.zeros((40, 56), int))
    data.edit(path,
              lambda c: [n['segments_info'].clear() for n in c['annotations']])


def twelve_bits(path):
    pixels = np.arange(40 * 56, dtype=np.uint16).reshape(40, 56)
    content = cv2.imencode('.png', pixels)[1].tobytes()
    data.image_of(path).write_bytes(content)


def turn(tag):

    def plant(path):
        exif = Image.Exif()
        exif[0x0112] = tag
        with Image.open(data.image_of(path)) as image:
            image.save(data.image_of(path), exif=exif)

    return plant


def interpolated(image):
    return image.resize((73, 51), Image.BILINEAR).resize((56, 40),
                                                         Image.BILINEAR)


def as_jpeg(path):
    with Image.open(data.png_of(path)) as image:
        image.save(data.png_of(path), 'JPEG', quality=100)


def as_jpeg_and_png(path):
    as_jpeg(path)
    resave(data.png_of, Image.Image.copy)(path)


def as_bgr(image):
    return Image.fromarray(np.asarray(image)[..., ::-1])


def more_categories(content, *entries):
    content['categories'].extend(entries)


#: The kinds to be found, and what is done to the files.
FAULTS = [
    ('image_missing', lambda p: data.image_of(p).unlink()),
    ('image_corrupt', spoil(data.image_of, lambda b: b[:len(b) * 3 // 5])),
    ('image_corrupt', spoil(data.image_of, lambda b: b'hello')),
    ('image_corrupt', spoil(data.image_of, lambda b: b'')),
    ('same_picture',
     lambda p: shutil.copy(data.image_of(p, 0), data.image_of(p, 1))),
    ('png_missing', lambda p: data.png_of(p).unlink()),
    ('png_corrupt', spoil(data.png_of, lambda b: b[:len(b) * 3 // 5])),
    ('png_corrupt', spoil(data.png_of, flip_byte)),
    ('png_single_channel', resave(data.png_of, lambda i: i.convert('L'))),
    ('png_single_channel', resave(data.png_of, lambda i: i.convert('P'))),
    ('png_single_channel', resave(data.png_of, as_16_bit)),
    ('png_format', resave(data.png_of, lambda i: i.convert('RGBA'))),
    ('png_blended', resave(data.png_of, interpolated)),
    ('png_blended', as_jpeg),
    ('png_blended', as_jpeg_and_png),
    ('png_swapped', resave(data.png_of, as_bgr)),
    ('png_size',
     resave(data.png_of, lambda i: i.resize((28, 20), Image.NEAREST))),
    ('png_of_another_image',
     lambda p: shutil.copy(data.png_of(p, 1), data.png_of(p, 0))),
    ('png_extra', lambda p: shutil.copy(
        data.png_of(p), data.png_of(p).with_name('extra.png'))),
    ('all_void', blacken),
    ('all_void mostly_void', blacken_all),
    ('image_bits', twelve_bits),
    ('image_turned', turn(3)),
    ('image_turned', turn(2)),
    ('many_objects', crowded),
    ('stuff_twice', split_stuff),
    ('image_size', by_json(lambda c: c['images'][0].update(height=41))),
    ('ids_only_in_png', by_json(lambda c: segments(c).pop())),
    ('ids_only_in_json', by_json(lambda c: segments(c).append(
        dict(of_kind(c, 1), id=12345, area=3)))),
    ('area', by_json(lambda c: first(c).update(area=first(c)['area'] + 1))),
    ('area', by_json(lambda c: first(c).pop('area'))),
    ('bbox', by_json(lambda c: first(c)['bbox'].__setitem__(0, 9999))),
    ('bbox', by_json(lambda c: first(c).update(bbox=[1, 2]))),
    ('no_iscrowd', by_json(lambda c: first(c).pop('iscrowd'))),
    ('iscrowd', by_json(lambda c: first(c).update(iscrowd=2))),
    ('stuff_crowd', by_json(lambda c: of_kind(c, 0).update(iscrowd=1))),
    ('image_id_twice', by_json(lambda c: c['images'].append(c['images'][0]))),
    ('annotation_twice',
     by_json(lambda c: c['annotations'].append(c['annotations'][0]))),
    ('segment_id_twice', by_json(lambda c: segments(c).append(first(c)))),
    ('unknown_image', by_json(lambda c: c['annotations'].append(
        dict(image_id='lost', file_name='lost.png', segments_info=[])))),
    ('no_annotation png_extra', by_json(lambda c: c['annotations'].pop(0))),
    ('file_named_twice', by_json(
        lambda c: c['images'][1].update(
            file_name=c['images'][0]['file_name']))),
    ('segment_id_range ids_only_in_png',
     by_json(lambda c: first(c).update(id=1 << 24))),
    ('segment_id_range ids_only_in_png',
     by_json(lambda c: first(c).update(id=0))),
    ('too_many_segments ids_only_in_json',
     by_json(many_segments)),
    ('unknown_category',
     by_json(lambda c: first(c).update(category_id=77777))),
    ('unknown_category', by_json(lambda c: first(c).update(
        category_id=str(first(c)['category_id'])))),
    ('isthing', by_json(lambda c: category(c).pop('isthing'))),
    ('isthing', by_json(lambda c: category(c).update(isthing=2))),
    ('no_stuff', by_json(set_all(1))),
    ('no_things stuff_crowd stuff_twice', by_json(set_all(0))),
    ('only_crowd', by_json(only_crowd)),
    ('instances_json', by_json(to_instances)),
    ('mixed_image_ids', by_json(mix_ids)),
    ('bad_file_name', by_json(away)),
    ('no_category', by_json(lambda c: c.update(categories=[]))),
    ('category_id_twice', by_json(
        lambda c: more_categories(c, dict(category(c), name='other')))),
    ('category_name_twice',
     by_json(lambda c: more_categories(c, dict(category(c), id=999)))),
    ('unused_category', by_json(
        lambda c: more_categories(c, dict(id=998, name='x', isthing=1)))),
    ('negative_category', by_json(
        lambda c: more_categories(c, dict(id=-1, name='x', isthing=1)))),
    ('too_many_categories', by_json(lambda c: more_categories(
        c, *(dict(id=1000 + i, name=f'c{i}', isthing=1)
             for i in range(1000))))),
    ('category_id unknown_category',
     by_json(lambda c: category(c).update(id=category(c)['id'] + .5))),
    ('key_missing', by_json(lambda c: c.pop('categories'))),
    ('key_missing', by_json(lambda c: c['images'][0].pop('height'))),
    ('key_missing png_extra',
     by_json(lambda c: c['annotations'][0].pop('file_name'))),
    ('key_missing no_annotation png_extra',
     by_json(lambda c: c.pop('annotations'))),
    ('nothing_annotated no_annotation png_extra',
     by_json(lambda c: c.update(annotations=[]))),
    ('key_missing',
     by_json(lambda c: c['annotations'][0].pop('segments_info'))),
    ('wrong_value', by_json(lambda c: c['images'][0].update(height='40'))),
    ('wrong_value ids_only_in_png',
     by_json(lambda c: first(c).update(id='3'))),
    ('wrong_value', by_json(
        lambda c: c['annotations'][0].update(segments_info=None))),
    ('wrong_value unknown_image', by_json(lambda c: c.update(images=[]))),
]  # yapf: disable

#: Errors of scores, or of several images, that a data set does not see.
OF_SCORES = {'area'}
#: Found by tests of their own.
ELSEWHERE = {'json_unreadable', 'leakage', 'other_categories', 'panoptic_json'}


def test_every_kind_is_planted():
    planted = {kind for kinds, _ in FAULTS for kind in kinds.split()}
    assert planted | ELSEWHERE == set(KINDS)


def examples(result, kind):
    return [
        f'{found.where}: {found.value}'
        for found in result.faults.examples[kind]
    ]


def load(path):
    """All samples of training."""
    dataset = CocoPanopticFPNDataset(
        ann_file=str(path),
        data_prefix=dict(
            img=str(path.parent / 'images'),
            seg=str(path.parent / 'panoptic')),
        pipeline=[
            dict(type='LoadPanopticImage'),
            dict(type='LoadPanopticMap')
        ],
        serialize_data=False)
    return [dataset[i] for i in range(len(dataset))]


@pytest.mark.parametrize('number', range(len(FAULTS)))
def test_faults(path, number):
    """The check finds just these kinds, and the data set stops at one of the
    errors among them."""
    kinds, plant = FAULTS[number]
    plant(path)
    result = data.run(path)
    # which class is left without a segment is up to the random data
    assert set(data.kinds(result)) | {'unused_category'} == {
        *kinds.split(), 'unused_category'
    }
    report = format_report(str(path), result)
    for kind in result.faults.examples:
        assert str(path.parent) in examples(result, kind)[0]
        assert KINDS[kind].fix in report
    if not set(result.faults.kinds(ERROR)) - OF_SCORES:
        load(path)
        return
    with pytest.raises(InputError) as error:
        load(path)
    assert str(path.parent) in str(error.value)


def test_reports_name_file_value_and_fix(path):
    data.edit(path, lambda c: first(c).update(area=7))
    content = json.loads(path.read_text())
    id_, image_id = first(content)['id'], content['images'][0]['id']
    pixels = (data.read_ids(data.png_of(path)) == id_).sum()
    report = format_report(str(path), data.run(path))
    assert (f'{path}: image_id={image_id!r}: segment {id_} has '
            f'area=7, the PNG {pixels} pixels') in report
    assert 'error: an area that is not the number of pixels in the PNG ' \
        '[area], once' in report
    assert '1 error of 1 kind' in report and '--fix does so' in report


def test_an_id_of_another_type_is_explained(path):

    def change(content):
        for number, (image, note) in enumerate(
                zip(content['images'], content['annotations'])):
            image['id'], note['image_id'] = number, str(number)

    data.edit(path, change)
    result = data.run(path)
    assert data.kinds(result)['unknown_image'] == 3
    example = examples(result, 'unknown_image')[0]
    assert "image_id='0'" in example
    assert 'in "images" it is a number' in example


def test_what_is_wrong_with_the_whole_file_comes_first(path):
    """Its other faults follow from that: they are not reported."""
    data.edit(path, to_instances)
    data.edit(path, lambda c: category(c).pop('isthing'))
    result = data.run(path)
    assert data.kinds(result) == dict(instances_json=1)
    assert 'coco_instances_and_semantic.py' in format_report('x', result)
    with pytest.raises(InputError, match='coco_instances_and_semantic.py'):
        load(path)


def test_values_of_twelve_bits_are_said(path):
    twelve_bits(path)
    assert examples(data.run(path), 'image_bits') == [
        f'{data.image_of(path)}: 16 bits, values up to 2239: models see 0 to '
        '8'
    ]


@pytest.mark.parametrize('tag', range(1, 9))
@pytest.mark.parametrize('size', [(20, 30), (30, 30)])
def test_turned_images_whose_size_does_not_tell(tmp_path, size, tag):
    exif = Image.Exif()
    exif[0x0112] = tag
    path = str(tmp_path / 'a.jpg')
    Image.new('RGB', size).save(path, exif=exif)
    found = []
    collect(picture_faults(path), found.append)
    unseen = tag > 1 and (tag < 5 or size[0] == size[1])
    assert [fault.kind for fault in found] == ['image_turned'] * unseen


def test_an_orientation_that_turns_nothing(tmp_path):
    """In XMP alone: decoders leave the image as it is."""
    exif = Image.Exif()
    exif[0x010f] = 'maker'
    path = str(tmp_path / 'a.jpg')
    Image.new('RGB', (30, 20)).save(
        path, exif=exif, xmp=b'<x:xmpmeta tiff:Orientation="3"></x:xmpmeta>')
    with Image.open(path) as image:
        assert image.getexif()[0x0112] == 3
    found = []
    collect(picture_faults(path), found.append)
    assert found == []


def test_links_to_nothing_are_no_png(path):
    data.png_of(path).with_name('gone.png').symlink_to('nowhere')
    assert data.kinds(data.run(path)) == {}


def test_things_by_name(path):
    """They are those of the original, whatever isthing says."""
    original = json.loads(path.read_text())['categories']
    things = [c['name'] for c in original if c['isthing']]
    data.edit(path, set_all(0))
    result = data.run(path, things=things, repair=True)
    assert data.kinds(result) == dict(isthing=len(things))
    assert 'isthing is 0, by --things 1' in examples(result, 'isthing')[0]
    assert result.repair.content['categories'] == original
    with pytest.raises(InputError, match="--things names 'x', but the"):
        data.run(path, things=['x'])
    near = "--things names 'thinc_7', but the nearest categories are 'thing_7'"
    with pytest.raises(InputError, match=near):
        data.run(path, things=[*things, 'thinc_7'])


def test_things_with_commas(path):
    """Between names, or in one."""
    names = [c['name'] for c in json.loads(path.read_text())['categories']]
    comma = f'{names[0]}, {names[1]}'
    data.edit(path, lambda c: c['categories'][0].update(name=comma))
    data.edit(path, set_all(0))
    result = data.run(
        path, things=[comma, f'{names[2]}, {names[3]},'], repair=True)
    kinds = [c['isthing'] for c in result.repair.content['categories']]
    assert kinds == [1, 0, 1, 1] + [0] * (len(kinds) - 4)


@pytest.mark.parametrize('text,why', [('{', 'not a JSON file'),
                                      ('[1]', 'a list at the top level')])
def test_a_json_that_is_none(path, text, why):
    path.write_text(text)
    result = data.run(path)
    assert data.kinds(result) == dict(json_unreadable=1)
    assert why in examples(result, 'json_unreadable')[0]
    assert result.summary is None


def test_the_other_data_set(path, original, tmp_path):
    """It has other categories, and one picture with the same pixels in
    another file format and under another name."""
    other = data.copy(original, tmp_path / 'other')
    for index in (1, 2):
        with Image.open(data.image_of(other, index)) as image:
            image.rotate(180).save(data.image_of(other, index))
    renamed = other.parent / 'images' / 'renamed.png'
    cv2.imwrite(str(renamed), cv2.imread(str(data.image_of(other))))
    data.edit(other, lambda c: c['images'][0].update(file_name=renamed.name))
    against = str(other), str(other.parent / 'images')
    result = data.run(path, against=against)
    assert data.kinds(result) == dict(leakage=1)
    assert examples(result, 'leakage') == [f'{data.image_of(path)}: {renamed}']
    data.edit(other, lambda c: category(c).update(name='renamed'))
    result = data.run(path, against=against)
    assert data.kinds(result) == dict(leakage=1, other_categories=1)


def test_several_processes_find_the_same(path):
    data.image_of(path).unlink()
    data.edit(path, lambda c: first(c).update(area=7))
    one, two = data.run(path), data.run(path, num_workers=2)
    assert one.faults.examples == two.faults.examples
    assert one.summary == two.summary


def test_examples_are_limited_and_counted(path):

    def change(content):
        for note in content['annotations']:
            for segment in note['segments_info']:
                segment['area'] += 1

    data.edit(path, change)
    notes = json.loads(path.read_text())['annotations']
    total = sum(len(note['segments_info']) for note in notes)
    result = data.run(path)
    assert data.kinds(result) == dict(area=total)
    assert result.faults.total(ERROR) == total
    report = format_report(str(path), result, examples=2)
    assert report.count('has area=') == 2
    assert f'... and {total - 2} more' in report


def test_label_maps_with_void_ids(path):
    """What the Cityscapes converter prepares: ids in one channel."""

    def change(content):
        note = content['annotations'][0]
        for number, segment in enumerate(note['segments_info'], 1):
            ids[full == segment['id']] = number
            segment['id'] = number
        note['void_ids'] = [0]

    full = data.read_ids(data.png_of(path))
    ids = np.zeros(full.shape, np.uint16)
    data.edit(path, change)
    Image.fromarray(ids).save(data.png_of(path))
    assert data.kinds(data.run(path)) == {}
    ids[0, 0] = 5000
    Image.fromarray(ids).save(data.png_of(path))
    assert 'ids_only_in_png' in data.kinds(data.run(path))
    # where no value is void, 0 is not either
    ids[0, 0] = 0
    Image.fromarray(ids).save(data.png_of(path))
    data.edit(path, lambda c: c['annotations'][0].update(void_ids=[]))
    assert 'ids_only_in_png' in data.kinds(data.run(path))
    with pytest.raises(InputError, match='does not list: .0'):
        load(path)


def test_shares_without_images_and_the_file_of_the_same_stem(path):
    """Counted in the PNGs alone: as with the images."""
    expected = data.run(path).summary
    for index in range(3):
        image = data.image_of(path, index)
        image.rename(image.with_suffix('.tiff'))
    result = data.run(path)
    assert result.summary['void_share'] == expected['void_share']
    assert result.summary['classes'] == expected['classes']
    faults = result.faults.examples['image_missing']
    for index, fault in enumerate(faults):
        near = data.image_of(path, index).with_suffix('.tiff').name
        assert fault.value.endswith(f'; there is {near}')
    assert len(faults) == 3


def test_statistics_are_those_of_plain_counting(path):
    content = json.loads(path.read_text())
    summary = data.run(path).summary
    areas = {c['id']: [] for c in content['categories']}
    void = 0
    for index, note in enumerate(content['annotations']):
        ids = data.read_ids(data.png_of(path, index))
        void += int((ids == 0).sum())
        for segment in note['segments_info']:
            areas[segment['category_id']].append(
                int((ids == segment['id']).sum()))
    assert (summary['images'], summary['annotated']) == (3, 3)
    assert summary['segments'] == sum(map(len, areas.values()))
    assert summary['void_share'] == pytest.approx(void / (3 * 40 * 56))
    assert summary['size']['median'] == [40, 56]
    isthing = [row['isthing'] for row in summary['classes']]
    assert isthing == sorted(isthing, reverse=True)
    for row in summary['classes']:
        found = areas[row['id']]
        notes = [[
            s for s in note['segments_info'] if s['category_id'] == row['id']
        ] for note in content['annotations']]
        assert row['segments'] == len(found)
        assert row['images'] == sum(map(bool, notes))
        assert row['crowd'] == sum(s['iscrowd'] for note in notes
                                   for s in note)
        assert row['median_area'] == np.median(found)
        assert row['pixel_share'] == pytest.approx(sum(found) / (3 * 40 * 56))
        assert row['small'] == sum(a < 1024 for a in found)
        assert row['medium'] == sum(1024 <= a < 9216 for a in found)
