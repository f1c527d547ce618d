"""Instances that follow from a panoptic annotation, and COCO's AP of them."""
import contextlib
import io
import math
from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from panoptic_fpn.metrics import PanopticInstanceAPMetric
from panoptic_fpn.metrics.instance_ap import instance_truth
from tests.oracles.derive import derive_instances, derive_panoptic, labels_of
from tests.oracles.perturb import annotation_of, ids_of_kind
from tests.oracles.runs import encode
from tests.panoptic_fpn.metrics.data import as_map, run_metric, space_of
from tests.panoptic_fpn.metrics.test_instance_ap import assert_same_instances

from . import strategies

TOLERANCE = 1e-9


@given(st.data())
def test_derived_instances_are_the_pixels_of_the_things(data):
    categories = data.draw(strategies.label_spaces())
    image = data.draw(strategies.panoptic_images(categories, crowd_stuff=True))
    expected = derive_instances(image.id_map, image.segments, categories)
    coded = derive_panoptic(image.id_map, image.segments, categories)
    found = instance_truth(coded['map'], np.array(coded['codes'], np.int64),
                           np.isin(coded['codes'], coded['crowd_codes']),
                           len(ids_of_kind(categories, True)))
    assert_same_instances(found, expected, image.id_map.shape)


@st.composite
def cases(draw):
    """Ground truth; labels, masks and scores of each image's detections.

    Some images are enlarged: COCO tells areas from 32 x 32 pixels on from
    small ones.
    """
    data = draw(strategies.data_sets(least_things=1, most=3))
    factor = draw(st.sampled_from([1, 1, 5]))
    label_of = labels_of(data.categories)
    things = ids_of_kind(data.categories, True)
    images, detections = [], []
    for image in data.images:
        shape = image.id_map.shape
        masks, _, scores, labels = draw(
            strategies.instances(shape, len(things)))
        near = draw(strategies.predictions(image, data.categories))
        near = [(label_of[s['category_id']], near.id_map == s['id'])
                for s in near.segments if s['category_id'] in things]
        scores = scores.tolist() + draw(
            st.lists(
                strategies.SCORES, min_size=len(near), max_size=len(near)))
        masks = list(masks) + [mask for _, mask in near]
        labels = labels.tolist() + [label for label, _ in near]
        detections.append([
            (label, np.kron(mask, np.ones((factor, factor), bool)), score)
            for label, mask, score in zip(labels, masks, scores)
        ])
        id_map = np.kron(image.id_map, np.ones((factor, factor), np.int64))
        images.append(replace(image, id_map=id_map))
    return replace(data, images=images), detections


def box(mask):
    ys, xs = np.nonzero(mask)
    if not ys.size:
        return [0, 0, 0, 0]
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def samples_of(data, detections):
    samples = []
    for image, found in zip(data.images, detections):
        shape = image.id_map.shape
        truth = derive_panoptic(image.id_map, image.segments, data.categories)
        masks = np.array([m for _, m, _ in found], bool).reshape(-1, *shape)
        boxes = np.array([box(m) for _, m, _ in found], np.float32)
        samples.append(
            dict(
                img_id=image.image_id,
                ori_shape=shape,
                gt_codes=truth['codes'],
                crowd_codes=truth['crowd_codes'],
                gt_panoptic_seg=as_map(truth['map']),
                pred_instances=dict(
                    bboxes=torch.from_numpy(boxes.reshape(-1, 4)),
                    scores=torch.tensor([s for *_, s in found]),
                    labels=torch.tensor([label for label, *_ in found],
                                        dtype=torch.int64),
                    masks=torch.from_numpy(masks))))
    return samples


def by_pycocotools(data, detections, kind):
    """Scores of all, and AP of each category, -1 where there is none."""
    id_of = {label: id_ for id_, label in labels_of(data.categories).items()}
    things = sorted(ids_of_kind(data.categories, True))
    truth, found = [], []
    for image, ours in zip(data.images, detections):
        for one in annotation_of(image)['segments_info']:
            if one['category_id'] in things:
                truth.append(
                    dict(
                        one,
                        id=len(truth) + 1,
                        image_id=image.image_id,
                        segmentation=encode(image.id_map == one['id'])))
        for label, mask, score in ours:
            x1, y1, x2, y2 = map(int, box(mask))
            entry = dict(
                image_id=image.image_id,
                category_id=id_of[label],
                score=float(np.float32(score)))
            if kind == 'bbox':
                entry['bbox'] = [x1, y1, x2 - x1, y2 - y1]
            else:
                entry['segmentation'] = encode(mask)
            found.append(entry)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = dict(
            images=[
                dict(
                    id=image.image_id,
                    height=image.id_map.shape[0],
                    width=image.id_map.shape[1]) for image in data.images
            ],
            annotations=truth,
            categories=[dict(id=id_) for id_ in things])
        coco.createIndex()
        # a results file without an entry cannot be loaded
        dummy = dict(
            image_id=data.images[0].image_id,
            category_id=-1,
            bbox=[0, 0, 1, 1],
            score=0)
        judged = COCOeval(coco, coco.loadRes(found or [dummy]), kind)
        judged.params.maxDets = [100, 300, 1000]
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    # (overlaps, recalls, classes, areas, numbers of detections)
    precision = judged.eval['precision'][:, :, :, 0, -1]
    by_class = {
        id_: part[part > -1].mean() if (part > -1).any() else -1
        for id_, part in zip(things, np.moveaxis(precision, 2, 0))
    }
    return judged.stats, by_class


@given(cases(), st.sampled_from(['pycocotools', 'hotcoco', None]))
def test_ap_is_that_of_pycocotools(case, backend):
    data, detections = case
    space = space_of(data)
    metric = PanopticInstanceAPMetric(backend=backend)
    scores = run_metric(metric, samples_of(data, detections), space.metainfo())
    for kind in ('bbox', 'segm'):
        stats, by_class = by_pycocotools(data, detections, kind)
        names = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
        for name, value in zip(names, stats):
            ours = scores[f'coco/{kind}_{name}']
            if value == -1:
                assert math.isnan(ours), name
            else:
                assert abs(ours - round(value, 3)) <= TOLERANCE, name
        for name, id_ in zip(space.thing_names, space.category_ids):
            ours = metric.by_class[name][f'{kind}_AP']
            if by_class[id_] == -1:
                assert math.isnan(ours)
            else:
                assert abs(ours - by_class[id_]) <= TOLERANCE


@given(cases())
def test_what_is_there_has_ap_one(case):
    """Perfect detections, in any order, with any scores."""
    data, _ = case
    label_of = labels_of(data.categories)
    things = ids_of_kind(data.categories, True)
    perfect = [[(label_of[s['category_id']], image.id_map == s['id'], .5)
                for s in image.segments
                if s['category_id'] in things and not s['iscrowd']]
               for image in data.images]
    metric = PanopticInstanceAPMetric()
    run_metric(metric, samples_of(data, perfect), space_of(data).metainfo())
    found = {label for image in perfect for label, *_ in image}
    for label, name in enumerate(space_of(data).thing_names):
        for value in metric.by_class[name].values():
            if label in found:
                assert abs(value - 1) <= TOLERANCE
            else:
                assert math.isnan(value)
