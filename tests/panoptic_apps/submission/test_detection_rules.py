"""Boxes and masks: pycocotools reads them, each fault is named."""
import json

import numpy as np
import pytest
from pycocotools import mask as mask_util

from panoptic_apps.submission import SERVERS, check_archive
from panoptic_fpn.coco_format import ERROR, WARNING

from .archives import (COCO, coco_results, edit_json, read_all, write_all,
                       zip_task)

SERVER = SERVERS['coco-test-dev']
STEM = 'detections_test-dev2017_net_results'


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Files of valid archives by kind, and what they have to be about."""
    folder = tmp_path_factory.mktemp('coco')
    _, expected = coco_results(folder)
    return {
        kind: read_all(zip_task(COCO[kind], folder))
        for kind in ('bbox', 'segm')
    }, expected


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_archives_are_valid_and_pycocotools_reads_them(made, tmp_path, kind):
    files, expected = made[0][kind], made[1]
    assert list(files) == [f'{STEM}.json']
    folder = tmp_path / kind  # names the task
    folder.mkdir()
    path = write_all(folder / f'{STEM}.zip', files)
    found = check_archive(str(path), SERVER, None, expected, 1)
    assert not found.total(ERROR)
    coco = pytest.importorskip('pycocotools.coco').COCO()
    coco.dataset = dict(
        images=[
            dict(id=id_, height=size[0], width=size[1])
            for id_, size in expected.sizes.items()
        ],
        categories=[dict(id=id_) for id_ in expected.space.category_ids],
        annotations=[])
    coco.createIndex()
    content = json.loads(files[f'{STEM}.json'])
    read = coco.loadRes(content)
    assert len(read.anns) == len(content) > 0
    if kind == 'segm':
        for ann in read.anns.values():
            assert read.annToMask(ann).shape == expected.sizes[ann['image_id']]


def full(entry, **kwargs):
    entry['segmentation'].update(kwargs)


#: Rule -> changes of the list that break it; an error, or a warning.
FAULTS = {
    'unknown_image': [lambda c: c[0].update(image_id=12345),
                      lambda c: c[0].pop('image_id'),
                      lambda c: c[0].update(image_id=[1])],
    'unknown_category': [lambda c: c[0].update(category_id=9999),
                         lambda c: c[0].update(category_id=None)],
    'score': [lambda c: c[0].update(score=1.01),
              lambda c: c[0].update(score=-0.1),
              lambda c: c[0].update(score='0.5'),
              lambda c: c[0].pop('score')],
    'bbox': [lambda c: c[0].update(bbox=[0, 0, 10]),
             lambda c: c[0].update(bbox=[0, 0, -1, 4]),
             lambda c: c[0].update(bbox=[50, 0, 20, 4]),
             lambda c: c[0].update(bbox=[0, 0, 4, None])],
    'mask': [lambda c: c[0].pop('segmentation'),
             lambda c: full(c[0], size=[56, 40]),
             lambda c: full(c[0], counts=c[0]['segmentation']['counts'] + '1'),
             lambda c: full(c[0], counts=[10, 20]),
             lambda c: full(c[0], counts='')],
    'wrong_value': [lambda c: c.append(7)],
}  # yapf: disable


@pytest.mark.parametrize('rule, number', [(rule, i)
                                          for rule, all_ in FAULTS.items()
                                          for i in range(len(all_))])
def test_faults_are_named(made, tmp_path, rule, number):
    files, expected = dict(made[0]['segm']), made[1]
    edit_json(files, FAULTS[rule][number])
    path = write_all(tmp_path / f'{STEM}.zip', files)
    found = check_archive(path, SERVER, 'segm', expected, 1)
    assert found.kinds(ERROR) == [rule], found.examples


def test_stuff_is_no_detection(made, tmp_path):
    files, expected = dict(made[0]['bbox']), made[1]
    stuff = expected.space.category_ids[-1]
    edit_json(files, lambda c: c[0].update(category_id=stuff))
    path = write_all(tmp_path / f'{STEM}.zip', files)
    found = check_archive(path, SERVER, 'bbox', expected, 1)
    assert found.kinds(ERROR) == ['unknown_category']


def test_order_and_number_are_odd_but_allowed(made, tmp_path):
    files, expected = dict(made[0]['bbox']), made[1]

    def ramp(content):
        image_id = content[0]['image_id']
        content[:] = [
            dict(content[0], image_id=image_id, score=i / 200)
            for i in range(101)
        ]

    edit_json(files, ramp)
    path = write_all(tmp_path / f'{STEM}.zip', files)
    found = check_archive(path, SERVER, 'bbox', expected, 1)
    assert found.kinds(WARNING) == ['order', 'too_many']
    assert not found.total(ERROR)


def test_a_dict_is_no_list_and_pngs_do_not_belong(made, tmp_path):
    files, expected = dict(made[0]['bbox']), made[1]
    files[f'{STEM}.json'] = b'{"annotations": []}'
    files['1.png'] = b''
    path = write_all(tmp_path / f'{STEM}.zip', files)
    found = check_archive(path, SERVER, 'bbox', expected, 1)
    assert found.kinds(ERROR) == ['wrong_value', 'layout']


def test_masks_without_a_pixel_are_odd(made, tmp_path):
    files, expected = dict(made[0]['segm']), made[1]
    empty = mask_util.encode(np.zeros((40, 56), np.uint8, order='F'))
    edit_json(files, lambda c: full(c[0], counts=empty['counts'].decode()))
    path = write_all(tmp_path / f'{STEM}.zip', files)
    found = check_archive(path, SERVER, 'segm', expected, 1)
    assert [f.where for f in found.examples['empty_mask']] == ['detection 0']
    assert not found.total(ERROR)
