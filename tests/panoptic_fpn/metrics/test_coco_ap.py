"""AP in memory against pycocotools and mmdet; see also tests/properties."""
import json
import math

import numpy as np
import pytest
from mmdet.evaluation import CocoMetric

from mmengine_exact.errors import InputError
from panoptic_fpn.metrics import PanopticInstanceAPMetric, coco_ap
from tests.oracles.coco_ap import evaluate_by_pycocotools

from .data import clone, detections, make_case, run_metric, space_of
from .test_instance_ap import instances_json


def with_ids(*ids):

    def change(annotations):
        for annotation, id_ in zip(annotations, ids):
            annotation['id'] = id_

    return change


def as_polygons(annotations):
    for ann in annotations[::2]:
        x, y, w, h = ann['bbox']
        ann['segmentation'] = [[x, y, x + w, y + 0.3, x + w / 2, y + h]]
        ann['iscrowd'] = 0


@pytest.mark.parametrize('backend', ['pycocotools', 'hotcoco'])
@pytest.mark.parametrize('change, warned', [
    (with_ids(*range(99)), True),
    (with_ids(*[0] * 99), True),
    (with_ids(7, 7, 8, 8, 8), True),
    (with_ids(*range(-98, 0)), False),
    (with_ids(*map(str, range(99))), False),
    (as_polygons, False),
])
def test_scores_do_not_depend_on_ids_of_annotations(tmp_path, change, warned,
                                                    backend, log):
    """They are pycocotools' of ids from 1; the file is named once."""
    if backend == 'hotcoco':
        pytest.importorskip('hotcoco')
    data, _, samples = make_case(0, string_ids=True)
    space, path = space_of(data), tmp_path / 'instances.json'
    content = instances_json(data, path)
    change(content['annotations'])
    path.write_text(json.dumps(content))
    metric = PanopticInstanceAPMetric(ann_file=str(path), backend=backend)
    scores = run_metric(metric, samples, space.metainfo())
    assert log.getvalue().count(f'{path}: ') == warned
    assert ('annotation ids are 0' in log.getvalue()) == warned
    with_ids(*range(1, 999))(content['annotations'])
    id_of = {c['name']: c['id'] for c in content['categories']}
    ids = [id_of[name] for name in space.thing_names]
    for kind in ('bbox', 'segm'):
        plain = evaluate_by_pycocotools(
            content,
            detections(samples, ids, kind),
            kind,
            maxDets=[100, 300, 1000])
        assert scores[f'coco/{kind}_mAP'] == round(plain.stats[0], 3)


@pytest.mark.parametrize('backend', ['pycocotools', 'hotcoco'])
@pytest.mark.parametrize('seed', range(4))
def test_scores_are_those_of_mmdet(tmp_path, backend, seed):
    """From results in memory instead of JSON files."""
    if backend == 'hotcoco':
        pytest.importorskip('hotcoco')
    data, _, samples = make_case(seed)
    space = space_of(data)
    path = tmp_path / 'instances.json'
    content = instances_json(data, path)
    content['categories'].sort(key=lambda c: space.names.index(c['name']))
    # mmdet mixes up the classes whose ids do not ascend
    ascending = {c['id']: i for i, c in enumerate(content['categories'])}
    for category in content['categories']:
        category['id'] = ascending[category['id']]
    for ann in content['annotations']:
        ann['category_id'] = ascending[ann['category_id']]
    path.write_text(json.dumps(content))
    options = [
        dict(),
        dict(classwise=True),
        dict(metric='segm', metric_items=['mAP_s', 'AR_l@1000']),
        dict(
            metric='bbox',
            proposal_nums=(1, 2, 100),
            iou_thrs=np.array([0.5, 0.75]))
    ][seed]
    theirs = dict(
        metric=['bbox', 'segm'], **options) if ('metric'
                                                not in options) else options
    expected = run_metric(
        CocoMetric(ann_file=str(path), **theirs), clone(samples),
        dict(classes=space.thing_names))
    found = run_metric(
        PanopticInstanceAPMetric(
            ann_file=str(path), backend=backend, **options), samples,
        space.metainfo())
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if value == -1 or math.isnan(value):
            assert math.isnan(found[key]), key
        else:
            assert found[key] == value, key


def test_the_default_is_what_is_installed(monkeypatch):
    monkeypatch.setattr(coco_ap, 'find_spec', lambda name: None)
    assert PanopticInstanceAPMetric().backend == 'pycocotools'
    with pytest.raises(InputError, match='hotcoco.*not installed'):
        PanopticInstanceAPMetric(backend='hotcoco')
    monkeypatch.setattr(coco_ap, 'find_spec', lambda name: name)
    assert PanopticInstanceAPMetric().backend == 'hotcoco'
    assert PanopticInstanceAPMetric(
        backend='pycocotools').backend == 'pycocotools'
