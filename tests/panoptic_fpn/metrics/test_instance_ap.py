"""AP: derived ground truth against an equivalent JSON and mmdet's metric."""
import json
import math

import numpy as np
import pytest
import torch
from mmdet.structures.mask import encode_mask_results
from pycocotools import mask as mask_util

from mmengine_exact.errors import InputError
from panoptic_fpn.metrics import PanopticInstanceAPMetric
from panoptic_fpn.metrics.instance_ap import split_rles
from tests.oracles.derive import derive_instances

from .data import make_case, run_metric, space_of


def instances_json(data, path, shuffle=0, rename=None):
    """Instances JSON of the oracle's instances; its category ids are new.

    Returns:
        dict: The content that was written to ``path``.
    """
    space = space_of(data)
    order = np.random.default_rng(shuffle).permutation(space.num_things)
    new_id = {int(label): 100 + i for i, label in enumerate(order)}
    categories = [
        dict(
            id=new_id[int(label)],
            name=(rename or {}).get(space.names[label], space.names[label]))
        for label in order
    ]
    annotations = []
    for image in data.images:
        found = derive_instances(image.id_map, image.segments, data.categories)
        for box, mask, label, crowd in zip(found['boxes'].tolist(),
                                           found['masks'], found['labels'],
                                           found['crowd']):
            rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
            x1, y1, x2, y2 = box
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image.image_id,
                    category_id=new_id[int(label)],
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=int(mask.sum()),
                    iscrowd=int(crowd),
                    segmentation=dict(
                        size=rle['size'], counts=rle['counts'].decode())))
    images = [
        dict(
            id=image.image_id,
            file_name=image.file_name,
            height=image.id_map.shape[0],
            width=image.id_map.shape[1]) for image in data.images
    ]
    content = dict(
        images=images, annotations=annotations, categories=categories)
    path.write_text(json.dumps(content))
    return content


def empty_detections(samples):
    return [{
        **s, 'pred_instances':
        dict(
            bboxes=torch.zeros(0, 4),
            scores=torch.zeros(0),
            labels=torch.zeros(0, dtype=torch.int64),
            masks=torch.zeros(0, *s['ori_shape'], dtype=torch.bool))
    } for s in samples]


@pytest.mark.parametrize('seed', range(5))
def test_derived_equals_an_equivalent_json(tmp_path, seed, log):
    """Also where ids do not ascend with the labels."""
    data, _, samples = make_case(seed, string_ids=seed % 2 == 1)
    meta = space_of(data).metainfo()
    path = tmp_path / 'instances.json'
    instances_json(data, path, shuffle=seed)
    samples = samples[:3]  # the JSON may have more images
    derived = run_metric(
        PanopticInstanceAPMetric(classwise=True), samples, meta)
    assert 'derived from the panoptic annotation' in log.getvalue()
    named = run_metric(
        PanopticInstanceAPMetric(classwise=True, ann_file=str(path)), samples,
        meta)
    np.testing.assert_equal(derived, named)
    assert {f'coco/{name}_precision'
            for name in meta['thing_classes']} <= set(derived)
    assert 0 < derived['coco/segm_mAP'] < 1
    assert derived['coco/bbox_mAP_50'] >= derived['coco/bbox_mAP']


def assert_same_instances(truth, expected, shape):
    """Ours against the oracle's, whose boxes are x1, y1, x2, y2."""
    assert truth.labels.tolist() == expected['labels'].tolist()
    assert truth.crowd.tolist() == expected['crowd'].tolist()
    for box, area, rle, mask, (x1, y1, x2,
                               y2) in zip(truth.boxes, truth.values,
                                          split_rles(truth.masks,
                                                     shape), expected['masks'],
                                          expected['boxes']):
        assert (mask_util.decode(rle) == mask).all() and area == mask.sum()
        assert box.tolist() == [x1, y1, x2 - x1, y2 - y1]


@pytest.mark.parametrize('named', [False, True])
def test_no_detection_at_all_is_zero(tmp_path, named):
    data, _, samples = make_case(5)
    path = tmp_path / 'instances.json'
    instances_json(data, path)
    metric = PanopticInstanceAPMetric(ann_file=str(path) if named else None)
    scores = run_metric(metric, empty_detections(samples),
                        space_of(data).metainfo())
    assert scores['coco/bbox_mAP'] == scores['coco/segm_mAP_50'] == 0
    assert set(scores) >= {'coco/bbox_mAP_75', 'coco/segm_mAP_75'}


def test_no_ground_truth_is_nan():
    data, _, samples = make_case(6)
    void = torch.full((1, 40, 56), len(data.categories), dtype=torch.int32)
    for sample in samples:
        sample.update(
            gt_panoptic_seg=dict(sem_seg=void), gt_codes=[], crowd_codes=[])
    meta = space_of(data).metainfo()
    for images in (samples, empty_detections(samples)):
        scores = run_metric(PanopticInstanceAPMetric(), images, meta)
        assert all(map(math.isnan, scores.values())) and len(scores) == 12


