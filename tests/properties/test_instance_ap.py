"""Instances that follow from a panoptic annotation, and COCO's AP of them."""
import math
from dataclasses import replace
from unittest import mock

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from panoptic_fpn.metrics import PanopticInstanceAPMetric, instance_ap
from panoptic_fpn.metrics.instance_ap import instance_truth
from tests.oracles.coco_ap import evaluate_by_pycocotools
from tests.oracles.derive import derive_instances, derive_panoptic, labels_of
from tests.oracles.perturb import annotation_of, ids_of_kind
from tests.oracles.runs import encode
from tests.panoptic_fpn.metrics.data import (as_map, detections, run_metric,
                                             space_of)
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

    Some images are enlarged: COCO tells areas from 32 x 32 and from 96 x 96
    pixels on from smaller ones.
    """
    data = draw(strategies.data_sets(least_things=1, most=3))
    factor = draw(st.sampled_from([1, 1, 5, 16]))
    label_of = labels_of(data.categories)
    things = ids_of_kind(data.categories, True)
    images, found = [], []
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
        found.append([(label, np.kron(mask, np.ones((factor, factor),
                                                    bool)), score)
                      for label, mask, score in zip(labels, masks, scores)])
        id_map = np.kron(image.id_map, np.ones((factor, factor), np.int64))
        images.append(replace(image, id_map=id_map))
    return replace(data, images=images), found


def box(mask):
    ys, xs = np.nonzero(mask)
    if not ys.size:
        return [0, 0, 0, 0]
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def samples_of(data, detected, noise=0):
    """Data samples; ``noise`` moves the boxes by parts of a pixel."""
    rng, samples = np.random.default_rng(0), []
    for image, found in zip(data.images, detected):
        shape = image.id_map.shape
        truth = derive_panoptic(image.id_map, image.segments, data.categories)
        masks = np.array([m for _, m, _ in found], bool).reshape(-1, *shape)
        boxes = np.array([box(m) for _, m, _ in found]).reshape(-1, 4)
        boxes = (boxes + noise * rng.normal(size=boxes.shape)).astype('f4')
        samples.append(
            dict(
                img_id=image.image_id,
                ori_shape=shape,
                gt_codes=truth['codes'],
                crowd_codes=truth['crowd_codes'],
                gt_panoptic_seg=as_map(truth['map']),
                pred_instances=dict(
                    bboxes=torch.from_numpy(boxes),
                    scores=torch.tensor([s for *_, s in found]),
                    labels=torch.tensor([label for label, *_ in found],
                                        dtype=torch.int64),
                    masks=torch.from_numpy(masks))))
    return samples


def truth_of(data):
    """Instances JSON of the things."""
    things = ids_of_kind(data.categories, True)
    notes = [
        dict(
            one,
            image_id=image.image_id,
            segmentation=encode(image.id_map == one['id']))
        for image in data.images
        for one in annotation_of(image)['segments_info']
        if one['category_id'] in things
    ]
    return dict(
        images=[
            dict(
                id=image.image_id,
                height=image.id_map.shape[0],
                width=image.id_map.shape[1]) for image in data.images
        ],
        annotations=[dict(note, id=i) for i, note in enumerate(notes, 1)],
        categories=[dict(id=id_) for id_ in things])


PARAMS = st.fixed_dictionaries(
    dict(
        maxDets=st.sampled_from([(100, 300, 1000), (1, 3, 5), (2, 100, 1000)]),
        iouThrs=st.sampled_from(
            [np.linspace(.5, .95, 10),
             np.linspace(.05, .5, 10)])))


@given(cases(), st.sampled_from(['pycocotools', 'hotcoco']), PARAMS,
       st.sampled_from([0, .5]))
def test_ap_has_the_bits_of_pycocotools(case, backend, params, noise):
    data, found = case
    space, samples = space_of(data), samples_of(data, found, noise)
    metric = PanopticInstanceAPMetric(
        backend=backend,
        proposal_nums=params['maxDets'],
        iou_thrs=params['iouThrs'])
    judged, evaluate = [], instance_ap.evaluate_images

    def kept(*args, **kwargs):
        judged.append(evaluate(*args, **kwargs))
        return judged[-1]

    with mock.patch.object(instance_ap, 'evaluate_images', kept):
        scores = run_metric(metric, samples, space.metainfo())
    for kind, ours in zip(('bbox', 'segm'), judged):
        plain = evaluate_by_pycocotools(
            truth_of(data), detections(samples, space.category_ids, kind),
            kind, **params)
        for key in ('precision', 'recall'):
            assert ours.eval[key].shape == plain.eval[key].shape
            assert ours.eval[key].tobytes() == plain.eval[key].tobytes()
        assert ours.stats.tobytes() == plain.stats.tobytes()
        names = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
        for name, value in zip(names, plain.stats):
            assert same(scores[f'coco/{kind}_{name}'], round(value, 3)), name
        # (overlaps, recalls, classes, areas, numbers of detections)
        by_class = np.moveaxis(plain.eval['precision'][:, :, :, 0, -1], 2, 0)
        for name, part in zip(space.thing_names, by_class):
            value = part[part > -1].mean() if (part > -1).any() else -1
            assert same(metric.by_class[name][f'{kind}_AP'], value)


def same(ours, theirs):
    """NaN is pycocotools' -1."""
    if theirs == -1:
        return math.isnan(ours)
    return abs(ours - theirs) <= TOLERANCE


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
