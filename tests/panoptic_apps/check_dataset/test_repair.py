"""What --fix writes passes the check, and is what was there before."""
import json
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from panoptic_apps.check_dataset import format_repair
from panoptic_apps.check_dataset.repair import find_rule
from panoptic_fpn.coco_format import Pair, Structure

from . import data


def repaired(path):
    """The mended JSON, written beside the old one, and the repair."""
    repair = data.run(path, repair=True).repair
    new = path.with_name('fixed.json')
    new.write_text(json.dumps(repair.content))
    return new, repair


def read(path):
    return json.loads(path.read_text())


def test_what_was_changed_comes_back(path):
    before = read(path)

    def change(content):
        first, second, third = [
            note['segments_info'] for note in content['annotations']
        ]
        first[0]['area'] += 5
        first[1]['bbox'] = [0, 0, 999, 1]
        second[0].pop('area')
        second.append(dict(second[0], id=12345))
        third[0].pop('bbox')
        third[1].pop('iscrowd')
        content['images'][2].update(height=56, width=40)

    data.edit(path, change)
    new, repair = repaired(path)
    assert data.kinds(data.run(new)) == {}
    # nobody can know whether it was crowd
    before['annotations'][2]['segments_info'][1]['iscrowd'] = 0
    assert read(new) == before
    assert repair.counts == dict(
        areas=2,
        boxes=2,
        added=0,
        removed=1,
        merged=0,
        iscrowd=1,
        sizes=1,
        names=0)
    assert '2 areas, 2 boxes, 1 image sizes' in format_repair('x', repair)


def test_boxes_are_those_of_the_pixels_throughout(path):
    """Also those that end at their last pixel, which are no fault."""
    before = read(path)

    def change(content):
        for segment in first(content):
            segment['bbox'][2] -= 1

    data.edit(path, change)
    new, repair = repaired(path)
    assert data.kinds(data.run(path)) == {} and read(new) == before
    assert repair.counts['boxes'] == len(first(before))


def test_segments_of_unknown_category_are_listed_not_added(path):
    lost = []
    data.edit(
        path, lambda content: lost.append(content['annotations'][1][
            'segments_info'].pop()))
    new, repair = repaired(path)
    assert read(new) == read(path)
    image_id, id_ = read(path)['images'][1]['id'], lost[0]['id']
    assert repair.left == [(f'{path}: image_id={image_id!r}', [id_])]
    assert f'ids [{id_}]' in format_repair('x', repair)


def first(content):
    return content['annotations'][0]['segments_info']


def png_of_another_image(path):
    data.edit(path, lambda content: first(content)[0].pop('iscrowd'))
    shutil.copy(data.png_of(path, 1), data.png_of(path, 0))


def unusable_segment(path):
    data.edit(path, lambda content: first(content)[0].update(area=1))
    data.edit(path, lambda content: first(content).append(dict(id='x')))


def size_that_image_and_png_dispute(path):
    with Image.open(data.image_of(path)) as image:
        image.resize((28, 20)).save(data.image_of(path))


def blended_png(path):
    """By the rule of their ids some of its values look like segments."""
    renumber(path, lambda c, crowd, n: 1000 * c['id'] + n)
    with Image.open(data.png_of(path)) as image:
        small = image.resize((28, 20), Image.BILINEAR)
    small.resize((56, 40), Image.BILINEAR).save(data.png_of(path))


def jpeg(path):
    with Image.open(data.png_of(path)) as image:
        image.save(data.png_of(path), 'JPEG')


def swapped_png(path):
    with Image.open(data.png_of(path)) as image:
        pixels = np.asarray(image)[..., ::-1]
    Image.fromarray(pixels).save(data.png_of(path))


@pytest.mark.parametrize('plant', [
    png_of_another_image, unusable_segment, size_that_image_and_png_dispute,
    blended_png, jpeg, swapped_png
])
def test_what_is_to_be_mended_by_hand_is_left(path, plant):
    plant(path)
    new, _ = repaired(path)
    assert read(new) == read(path)