def test_data_without_things_is_nan():
    data, _, samples = make_case(7, num_things=0)
    scores = run_metric(PanopticInstanceAPMetric(), samples,
                        space_of(data).metainfo())
    assert all(map(math.isnan, scores.values())) and len(scores) == 12


def test_masks_may_be_rles_or_absent():
    data, _, samples = make_case(8)
    meta = space_of(data).metainfo()
    expected = run_metric(PanopticInstanceAPMetric(), samples, meta)
    for pred in (sample['pred_instances'] for sample in samples):
        pred['masks'] = encode_mask_results(pred['masks'].numpy())
    scores = run_metric(PanopticInstanceAPMetric(), samples, meta)
    np.testing.assert_equal(scores, expected)
    for sample in samples:
        del sample['pred_instances']['masks']
    scores = run_metric(PanopticInstanceAPMetric(), samples, meta)
    assert scores['coco/bbox_mAP'] == expected['coco/bbox_mAP']
    assert math.isnan(scores['coco/segm_mAP'])


def test_format_only_writes_the_ids_of_the_data_set(tmp_path):
    data, _, samples = make_case(11, string_ids=True)
    space = space_of(data)
    for sample in samples:
        sample['gt_panoptic_seg'] = None
    metric = PanopticInstanceAPMetric(
        format_only=True, outfile_prefix=str(tmp_path / 'r'))
    assert run_metric(metric, samples, space.metainfo()) == {}
    written = json.loads((tmp_path / 'r.segm.json').read_text())
    assert {w['image_id']
            for w in written} <= {image.image_id
                                  for image in data.images}
    assert {w['category_id']
            for w in written} <= set(space.category_ids[:space.num_things])


def test_errors(tmp_path):
    data, _, samples = make_case(12)
    space = space_of(data)
    meta = space.metainfo()
    path = tmp_path / 'instances.json'

    def run(images, **kwargs):
        return run_metric(PanopticInstanceAPMetric(**kwargs), images, meta)

    name = space.thing_names[0]
    instances_json(data, path, rename={name: 'other'})
    with pytest.raises(ValueError, match=f'instances.json.*{name}'):
        run(samples, ann_file=str(path))
    content = instances_json(data, path)
    content['images'][0]['height'] = 41
    path.write_text(json.dumps(content))
    for kind in ('segm', 'bbox'):
        with pytest.raises(ValueError, match=r'\(41, 56\)'):
            run(samples, ann_file=str(path), metric=kind)
    instances_json(data, path)
    with pytest.raises(ValueError, match="'b' is .* not listed .*first id"):
        run([{**samples[1], 'img_id': 'b'}], ann_file=str(path))


@pytest.mark.parametrize('change, words', [
    (dict(img_id=10**6), '1000000 is .* not listed there; the first id there'),
    (dict(width=57), r'is \(40, 57\) .* in the data set and \(40, 56\) there'),
    (dict(), None),
])
def test_truth_of_other_images_is_found_before_anything_is_predicted(
        tmp_path, change, words):
    data, _, samples = make_case(12)
    path = tmp_path / 'instances.json'
    instances_json(data, path)
    metric = PanopticInstanceAPMetric(ann_file=str(path))
    metric.dataset_meta = space_of(data).metainfo()
    images = [
        dict(img_id=sample['img_id'], height=40, width=56)
        for sample in samples
    ]
    images[-1].update(change)
    if words is None:
        metric.check_images(images)
        return
    with pytest.raises(InputError, match=f'instances.json: image .*{words}'):
        metric.check_images(images)


@pytest.mark.parametrize('content', [None, '{', '{}'])
def test_an_unreadable_instances_json_is_named(tmp_path, content):
    path = tmp_path / 'instances.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=str(path)):
        PanopticInstanceAPMetric(ann_file=str(path))


@pytest.mark.parametrize(
    'mask, fault',
    [(dict(size=[2, 3], counts=[6]), r'id=1: .* an RLE of \(40, 56\)'),
     ([], r'annotation id=1: segmentation=\[\]')])
def test_masks_that_do_not_fit_their_image(tmp_path, mask, fault):
    data, _, samples = make_case(12)
    path = tmp_path / 'instances.json'
    content = instances_json(data, path)
    content['annotations'][0]['segmentation'] = mask
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=fault):
        PanopticInstanceAPMetric(ann_file=str(path))
    # boxes need no mask
    metric = PanopticInstanceAPMetric(ann_file=str(path), metric='bbox')
    assert run_metric(metric, samples, space_of(data).metainfo())
