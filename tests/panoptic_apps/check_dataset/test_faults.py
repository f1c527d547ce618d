"""Each planted fault is found and named, and nothing else is."""
import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from mmengine_exact.errors import InputError
from panoptic_apps.check_dataset import format_report
from panoptic_fpn.coco_format import ERROR, KINDS
from panoptic_fpn.data import CocoPanopticFPNDataset

from . import data

CUT = 0.6


def test_a_clean_data_set_has_no_fault(path):
    result = data.run(path)
    assert data.kinds(result) == {}
    assert 'nothing found, ready to train' in format_report(str(path), result)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_synthetic_shapes_have_no_fault(tmp_path, split):
    from panoptic_apps.check_dataset import check_dataset
    root = data.shapes(tmp_path / 'shapes')
    train = str(root / 'annotations/panoptic_train.json'), str(root / 'train')
    result = check_dataset(
        str(root / f'annotations/panoptic_{split}.json'),
        str(root / split),
        str(root / f'annotations/panoptic_{split}'),
        against=train if split == 'val' else None,
        num_workers=1)
    assert set(data.kinds(result)) <= {'unused_category'}


def first(content):
    return content['annotations'][0]['segments_info'][0]


def cut(file):
    content = file.read_bytes()
    file.write_bytes(content[:int(CUT * len(content))])


def flip_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(bytes(content))


def resave(file, change):
    change(Image.open(file)).save(file)


def as_16_bit(file):
    ids = data.read_ids(file)
    Image.fromarray(ids.astype(np.uint16)).save(file)


def blacken(path):
    data.write_ids(data.png_of(path), np.zeros((40, 56), np.int64))
    data.edit(path, lambda c: c['annotations'][0].update(segments_info=[]))


def thing_of(content):
    stuff = {c['id'] for c in content['categories'] if not c['isthing']}
    return next(s for s in content['annotations'][0]['segments_info']
                if s['category_id'] not in stuff)


def stuff_of(content):
    stuff = {c['id'] for c in content['categories'] if not c['isthing']}
    return [
        s for s in content['annotations'][0]['segments_info']
        if s['category_id'] in stuff
    ]


def split_stuff(path):
    """A pixel of stuff becomes a second segment of its class."""
    ids = data.read_ids(data.png_of(path))

    def change(content):
        segment = stuff_of(content)[0]
        y, x = np.argwhere(ids == segment['id'])[5]
        ids[y, x] = 77
        segment['area'] -= 1
        content['annotations'][0]['segments_info'].append(
            dict(segment, id=77, area=1, bbox=[int(x), int(y), 1, 1]))

    data.edit(path, change)
    data.write_ids(data.png_of(path), ids)


#: name -> (the kinds to be found, what is done to the files)
FILE_FAULTS = {
    'no image': ({'image_missing'}, lambda p: data.image_of(p).unlink()),
    'photograph cut off': ({'image_corrupt'}, lambda p: cut(data.image_of(p))),
    'photograph that is text':
    ({'image_corrupt'}, lambda p: data.image_of(p).write_text('hello')),
    'empty photograph': ({'image_corrupt'},
                         lambda p: data.image_of(p).write_bytes(b'')),
    'photograph twice':
    ({'same_picture'},
     lambda p: shutil.copy(data.image_of(p, 0), data.image_of(p, 1))),
    'no PNG': ({'png_missing'}, lambda p: data.png_of(p).unlink()),
    'PNG cut off': ({'png_corrupt'}, lambda p: cut(data.png_of(p))),
    'PNG with a wrong byte': ({'png_corrupt'},
                              lambda p: flip_byte(data.png_of(p))),
    'PNG of one channel':
    ({'png_single_channel'},
     lambda p: resave(data.png_of(p), lambda i: i.convert('L'))),
    'PNG with a palette':
    ({'png_single_channel'},
     lambda p: resave(data.png_of(p), lambda i: i.convert('P'))),
    'PNG of 16 bits': ({'png_single_channel'},
                       lambda p: as_16_bit(data.png_of(p))),
    'PNG with alpha':
    ({'png_format'},
     lambda p: resave(data.png_of(p), lambda i: i.convert('RGBA'))),
    'PNG of another size': ({'png_size'}, lambda p: resave(
        data.png_of(p), lambda i: i.resize((28, 20), Image.NEAREST))),
    'PNG of another image':
    ({'png_of_another_image'},
     lambda p: shutil.copy(data.png_of(p, 1), data.png_of(p, 0))),
    'PNG that nobody names': ({'png_extra'}, lambda p: shutil.copy(
        data.png_of(p),
        data.png_of(p).with_name('extra.png'))),
    'nothing labelled': ({'all_void', 'unused_category'}, blacken),
    'stuff in two segments': ({'stuff_twice'}, split_stuff),
}

