"""AP from hotcoco is pycocotools' to the last bit; in-memory results too."""
import copy
import io
import json
import math
from contextlib import redirect_stdout

import numpy as np
import pytest
from mmdet.evaluation import CocoMetric
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from panoptic_fpn.metrics import PanopticInstanceAPMetric, coco_ap
from panoptic_fpn.metrics.base import unique_rows
from panoptic_fpn.metrics.instance_ap import found_entries
from tests.oracles.runs import encode

from .data import clone, make_case, run_metric, space_of
from .test_instance_ap import instances_json

BACKENDS = ('pycocotools', 'hotcoco')


def random_mask(rng, shape):
    """A rectangle, also of the very areas that part small from large; noise;
    nothing."""
    mask = np.zeros(shape, bool)
    kind = rng.random()
    if kind < 0.1:
        return mask if kind < 0.05 else rng.random(shape) < 0.4
    y, x = rng.integers(0, shape)
    side = rng.choice([4, 8, 16, 32, 96])
    high, wide = rng.choice([[side, side], rng.integers(1, side + 1, 2)])
    mask[y:y + high, x:x + wide] = True
    return mask


def random_truth(rng):
    """Instances with crowd, and images and categories without any."""
    shape = tuple(rng.integers(20, 130, 2).tolist())
    images = [
        dict(id=int(i), height=shape[0], width=shape[1])
        for i in rng.choice(99, rng.integers(1, 6), replace=False)
    ]
    categories = [
        dict(id=int(i), name=f'c{i}')
        for i in rng.choice(50, rng.integers(1, 5), replace=False)
    ]
    annotations, masks = [], []
    for image in images:
        for _ in range(rng.integers(0, 7)):
            mask = random_mask(rng, shape)
            rle = encode(mask)
            masks.append(mask)
            annotations.append(
                dict(
                    id=len(masks),
                    image_id=image['id'],
                    category_id=rng.choice(categories)['id'],
                    iscrowd=int(rng.random() < 0.25),
                    area=int(mask.sum()),
                    bbox=mask_util.toBbox(rle).tolist(),
                    segmentation=rle))
    return dict(
        images=images, annotations=annotations, categories=categories), masks


def random_detections(rng, dataset, masks):
    """Right, shifted, thinned and spurious ones; few different scores."""
    found, levels = [], rng.integers(2, 8)
    for image in dataset['images']:
        near = [(a, m) for a, m in zip(dataset['annotations'], masks)
                if a['image_id'] == image['id']]
        for _ in range(rng.integers(0, 25)):
            mask = random_mask(rng, (image['height'], image['width']))
            category = rng.choice(dataset['categories'])['id']
            if near and rng.random() < 0.7:
                ann, mask = near[rng.integers(len(near))]
                category = ann['category_id']
                mask = np.roll(mask, rng.integers(-2, 3, 2), (0, 1))
            if rng.random() < 0.2:
                mask = mask & (rng.random(mask.shape) < 0.5)
            rle = encode(mask)
            box = mask_util.toBbox(rle)
            if rng.random() < 0.5:
                box = box + rng.normal(size=4).astype(np.float32)
            found.append(
                dict(
                    image_id=image['id'],
                    category_id=category,
                    score=float(np.float32(rng.integers(levels) / levels)),
                    bbox=box.tolist(),
                    segmentation=dict(
                        size=rle['size'], counts=rle['counts'].decode())))
    return found


def images_of(dataset, found, iou_type):
    """Image by image, categories numbered from 1 in the order of their ids;
    annotations and detections of others are left out."""
    ids = sorted(category['id'] for category in dataset['categories'])

    def kept(entries, image, keys):
        return [
            dict({k: e[k]
                  for k in keys},
                 category_id=1 + ids.index(e['category_id'])) for e in entries
            if e['image_id'] == image['id'] and e['category_id'] in ids
        ]

    shape_key = 'segmentation' if iou_type == 'segm' else 'bbox'
    for image in sorted(dataset['images'], key=lambda image: image['id']):
        annotations = kept(dataset['annotations'], image,
                           ('id', 'iscrowd', 'area', 'bbox', 'segmentation'))
        shape = image['height'], image['width']
        for entry in annotations:
            entry['segmentation'] = coco_ap.to_rle(entry['segmentation'],
                                                   shape)
        yield shape, annotations, kept(found, image, ('score', shape_key))


