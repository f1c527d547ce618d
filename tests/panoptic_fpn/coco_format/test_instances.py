"""Each planted fault of an instances JSON is found by its kind.

Those of a panoptic JSON: tests/panoptic_apps/check_dataset/test_faults.py.
"""
import copy

import pytest

from mmengine_exact.errors import InputError
from panoptic_fpn.coco_format import collect, instances_faults, raise_first

GOOD = dict(
    images=[dict(id=1, height=5, width=5),
            dict(id='a', height=4, width=6)],
    categories=[dict(id=7, name='cat')],
    annotations=[
        dict(
            id=5,
            image_id=1,
            category_id=7,
            iscrowd=0,
            area=3.5,
            bbox=[0, 0, 1, 2],
            segmentation=[[0, 0, 3, 0, 3, 3]])
    ])


def note(**values):
    return lambda c: c['annotations'][0].update(values)


#: Changes, and the kind of fault that each is.
FAULTS = [
    (lambda c: c.pop('images'), 'key_missing'),
    (lambda c: c.update(annotations=None), 'wrong_value'),
    (lambda c: c['images'].append(dict(id=1)), 'image_id_twice'),
    (lambda c: c['images'][0].update(height=0), 'wrong_value'),
    (lambda c: c['categories'].append(dict(id=7, name='x')),
     'category_id_twice'),
    (lambda c: c['categories'][0].update(name=None), 'wrong_value'),
    (lambda c: c['annotations'].append(3), 'wrong_value'),
    (note(id=None), 'wrong_value'),
    (note(image_id='1'), 'unknown_image'),
    (note(category_id=[7]), 'unknown_category'),
    (note(iscrowd=2), 'iscrowd'),
]
#: Those that AP alone minds.
SCORED = [
    (lambda c: c['annotations'][0].pop('iscrowd'), 'iscrowd'),
    (note(area=float('nan')), 'wrong_value'),
    (note(bbox=[0, 0, -1, 2]), 'wrong_value'),
]


def kinds(change, **kwargs):
    content, found = copy.deepcopy(GOOD), []
    change(content)
    collect(instances_faults(content, 'a.json', **kwargs), found.append)
    assert all(fault.where.startswith('a.json') for fault in found)
    return {fault.kind for fault in found}


@pytest.mark.parametrize('change, kind', FAULTS)
def test_faults(change, kind):
    assert kind in kinds(change)


@pytest.mark.parametrize('change, kind', SCORED)
def test_faults_of_scores(change, kind):
    assert kinds(change) == set()
    assert kinds(change, scored=True) == {kind}


def test_faults_of_masks_are_looked_for_where_asked():
    for segmentation in (None, [], dict(size=[5, 4], counts=[20])):
        change = note(segmentation=segmentation)
        assert kinds(change) == set()
        assert kinds(change, masks=True) == {'wrong_value'}
    assert kinds(lambda c: c['images'][1].pop('width')) == set()
    assert kinds(
        lambda c: c['images'][1].pop('width'), masks=True) == {'wrong_value'}


def test_the_first_is_raised():
    content = copy.deepcopy(GOOD)
    assert raise_first(instances_faults(content, 'a.json', True, True)) == GOOD
    note(iscrowd=3, image_id=9)(content)
    with pytest.raises(
            InputError,
            match=r'a.json: annotation id=5: image_id=9'
            ' is not in "images". Add the image or remove'):
        raise_first(instances_faults(content, 'a.json'))