#: name -> (the kinds to be found, what is done to the JSON)
JSON_FAULTS = {
    'height of another image':
    ({'image_size'}, lambda c: c['images'][0].update(height=41)),
    'segment in the PNG alone':
    ({'ids_only_in_png'},
     lambda c: c['annotations'][0]['segments_info'].pop()),
    'segment in the JSON alone':
    ({'ids_only_in_json'}, lambda c: c['annotations'][0]['segments_info'].
     append(dict(thing_of(c), id=12345, area=3))),
    'area one off':
    ({'area'}, lambda c: first(c).update(area=first(c)['area'] + 1)),
    'no area': ({'area'}, lambda c: first(c).pop('area')),
    'box beside': ({'bbox'}, lambda c: first(c)['bbox'].__setitem__(0, 9999)),
    'box of two numbers': ({'bbox'}, lambda c: first(c).update(bbox=[1, 2])),
    'no iscrowd': ({'no_iscrowd'}, lambda c: first(c).pop('iscrowd')),
    'iscrowd 2': ({'iscrowd'}, lambda c: first(c).update(iscrowd=2)),
    'crowd of stuff': ({'stuff_crowd'},
                       lambda c: stuff_of(c)[0].update(iscrowd=1)),
    'image twice': ({'image_id_twice'},
                    lambda c: c['images'].append(c['images'][0])),
    'annotation twice':
    ({'annotation_twice'},
     lambda c: c['annotations'].append(c['annotations'][0])),
    'segment twice':
    ({'segment_id_twice'},
     lambda c: c['annotations'][0]['segments_info'].append(first(c))),
    'annotation of no image':
    ({'unknown_image'}, lambda c: c['annotations'].append(
        dict(image_id='lost', file_name='lost.png', segments_info=[]))),
    'image without annotation': ({'no_annotation', 'png_extra'},
                                 lambda c: c['annotations'].pop(0)),
    'id beyond three bytes': ({'segment_id_range', 'ids_only_in_png'},
                              lambda c: first(c).update(id=1 << 24)),
    'category that is not listed':
    ({'unknown_category'}, lambda c: first(c).update(category_id=77777)),
    'category named by a string':
    ({'unknown_category'},
     lambda c: first(c).update(category_id=str(first(c)['category_id']))),
    'no isthing': ({'isthing'}, lambda c: c['categories'][0].pop('isthing')),
    'isthing 2': ({'isthing'}, lambda c: c['categories'][0].update(isthing=2)),
    'category id twice':
    ({'category_id_twice'},
     lambda c: c['categories'].append(dict(c['categories'][0], name='other'))),
    'category name twice': ({
        'category_name_twice', 'unused_category'
    }, lambda c: c['categories'].append(dict(c['categories'][0], id=999))),
    'category without segment':
    ({'unused_category'},
     lambda c: c['categories'].append(dict(id=998, name='unicorn', isthing=1))
     ),
    'more categories than fit':
    ({'too_many_categories',
      'unused_category'}, lambda c: c['categories'].extend(
          dict(id=1000 + i, name=f'c{i}', isthing=1) for i in range(1000))),
    'category id with a fraction': ({
        'category_id', 'unknown_category'
    }, lambda c: c['categories'][0].update(id=c['categories'][0]['id'] + .5)),
    'no categories': ({'key_missing'}, lambda c: c.pop('categories')),
    'no height': ({'key_missing'}, lambda c: c['images'][0].pop('height')),
    'height in quotes': ({'wrong_value'},
                         lambda c: c['images'][0].update(height='40')),
    'no file_name': ({'key_missing', 'png_extra'},
                     lambda c: c['annotations'][0].pop('file_name')),
    'segment id 0': ({'segment_id_range', 'ids_only_in_png'},
                     lambda c: first(c).update(id=0)),
    'segment id in quotes': ({'wrong_value', 'ids_only_in_png'},
                             lambda c: first(c).update(id='3')),
    'no annotations': ({'key_missing', 'no_annotation', 'png_extra'},
                       lambda c: c.pop('annotations')),
    'no segments_info': ({'key_missing'},
                         lambda c: c['annotations'][0].pop('segments_info')),
    'segments_info null': ({
        'wrong_value'
    }, lambda c: c['annotations'][0].update(segments_info=None)),
    'no image listed': ({'wrong_value', 'unknown_image',
                         'unused_category'}, lambda c: c.update(images=[])),
}


def examples(result, kind):
    return [
        f'{found.where}: {found.value}'
        for found in result.faults.examples[kind]
    ]


#: Errors of scores, or of several images, that a data set does not see.
OF_SCORES = {'area'}


