"""Panoptic archives: COCO's own script reads them, each fault is named."""
import json
import zipfile

import numpy as np
import pytest

from panoptic_apps.submission import SERVERS, check_archive
from panoptic_fpn.coco_format import ERROR
from panoptic_fpn.metrics import PanopticQualityMetric
from tests.oracles.perturb import write_coco_panoptic
from tests.panoptic_fpn.metrics.data import make_case, run_metric, space_of

from .archives import (COCO, coco_results, edit_json, pixels_of, png, read_all,
                       write_all, zip_task)

SERVER = SERVERS['coco-test-dev']
STEM = 'panoptic_test-dev2017_net_results'


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Files of a valid archive, and what it has to be about."""
    folder = tmp_path_factory.mktemp('coco')
    _, expected = coco_results(folder)
    path = zip_task(COCO['panoptic'], folder)
    return read_all(path), expected


def found_in(files, expected, folder, name=f'{STEM}.zip'):
    path = write_all(folder / name, files)
    return check_archive(path, SERVER, None, expected, num_workers=1)


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


def first(content):
    return content['annotations'][0]


def segment(content):
    return next(a['segments_info'][0] for a in content['annotations']
                if a['segments_info'])


def two_segments(content):
    return next(a['segments_info'] for a in content['annotations']
                if len(a['segments_info']) > 1)


def rename(content, old, new):
    content[new] = content.pop(old)


#: Rule -> changes of the JSON that break it.
JSON_FAULTS = {
    'no_result': [lambda c: c['annotations'].pop()],
    'annotation_twice': [lambda c: c['annotations'].append(first(c))],
    'unknown_image': [
        lambda c: first(c).update(image_id=12345),
        lambda c: first(c).update(image_id=str(first(c)['image_id'])),
    ],
    'key_missing': [
        lambda c: first(c).pop('image_id'),
        lambda c: rename(c, 'annotations', 'results'),
    ],
    'wrong_value': [
        lambda c: first(c).update(image_id=True),
        lambda c: first(c).update(segments_info=None),
        lambda c: first(c)['segments_info'].append('road'),
        lambda c: segment(c).update(id=1.5),
    ],
    'file_named_twice':
    [lambda c: first(c).update(file_name=c['annotations'][1]['file_name'])],
    'png_missing': [lambda c: first(c).update(file_name='other.png')],
    'file_name': [
        lambda c: first(c).update(file_name='a/b.png'),
        lambda c: first(c).update(file_name='1.jpg'),
    ],
    'segment_id_range': [
        lambda c: segment(c).update(id=0),
        lambda c: segment(c).update(id=256**3),
    ],
    'segment_id_twice': [
        lambda c: two_segments(c)[0].update(id=two_segments(c)[1]['id']),
    ],
    'ids_only_in_png': [lambda c: two_segments(c).pop()],
    'ids_only_in_json': [
        lambda c: two_segments(c)[0].update(id=99999),
        lambda c: first(c)['segments_info'].append(
            dict(id=7777, category_id=segment(c)['category_id'])),
    ],
    'unknown_category': [
        lambda c: segment(c).update(category_id=9999),
        lambda c: segment(c).update(category_id=True),
    ],
    'crowd': [lambda c: segment(c).update(iscrowd=1)],
    'area': [lambda c: segment(c).update(area=segment(c)['area'] + 1)],
}  # yapf: disable


@pytest.mark.parametrize('rule, number',
                         [(rule, i) for rule, all_ in JSON_FAULTS.items()
                          for i in range(len(all_))])
def test_faults_of_the_json_are_named(made, tmp_path, rule, number):
    files, expected = dict(made[0]), made[1]
    edit_json(files, JSON_FAULTS[rule][number])
    found = found_in(files, expected, tmp_path)
    assert rule in found.kinds(ERROR), found.examples


def spoil_png(files, folder, change):
    name = sorted(n for n in files if n.endswith('.png'))[0]
    files[name] = change(files[name], folder)


#: Rule -> changes of the bytes of a PNG.
PNG_FAULTS = {
    'png_single_channel': [lambda b, d: png(pixels_of(b, d)[..., 0], d)],
    'png_format': [
        lambda b, d: png(np.dstack([pixels_of(b, d), pixels_of(b, d)[:, :, 0]
                                    ]), d),
    ],
    'png_corrupt': [
        lambda b, d: b'no picture at all, of any kind',
        lambda b, d: b[:len(b) // 2],
    ],
    'png_size': [lambda b, d: png(pixels_of(b, d)[:-1], d)],
    'png_of_another_image': [
        lambda b, d: png(pixels_of(b, d)[..., ::-1], d),
    ],
    'ids_only_in_json': [lambda b, d: png(0 * pixels_of(b, d), d)],
    'area': [lambda b, d: png(np.where(np.arange(40)[:, None, None] == 0, 0,
                                       pixels_of(b, d)), d)],
}  # yapf: disable


@pytest.mark.parametrize('rule, number', [(rule, i)
                                          for rule, all_ in PNG_FAULTS.items()
                                          for i in range(len(all_))])
def test_faults_of_a_png_are_named(made, tmp_path, rule, number):
    files, expected = dict(made[0]), made[1]
    spoil_png(files, tmp_path, PNG_FAULTS[rule][number])
    found = found_in(files, expected, tmp_path)
    assert rule in found.kinds(ERROR), found.examples


def moved(files):
    """All in a folder, as where a folder was zipped and not its content."""
    return {f'results/{name}': content for name, content in files.items()}


LAYOUTS = dict(
    nested=moved,
    stray=lambda files: dict(files, **{f'{STEM}/9999.png': b''}),
    note=lambda files: dict(files, readme=b'hello'),
    hidden=lambda files: dict(files, **{f'{STEM}/.DS_Store': b''}),
    apple=lambda files: dict(files, **{f'__MACOSX/{STEM}/._1.png': b''}),
    outside=lambda files: dict(files, **{'../up.png': b''}),
    two=lambda files: dict(files, **{'other.json': b'{}'}),
    none=lambda files: {
        n: c
        for n, c in files.items() if n.endswith('.png')
    })


@pytest.mark.parametrize('name', LAYOUTS)
def test_faults_of_the_layout_are_named(made, tmp_path, name):
    files, expected = made
    path = write_all(tmp_path / f'{STEM}.zip', LAYOUTS[name](files))
    found = check_archive(path, SERVER, 'panoptic', expected, 1)
    assert 'layout' in found.kinds(ERROR), found.examples


def test_names_must_be_the_servers(made, tmp_path):
    files, expected = made
    assert not found_in(files, expected, tmp_path).counts
    for name in ('results.zip', 'panoptic_net.zip',
                 'panoptic_test-dev2017_other_results.zip'):
        path = write_all(tmp_path / name, files)
        found = check_archive(path, SERVER, 'panoptic', expected, 1)
        assert found.kinds(ERROR) == ['file_name'], name


def test_a_json_with_nan_is_none(made, tmp_path):
    files, expected = dict(made[0]), made[1]
    edit_json(files, lambda c: segment(c).update(area=float('nan')))
    found = found_in(files, expected, tmp_path)
    fault, = found.examples['json_unreadable']
    assert 'NaN' in fault.value and found.total(ERROR) == 1


def test_a_json_that_is_nested_too_deeply_is_none(made, tmp_path):
    files, expected = dict(made[0]), made[1]
    name = next(n for n in files if n.endswith('.json'))
    files[name] = 9999 * b'['
    found = found_in(files, expected, tmp_path)
    fault, = found.examples['json_unreadable']
    assert 'recursion' in fault.value and found.total(ERROR) == 1


def test_several_processes_find_the_same(made, tmp_path):
    files, expected = dict(made[0]), made[1]
    spoil_png(files, tmp_path, lambda b, d: png(0 * pixels_of(b, d), d))
    path = write_all(tmp_path / f'{STEM}.zip', files)
    one = check_archive(str(path), SERVER, None, expected, num_workers=1)
    two = check_archive(str(path), SERVER, None, expected, num_workers=2)
    assert one.examples and one.examples == two.examples