def renumber(path, number_of):
    """Give segments ids by a rule of category, thing and count."""
    content = json.loads(path.read_text())
    categories = {c['id']: c for c in content['categories']}
    for index, note in enumerate(content['annotations']):
        old = data.read_ids(data.png_of(path, index))
        new, count = 0 * old, {}
        for segment in note['segments_info']:
            category = categories[segment['category_id']]
            n = count[category['id']] = count.get(category['id'], 0) + 1
            id_ = number_of(category, segment['iscrowd'], n)
            new[old == segment['id']] = id_
            segment['id'] = id_
        data.write_ids(data.png_of(path, index), new)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    'prefix', ['D:\\export\\', '/home/me/export/', 'file:///x/', '../export/'])
def test_names_become_relative(path, prefix):
    """Where they end in a file below the folder, its folders too."""
    content = read(path)
    for key, folder in (('images', 'images'), ('annotations', 'panoptic')):
        for entry in content[key]:
            old = path.parent / folder / entry['file_name']
            entry['file_name'] = f'part/{old.name}'
            (old.parent / 'part').mkdir(exist_ok=True)
            old.rename(old.parent / 'part' / old.name)
    path.write_text(json.dumps(content))
    assert data.kinds(data.run(path)) == {}

    def change(content):
        for entry in content['images'] + content['annotations']:
            name = entry['file_name']
            if '\\' in prefix:
                name = name.replace('/', '\\')
            entry['file_name'] = prefix + name

    data.edit(path, change)
    assert data.kinds(data.run(path)) == dict(bad_file_name=6)
    new, repair = repaired(path)
    assert read(new) == content and repair.counts['names'] == 6


def test_names_that_mean_one_file_are_left(path):

    def change(content):
        name = content['images'][0]['file_name']
        content['images'][0]['file_name'] = f'/a/{name}'
        content['images'][1]['file_name'] = f'/b/{name}'
        content['images'][2]['file_name'] = '/b/none.jpg'

    data.edit(path, change)
    new, repair = repaired(path)
    assert read(new) == read(path) and repair.counts['names'] == 0


def test_stuff_of_one_class_is_merged(path):
    """In the JSON and in copies of all PNGs; originals stay."""
    before = read(path)
    things = {c['id'] for c in before['categories'] if c['isthing']}
    ids = data.read_ids(data.png_of(path))
    segment = next(s for s in first(before) if s['category_id'] not in things)
    x, y, width, _ = segment['bbox']
    inside, lower = ids == segment['id'], np.arange(40)[:, None] > y + 3
    parts = dict(
        zip((segment['id'], 70001), (inside & ~lower, inside & lower)))
    ids[parts[70001]] = 70001
    data.write_ids(data.png_of(path), ids)

    def change(content):
        found = next(s for s in first(content) if s['id'] == segment['id'])
        first(content).append(dict(found, id=70001))
        for part in (found, first(content)[-1]):
            ys, xs = np.nonzero(parts[part['id']])
            box = min(xs), min(ys), np.ptp(xs) + 1, np.ptp(ys) + 1
            part.update(area=len(ys), bbox=[int(n) for n in box])

    data.edit(path, change)
    pngs = {p.name: p.read_bytes() for p in data.png_of(path).parent.iterdir()}
    result = data.run(path, repair=True)
    assert data.kinds(result) == dict(stuff_twice=1)
    folder = result.repair.write(str(path.with_name('mended.json')))
    assert read(path.with_name('mended.json')) == before
    assert folder == str(path.with_name('mended'))
    assert folder in format_repair('x', result.repair, folder)
    ids[parts[70001]] = segment['id']
    for name, content in pngs.items():
        assert (path.parent / 'panoptic' / name).read_bytes() == content
        if name == data.png_of(path).name:
            assert (data.read_ids(f'{folder}/{name}') == ids).all()
        else:
            assert (path.parent / 'mended' / name).read_bytes() == content


