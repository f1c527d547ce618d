"""COCO's archives: the official scripts read them, each fault is named."""
import json
import zipfile

import numpy as np
import pytest
from pycocotools import mask as mask_util

from panoptic_apps.submission import SERVERS, check_archive
from panoptic_fpn.coco_format import ERROR, WARNING
from panoptic_fpn.metrics import PanopticQualityMetric
from tests.oracles.perturb import write_coco_panoptic
from tests.panoptic_fpn.metrics.data import make_case, run_metric, space_of

from .archives import (COCO, coco_results, edit_json, edit_png, read_all,
                       write_all, zip_task)

SERVER = SERVERS['coco-test-dev']
STEM = 'panoptic_test-dev2017_net_results'
DETECTIONS = 'detections_test-dev2017_net_results'


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Files of valid archives by task, and what they have to be about."""
    folder = tmp_path_factory.mktemp('coco')
    _, expected = coco_results(folder)
    return {
        key: read_all(zip_task(COCO[key], folder))
        for key in COCO
    }, expected


@pytest.fixture
def check(made, tmp_path):
    """Faults of the archive of a task with its files changed."""

    def run(task, change=lambda files: None, stem=None, num_workers=1):
        files = dict(made[0][task])
        files = change(files) or files
        name = stem or (STEM if task == 'panoptic' else DETECTIONS)
        path = write_all(tmp_path / f'{name}.zip', files)
        return check_archive(path, SERVER, task, made[1], num_workers)

    return run


def test_panopticapi_reads_the_archive(tmp_path):
    """The scores of the unpacked archive are those of the predictions."""
    evaluation = pytest.importorskip('panopticapi.evaluation')
    data, expected = coco_results(tmp_path)
    path = zip_task(COCO['panoptic'], tmp_path)
    assert path.name == f'{STEM}.zip'
    assert not check_archive(str(path), SERVER, None, expected).counts
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / 'server')
    found = json.loads((tmp_path / f'server/{STEM}.json').read_text())
    write_coco_panoptic(data, tmp_path / 'truth')
    truth_json, = (tmp_path / 'truth').rglob('panoptic*.json')
    truth = json.loads(truth_json.read_text())
    found_of = {a['image_id']: a for a in found['annotations']}
    categories = {c['id']: c for c in truth['categories']}
    stat = evaluation.pq_compute_single_core(0,
                                             [(a, found_of[a['image_id']])
                                              for a in truth['annotations']],
                                             str(truth_json.with_suffix('')),
                                             str(tmp_path / 'server' / STEM),
                                             categories)
    _, _, samples = make_case(3, num_images=4)
    ours = run_metric(PanopticQualityMetric(), samples,
                      space_of(data).metainfo())
    assert 0 < ours['coco_panoptic/PQ'] < 100
    assert ours['coco_panoptic/PQ'] == pytest.approx(
        100 * stat.pq_average(categories, None)[0]['pq'], abs=1e-9)


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_pycocotools_reads_the_archive(made, check, kind):
    files, expected = made[0][kind], made[1]
    assert list(files) == [f'{DETECTIONS}.json']
    assert not check(kind).total(ERROR)
    coco = pytest.importorskip('pycocotools.coco').COCO()
    coco.dataset = dict(
        images=[
            dict(id=id_, height=size[0], width=size[1])
            for id_, size in expected.sizes.items()
        ],
        categories=[dict(id=id_) for id_ in expected.space.category_ids],
        annotations=[])
    coco.createIndex()
    content = json.loads(files[f'{DETECTIONS}.json'])
    read = coco.loadRes(content)
    assert len(read.anns) == len(content) > 0
    if kind == 'segm':
        for ann in read.anns.values():
            assert read.annToMask(ann).shape == expected.sizes[ann['image_id']]


def first(content):
    return content['annotations'][0]


def segment(content):
    return next(a['segments_info'][0] for a in content['annotations']
                if a['segments_info'])


def two_segments(content):
    return next(a['segments_info'] for a in content['annotations']
                if len(a['segments_info']) > 1)


def by_json(change):
    return lambda files: edit_json(files, change)


def by_png(change):
    return lambda files: edit_png(files, change)


#: (rule, change that breaks it); rules of COCO's JSON by themselves:
#: tests/panoptic_apps/check_dataset/test_faults.py
PANOPTIC_FAULTS = [
    ('no_result', by_json(lambda c: c['annotations'].pop())),
    ('annotation_twice',
     by_json(lambda c: c['annotations'].append(first(c)))),
    ('unknown_image', by_json(lambda c: first(c).update(
        image_id=str(first(c)['image_id'])))),
    ('key_missing', by_json(lambda c: c.pop('annotations'))),
    ('wrong_value', by_json(lambda c: first(c).update(image_id=True))),
    ('file_named_twice', by_json(lambda c: first(c).update(
        file_name=c['annotations'][1]['file_name']))),
    ('png_missing', by_json(lambda c: first(c).update(file_name='o.png'))),
    ('file_name', by_json(lambda c: first(c).update(file_name='1.jpg'))),
    ('segment_id_range', by_json(lambda c: segment(c).update(id=256**3))),
    ('segment_id_twice', by_json(lambda c: two_segments(c)[0].update(
        id=two_segments(c)[1]['id']))),
    ('ids_only_in_png', by_json(lambda c: two_segments(c).pop())),
    ('ids_only_in_json',
     by_json(lambda c: two_segments(c)[0].update(id=99999))),
    ('unknown_category', by_json(lambda c: segment(c).update(category_id=9999)
                                 )),
    ('crowd', by_json(lambda c: segment(c).update(iscrowd=1))),
    ('area', by_json(lambda c: segment(c).update(area=1))),
    ('json_unreadable',
     by_json(lambda c: segment(c).update(area=float('nan')))),
    ('json_unreadable',
     lambda files: files.update({f'{STEM}.json': 9999 * b'['})),
    ('png_single_channel', by_png(lambda p: p[..., 0])),
    ('png_format', by_png(lambda p: np.dstack([p, p[..., :1]]))),
    ('png_corrupt', lambda files: files.update(
        {n: b'no picture' for n in files if n.endswith('.png')})),
    ('png_size', by_png(lambda p: p[:-1])),
    ('png_swapped', by_png(lambda p: p[..., ::-1])),
    ('png_of_another_image', by_png(lambda p: p + np.uint8(99) * (p > 0))),
    ('ids_only_in_json', by_png(lambda p: 0 * p)),
    ('area', by_png(lambda p: np.vstack([0 * p[:1], p[1:]]))),
    # all in a folder, as where a folder was zipped and not its content
    ('layout', lambda files: {f'x/{n}': c for n, c in files.items()}),
    ('layout', lambda files: files.update({f'{STEM}/9999.png': b''})),
    ('layout', lambda files: files.update(readme=b'hello')),
    ('layout', lambda files: files.update({f'{STEM}/.DS_Store': b''})),
    ('layout', lambda files: files.update({'__MACOSX/1.png': b''})),
    ('layout', lambda files: files.update({'../up.png': b''})),
    ('layout', lambda files: files.update({'other.json': b'{}'})),
    ('layout', lambda files: {'1.png': b''}),
]  # yapf: disable


@pytest.mark.parametrize('number', range(len(PANOPTIC_FAULTS)))
def test_faults_of_maps_are_named(check, number):
    rule, change = PANOPTIC_FAULTS[number]
    found = check('panoptic', change)
    assert rule in found.kinds(ERROR), found.examples


def test_maps_may_lie_in_folders(check):
    """As panopticapi reads them."""

    def move(files):
        edit_json(files, lambda c: first(c).update(file_name='a/b.png'))
        files[f'{STEM}/a/b.png'] = files.pop(f'{STEM}/{name}')

    files = {}
    check('panoptic', files.update)
    edit_json(dict(files), lambda c: files.update(first=first(c)))
    name = files['first']['file_name']
    assert not check('panoptic', move).counts


@pytest.mark.parametrize(
    'stem', ['results', 'panoptic_net', 'panoptic_test-dev2017_other_results'])
def test_names_must_be_the_servers(check, stem):
    assert check('panoptic', stem=stem).kinds(ERROR) == ['file_name']


def test_several_processes_find_the_same(check):
    change = by_png(lambda p: 0 * p)
    one, two = [check('panoptic', change, num_workers=n) for n in (1, 2)]
    assert one.examples and one.examples == two.examples


def mask(entry, **kwargs):
    entry['segmentation'].update(kwargs)


#: Rule -> changes of the list that break it.
DETECTION_FAULTS = {
    'unknown_image': [lambda c: c[0].update(image_id=12345),
                      lambda c: c[0].update(image_id=[1])],
    'unknown_category': [lambda c: c[0].update(category_id=9999)],
    'score': [lambda c: c[0].update(score=1.01),
              lambda c: c[0].update(score='0.5'),
              lambda c: c[0].update(score=10**400)],
    'bbox': [lambda c: c[0].update(bbox=[0, 0, 10]),
             lambda c: c[0].update(bbox=[0, 0, -1, 4]),
             lambda c: c[0].update(bbox=[50, 0, 20, 4]),
             lambda c: c[0].update(bbox=[0, 0.5, 9, 10**400])],
    'mask': [lambda c: c[0].pop('segmentation'),
             lambda c: mask(c[0], size=[56, 40]),
             lambda c: mask(c[0], counts='')],
    'wrong_value': [lambda c: c.append(7)],
}  # yapf: disable


@pytest.mark.parametrize('rule', DETECTION_FAULTS)
def test_faults_of_detections_are_named(check, rule):
    for change in DETECTION_FAULTS[rule]:
        found = check('segm', by_json(change))
        assert found.kinds(ERROR) == [rule], found.examples


def test_stuff_is_no_detection(made, check):
    stuff = made[1].space.category_ids[-1]
    found = check('bbox', by_json(lambda c: c[0].update(category_id=stuff)))
    assert found.kinds(ERROR) == ['unknown_category']


def test_a_dict_is_no_list_and_pngs_do_not_belong(check):
    found = check('bbox', lambda files: {'1.png': b'', 'a.json': b'{}'})
    assert found.kinds(ERROR) == ['wrong_value', 'file_name', 'layout']


def test_what_is_odd_is_allowed(check):

    def ramp(content):
        content[:] = [dict(content[0], score=i / 200) for i in range(101)]

    found = check('bbox', by_json(ramp))
    assert found.kinds(WARNING) == ['order', 'too_many']
    assert not found.total(ERROR)
    empty = mask_util.encode(np.zeros((40, 56), np.uint8, order='F'))
    found = check(
        'segm', by_json(lambda c: mask(c[0], counts=empty['counts'].decode())))
    assert [f.where for f in found.examples['empty_mask']] == ['detection 0']
    assert not found.total(ERROR)
