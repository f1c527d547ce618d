"""What --fix writes passes the check, and is what was there before."""
import json
import shutil

import pytest
from PIL import Image

from panoptic_apps.check_dataset import format_repair
from panoptic_apps.check_dataset.repair import find_rule
from panoptic_fpn.coco_format import ERROR, WARNING, Pair, Structure

from . import data


def repaired(path):
    """The mended JSON, written beside the old one, and the repair."""
    repair = data.run(path, repair=True).repair
    new = path.with_name('fixed.json')
    new.write_text(json.dumps(repair.content))
    return new, repair


def test_what_was_changed_comes_back(path):
    before = json.loads(path.read_text())

    def change(content):
        first, second, third = content['annotations']
        first['segments_info'][0]['area'] += 5
        first['segments_info'][1]['bbox'] = [0, 0, 999, 1]
        second['segments_info'][0].pop('area')
        second['segments_info'].append(
            dict(second['segments_info'][0], id=12345))
        third['segments_info'][0].pop('bbox')
        third['segments_info'][1].pop('iscrowd')
        content['images'][2].update(height=56, width=40)

    data.edit(path, change)
    crowd = json.loads(path.read_text())['annotations'][2]['segments_info'][1]
    new, repair = repaired(path)
    result = data.run(new)
    assert result.faults.total(ERROR) == 0
    assert result.faults.total(WARNING) == 0
    after = json.loads(new.read_text())
    # nobody can know whether it was crowd
    before['annotations'][2]['segments_info'][1]['iscrowd'] = 0
    assert after == before
    assert crowd['id'] == after['annotations'][2]['segments_info'][1]['id']
    assert repair.counts == dict(
        areas=2, boxes=2, added=0, removed=1, iscrowd=1, sizes=1)
    assert '2 areas, 2 boxes, 1 image sizes' in format_repair('x', repair)


def test_segments_of_unknown_category_are_listed_not_added(path):
    content = json.loads(path.read_text())
    lost = content['annotations'][1]['segments_info'].pop()
    path.write_text(json.dumps(content))
    new, repair = repaired(path)
    assert json.loads(new.read_text()) == content
    image_id = content['images'][1]['id']
    assert repair.left == [(f'{path}: image_id={image_id!r}', [lost['id']])]
    assert f'ids [{lost["id"]}]' in format_repair('x', repair)


def test_the_png_of_another_image_changes_nothing(path):
    content = json.loads(path.read_text())
    content['annotations'][0]['segments_info'][0].pop('iscrowd')
    path.write_text(json.dumps(content))
    shutil.copy(data.png_of(path, 1), data.png_of(path, 0))
    new, _ = repaired(path)
    assert json.loads(new.read_text()) == content


def test_an_unusable_segment_leaves_its_annotation_alone(path):

    def change(content):
        content['annotations'][0]['segments_info'][0]['area'] = 1
        content['annotations'][0]['segments_info'].append(dict(id='x'))

    data.edit(path, change)
    new, _ = repaired(path)
    assert json.loads(new.read_text()) == json.loads(path.read_text())


def test_a_size_that_image_and_png_dispute_is_left(path):
    with Image.open(data.image_of(path)) as image:
        image.resize((28, 20)).save(data.image_of(path))
    new, _ = repaired(path)
    assert json.loads(new.read_text()) == json.loads(path.read_text())


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
    return categories


def test_ids_that_say_their_category_are_added(path):
    categories = renumber(
        path, lambda c, crowd, n: 1000 * c['id'] + n
        if c['isthing'] else c['id'])
    before = json.loads(path.read_text())

    def change(content):
        for note in content['annotations']:
            things = [
                s for s in note['segments_info']
                if categories[s['category_id']]['isthing'] and not s['iscrowd']
            ]
            stuff = [s for s in note['segments_info'] if s['id'] < 1000]
            for lost in (things[0], stuff[0]):
                note['segments_info'].remove(lost)

    data.edit(path, change)
    found = set(data.kinds(data.run(path)))
    assert found - {'unused_category'} == {'ids_only_in_png'}
    new, repair = repaired(path)
    assert data.kinds(data.run(new)) == {}
    assert repair.counts['added'] == 6 and not repair.left
    after = json.loads(new.read_text())

    def by_id(content):
        return [
            sorted(n['segments_info'], key=lambda s: s['id'])
            for n in content['annotations']
        ]

    assert by_id(after) == by_id(before)


def structure(categories, segments):
    return Structure({c['id']: c
                      for c in categories},
                     [Pair(dict(id=1), dict(image_id=1), segments)])


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
    assert find_rule(structure(COLORED, segments))(id_) == meant