def by_pycocotools(dataset, found, iou_type, **params):
    """The library on the dicts as they are."""
    shape_key = 'segmentation' if iou_type == 'segm' else 'bbox'
    found = [{
        k: entry[k]
        for k in ('image_id', 'category_id', 'score', shape_key)
    } for entry in found]
    truth = COCO()
    truth.dataset = copy.deepcopy(dataset)
    truth.createIndex()
    nothing = dict(
        image_id=dataset['images'][0]['id'],
        category_id=-1,
        bbox=[0, 0, 1, 1],
        score=0)
    judged = COCOeval(truth, truth.loadRes(found or [nothing]), iou_type)
    vars(judged.params).update(params)
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    return judged


def params_of(rng):
    dets = [(100, 300, 1000), (1, 3, 5), (2, 100, 1000)]
    return dict(
        maxDets=list(dets[rng.integers(3)]),
        iouThrs=rng.choice(
            [np.linspace(.5, .95, 10),
             np.linspace(.05, .5, 10)]))


def assert_same_evaluation(dataset, found, params, iou_types=('bbox', 'segm')):
    pytest.importorskip('hotcoco')
    for iou_type in iou_types:
        with redirect_stdout(io.StringIO()):
            plain = by_pycocotools(dataset, found, iou_type, **params)
            ours = [
                coco_ap.evaluate_images(
                    images_of(dataset, found, iou_type),
                    len(dataset['categories']), iou_type, backend, **params)
                for backend in BACKENDS
            ]
        for judged in ours:
            for key in ('precision', 'recall'):
                assert plain.eval[key].shape == judged.eval[key].shape
                assert plain.eval[key].tobytes() == judged.eval[key].tobytes()
            assert plain.stats.tobytes() == judged.stats.tobytes()


@pytest.mark.parametrize('seed', range(60))
def test_both_backends_give_the_bits_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    dataset, masks = random_truth(rng)
    found = random_detections(rng, dataset, masks)
    assert_same_evaluation(dataset, found, params_of(rng))


def test_without_detections_or_ground_truth():
    rng = np.random.default_rng(3)
    dataset, masks = random_truth(rng)
    params = params_of(rng)
    assert_same_evaluation(dataset, [], params)
    found = random_detections(rng, dataset, masks)
    assert_same_evaluation(dict(dataset, annotations=[]), found, params)


def test_ids_that_are_strings_and_polygons():
    rng = np.random.default_rng(5)
    dataset, masks = random_truth(rng)
    found = random_detections(rng, dataset, masks)
    for entry in dataset['annotations'] + found:
        entry['image_id'] = f'image {entry["image_id"]}'
    for image in dataset['images']:
        image['id'] = f'image {image["id"]}'
    for ann in dataset['annotations'][::2]:
        x, y, w, h = ann['bbox']
        ann['segmentation'] = [[x, y, x + w, y + 0.3, x + w / 2, y + h]]
        ann['iscrowd'] = 0
    assert_same_evaluation(dataset, found, params_of(rng))


@pytest.mark.parametrize('ids', [(0, 1), (1, 1)])
def test_ids_that_pycocotools_treats_in_its_own_way(tmp_path, ids):
    """0 means 'unmatched' there, and of equal ids the last one counts."""
    data, _, samples = make_case(0)
    path = tmp_path / 'instances.json'
    content = instances_json(data, path)
    for annotation, id_ in zip(content['annotations'], ids):
        annotation['id'] = id_
    path.write_text(json.dumps(content))
    content['categories'].sort(key=lambda c: c['id'])
    names = space_of(data).thing_names
    metric = PanopticInstanceAPMetric(ann_file=str(path))
    scores = run_metric(metric, samples, space_of(data).metainfo())
    id_of = {c['name']: c['id'] for c in content['categories']}
    found = [
        dict(entry, image_id=image_id, segmentation=entry['segmentation'])
        for image_id, row in unique_rows(rows_of(samples, data))
        for entry in found_entries(row.found, row.shape,
                                   np.array([id_of[n] for n in names]), 'segm')
    ]
    with redirect_stdout(io.StringIO()):
        plain = by_pycocotools(
            content, found, 'segm', maxDets=[100, 300, 1000])
    assert scores['coco/segm_mAP'] == round(plain.stats[0], 3)


def rows_of(samples, data):
    metric = PanopticInstanceAPMetric()
    metric.dataset_meta = space_of(data).metainfo()
    metric.process(None, samples)
    return metric.results


@pytest.mark.parametrize('backend', BACKENDS)
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
    monkeypatch.setattr(coco_ap, 'find_spec', lambda name: name)
    assert PanopticInstanceAPMetric().backend == 'hotcoco'
    assert PanopticInstanceAPMetric(
        backend='pycocotools').backend == 'pycocotools'
