"""Data samples, as an evaluator hands them to metrics, from the oracles.

Maps are int32 tensors (1, h, w); see ``tests/oracles/perturb.py`` for what is
awkward about the data.
"""
import copy

import numpy as np
import torch

from panoptic_fpn.labels import LabelSpace
from tests.oracles.derive import derive_panoptic, labels_of
from tests.oracles.perturb import perturbed_data, random_data
from tests.oracles.runs import encode


def space_of(data):
    return LabelSpace.from_coco(data.categories)


def as_map(codes):
    return dict(sem_seg=torch.from_numpy(codes.astype(np.int32))[None])


def panoptic_codes(pred, categories):
    """(h, w) codes of a prediction: things numbered from 1, stuff 0."""
    label_of = labels_of(categories)
    isthing = {c['id']: c['isthing'] for c in categories}
    codes = np.full(pred.id_map.shape, len(categories))
    things = 0
    for segment in pred.segments:
        name = segment['category_id']
        things += isthing[name]
        number = things if isthing[name] else 0
        codes[pred.id_map == segment['id']] = label_of[name] + 1000 * number
    return codes


def channels_of(codes, num_things, num_classes, rng):
    """(h, w) channels of a semantic head that shares most of the map."""
    labels = codes % 1000
    num_stuff = num_classes - num_things
    channels = np.where(labels < num_things, num_stuff, labels - num_things)
    noise = rng.integers(0, num_stuff + 1, codes.shape)
    wrong = (rng.random(codes.shape) < 0.1) | (labels == num_classes)
    return np.where(wrong, noise, channels)


def instances_of(codes, num_things, rng):
    """Things of a map as detections, some of them a little too small."""
    masks, labels, boxes = [], [], []
    for code in np.unique(codes):
        if code % 1000 >= num_things:
            continue
        mask = codes == code
        if rng.random() < 0.5:
            mask = mask & np.roll(mask, 1, axis=1)
        ys, xs = np.nonzero(mask)
        if not len(ys):
            continue
        boxes.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        labels.append(code % 1000)
        masks.append(mask)
    masks = np.array(masks, dtype=bool).reshape(-1, *codes.shape)
    return dict(
        bboxes=torch.tensor(np.array(boxes).reshape(-1, 4)).float(),
        scores=torch.from_numpy(rng.random(len(masks)).astype(np.float32)),
        labels=torch.tensor(np.array(labels, dtype=np.int64)),
        masks=torch.from_numpy(masks))


def make_sample(gt, pred, categories, rng):
    """Data sample (dict) of one image and its prediction."""
    label_of = labels_of(categories)
    isthing = {c['id']: c['isthing'] for c in categories}
    num_things = sum(isthing.values())
    truth = derive_panoptic(gt.id_map, gt.segments, categories)
    codes = panoptic_codes(pred, categories)
    return dict(
        img_id=gt.image_id,
        img_path=f'images/{gt.file_name}',
        ori_shape=gt.id_map.shape,
        seg_map_path=f'panoptic/{gt.png_name}',
        segments_info=[
            dict(
                id=s['id'],
                category=label_of[s['category_id']],
                iscrowd=s['iscrowd'],
                is_thing=bool(isthing[s['category_id']] and not s['iscrowd']))
            for s in gt.segments
        ],
        gt_codes=truth['codes'],
        crowd_codes=truth['crowd_codes'],
        gt_panoptic_seg=as_map(truth['map']),
        pred_panoptic_seg=as_map(codes),
        pred_sem_seg=as_map(
            channels_of(codes, num_things, len(categories), rng)),
        pred_instances=instances_of(codes, num_things, rng))


def make_case(seed, **kwargs):
    """(ground truth, predictions, data samples) of a random data set."""
    data = random_data(seed, **kwargs)
    preds = perturbed_data(seed + 1, data)
    rng = np.random.default_rng(seed + 2)
    return data, preds, [
        make_sample(gt, pred, data.categories, rng)
        for gt, pred in zip(data.images, preds.images)
    ]


def detections(samples, ids, kind):
    """COCO results of data samples, 'bbox' or 'segm'; ``ids`` are category
    ids by label."""
    found = []
    for sample in samples:
        pred = sample['pred_instances']
        for label, score, (x1, y1, x2, y2), mask in zip(
                pred['labels'].tolist(), pred['scores'].tolist(),
                pred['bboxes'].tolist(), pred['masks'].numpy()):
            what = dict(bbox=[x1, y1, x2 - x1, y2 - y1])
            if kind == 'segm':
                what = dict(segmentation=encode(mask))
            found.append(
                dict(
                    what,
                    image_id=sample['img_id'],
                    category_id=ids[label],
                    score=score))
    return found


def run_metric(metric, samples, metainfo, size=None):
    """Scores of a metric that reads the samples one by one."""
    metric.dataset_meta = metainfo
    for sample in samples:
        metric.process(None, [sample])
    return metric.evaluate(len(samples) if size is None else size)


def same_samples(a, b):
    """Whether two (nested) samples are equal bit by bit, types included."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(
            same_samples(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same_samples, a, b))
    return type(a) is type(b) and a == b


def clone(samples):
    return copy.deepcopy(samples)