def load(path):
    """All samples of training."""
    dataset = CocoPanopticFPNDataset(
        ann_file=str(path),
        data_prefix=dict(
            img=str(path.parent / 'images'),
            seg=str(path.parent / 'panoptic')),
        pipeline=[dict(type='LoadPanopticImage'),
                  dict(type='LoadPanopticMap')],
        serialize_data=False)
    return [dataset[i] for i in range(len(dataset))]


def check(path, expected):
    """The check finds just these kinds, and the data set stops at one of the
    errors among them."""
    result = data.run(path)
    # which class is left without a segment is up to the random data
    assert set(data.kinds(result)) | {'unused_category'} == \
        expected | {'unused_category'}
    for kind in expected & set(result.faults.examples):
        assert str(path.parent) in examples(result, kind)[0]
        assert KINDS[kind].fix in format_report(str(path), result)
    if not set(result.faults.kinds(ERROR)) - OF_SCORES:
        load(path)
        return
    with pytest.raises(InputError) as error:
        load(path)
    assert str(path.parent) in str(error.value)


@pytest.mark.parametrize('name', FILE_FAULTS)
def test_faults_in_files(path, name):
    expected, plant = FILE_FAULTS[name]
    plant(path)
    check(path, expected)


@pytest.mark.parametrize('name', JSON_FAULTS)
def test_faults_in_the_json(path, name):
    expected, plant = JSON_FAULTS[name]
    data.edit(path, plant)
    check(path, expected)


def test_reports_name_file_value_and_fix(path):
    data.edit(path, lambda c: first(c).update(area=7))
    segment = first(json.loads(path.read_text()))
    ids = data.read_ids(data.png_of(path))
    image_id = json.loads(path.read_text())['images'][0]['id']
    report = format_report(str(path), data.run(path))
    assert (f'{path}: image_id={image_id!r}: segment {segment["id"]} has '
            f'area=7, the PNG {(ids == segment["id"]).sum()} pixels') in report
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


@pytest.mark.parametrize('text,why', [('{', 'not a JSON file'),
                                      ('[1]', 'a list at the top level')])
def test_a_json_that_is_none(path, text, why):
    path.write_text(text)
    result = data.run(path)
    assert data.kinds(result) == dict(json_unreadable=1)
    assert why in examples(result, 'json_unreadable')[0]
    assert result.summary is None


def test_values_that_are_no_lists_or_objects(path):

    def change(content):
        content['images'].append(3)
        content['annotations'].append('x')
        content['annotations'][0]['segments_info'].append(None)
        content['categories'].append([])
        content['images'].append(dict(id=[1], file_name='a.jpg'))

    data.edit(path, change)
    assert data.kinds(data.run(path)) == dict(wrong_value=5)


def test_a_picture_in_both_sets(path, original, tmp_path):
    other = data.copy(original, tmp_path / 'other')
    for index in (1, 2):
        with Image.open(data.image_of(other, index)) as image:
            image.rotate(180).save(data.image_of(other, index))
    # the same pixels in another file format and under another name
    cv2.imwrite(
        str(other.parent / 'images' / 'renamed.png'),
        cv2.imread(str(data.image_of(other))))
    data.edit(other, lambda c: c['images'][0].update(file_name='renamed.png'))
    result = data.run(
        path, against=(str(other), str(other.parent / 'images')))
    assert data.kinds(result) == dict(leakage=1)
    assert examples(result, 'leakage') == [
        f'{data.image_of(path)}: {other.parent / "images" / "renamed.png"}'
    ]


def test_other_categories_of_the_other_set(path, original, tmp_path):
    other = data.copy(original, tmp_path / 'other')
    for index in range(3):
        with Image.open(data.image_of(other, index)) as image:
            image.rotate(180).save(data.image_of(other, index))
    data.edit(other, lambda c: c['categories'][0].update(name='renamed'))
    result = data.run(
        path, against=(str(other), str(other.parent / 'images')))
    assert data.kinds(result) == dict(other_categories=1)


def test_several_processes_find_the_same(path):
    for _, plant in list(FILE_FAULTS.values())[:1]:
        plant(path)
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
    total = sum(
        len(note['segments_info'])
        for note in json.loads(path.read_text())['annotations'])
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
        assert row['segments'] == len(found)
        assert row['images'] == sum(
            any(s['category_id'] == row['id'] for s in n['segments_info'])
            for n in content['annotations'])
        assert row['median_area'] == np.median(found)
        assert row['pixel_share'] == pytest.approx(sum(found) / (3 * 40 * 56))
        assert row['small'] == sum(a < 1024 for a in found)
        assert row['medium'] == sum(1024 <= a < 9216 for a in found)