def test_things_that_are_listed_as_stuff_are_not_merged(path):
    """Exporters write isthing=0 throughout. The check says which class looks
    like a thing; without names of things nothing is merged, with them all is
    as it was."""
    before = read(path)
    data.edit(path, lambda c: [e.update(isthing=0) for e in c['categories']])
    result = data.run(path, repair=True)
    counts = Counter((note['image_id'], segment['category_id'])
                     for note in before['annotations']
                     for segment in note['segments_info'])
    (image, category), most = counts.most_common(1)[0]
    name = next(c['name'] for c in before['categories'] if c['id'] == category)
    fault, = result.faults.examples['no_things']
    assert fault.value == (f'{len(before["categories"])} categories, no '
                           f'things, although image {image!r} has {most} of '
                           f'{name!r}')
    assert '--isthing' in str(fault)
    assert result.repair.counts['merged'] == 0
    assert result.repair.content == read(path)
    things = [c['name'] for c in before['categories'] if c['isthing']]
    assert data.run(path, things=things, repair=True).repair.content == before
    kept = {(note['image_id'], segment['category_id'], segment['iscrowd'])
            for note in before['annotations']
            for segment in note['segments_info']}
    merged = data.run(path, things=[], repair=True).repair.counts['merged']
    assert merged == sum(counts.values()) - len(kept) > 0


def test_no_folder_where_no_png_changes(path):
    data.edit(path, lambda content: first(content)[0].update(area=1))
    repair = data.run(path, repair=True).repair
    assert repair.write(str(path.with_name('mended.json'))) is None
    assert not path.with_name('mended').exists()


def test_ids_that_say_their_category_are_added(path):
    renumber(
        path, lambda c, crowd, n: 1000 * c['id'] + n
        if c['isthing'] else c['id'])
    before = read(path)

    def change(content):
        for note in content['annotations']:
            segments = note['segments_info']
            segments.remove(next(s for s in segments if s['id'] < 1000))
            segments.remove(
                next(s for s in segments
                     if s['id'] > 1000 and not s['iscrowd']))

    data.edit(path, change)
    new, repair = repaired(path)
    assert data.kinds(data.run(new)) == {}
    assert repair.counts['added'] == 6 and not repair.left
    for old, note in zip(before['annotations'], read(new)['annotations']):
        by_id = {segment['id']: segment for segment in note['segments_info']}
        assert by_id == {s['id']: s for s in old['segments_info']}


COLORED = [
    dict(id=1, name='sky', isthing=0, color=[1, 2, 0]),
    dict(id=2, name='car', isthing=1, color=[5, 0, 1]),
    dict(id=3, name='bus', isthing=1, color=[5, 0, 1]),
]


def listed(*pairs):
    return [dict(id=i, category_id=c) for i, c in pairs]


@pytest.mark.parametrize(
    'segments,id_,meant',
    [
        # three that agree: 1 + 2 * 256 is the colour of sky
        (listed((513, 1), (513, 1), (513, 1), (9, 2)), 513, (1, 0)),
        # two are too few
        (listed((513, 1), (513, 1), (9, 2)), 513, None),
        # one that contradicts
        (listed((513, 1), (513, 1), (513, 1), (513, 2)), 513, None),
        # a colour of two classes
        (listed((513, 1), (513, 1), (513, 1)), 65541, None),
        # category * 1000 + number; the bare id of a thing is a crowd
        (listed((1, 1), (2001, 2), (2002, 2)), 3007, (3, 0)),
        (listed((1, 1), (2001, 2), (2002, 2)), 2, (2, 1)),
        (listed((1, 1), (2001, 2), (2002, 2)), 1, (1, 0)),
        (listed((1, 1), (2001, 2), (2002, 3)), 3007, None),
        (listed((1, 1), (2001, 2), (2002, 2)), 9001, None),
    ])
def test_rules_from_ids_to_categories(segments, id_, meant):
    structure = Structure({c['id']: c
                           for c in COLORED},
                          [Pair(dict(id=1), dict(image_id=1), segments)])
    assert find_rule(structure)(id_) == meant
