"""Data sets in files and predictions of them, changed and evaluated.

A :class:`Case` goes the way of a run: JSON, PNGs and photographs, the data
set with its pipeline, a loader with the sampler of the configs, a model that
finds what the case says, the evaluator. The changes give new cases and leave
the old ones as they are.
"""
import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData
from torch.utils.data import Dataset

from panoptic_fpn.metrics import PanopticEvaluator
from tests.oracles.perturb import PanopticData, write_coco_panoptic
from tests.panoptic_fpn.metrics.data import make_case, space_of

METRICS = [
    dict(type='PanopticQualityMetric'),
    dict(type='PanopticInstanceAPMetric'),
    dict(type='SemanticIoUMetric')
]
PIPELINE = [
    dict(type='LoadPanopticImage'),
    dict(type='LoadPanopticMap'),
    dict(
        type='DerivePanopticTargets',
        instances=False,
        semantic=False,
        panoptic=True),
    dict(type='PackPanopticInputs'),
]
#: Boxes, which are not maps.
BOXES = 'bboxes'


@dataclass
class Case:
    """A data set and what is found in its images.

    ``found``, by image id: ``panoptic`` (h, w) of ``label + 1000 * number``,
    ``semantic`` (h, w) of channels, and of n detections ``bboxes`` (n, 4),
    ``scores``, ``labels`` and ``masks`` (n, h, w). ``names`` of the labels:
    things, then stuff, then void.
    """

    data: PanopticData
    found: dict
    names: tuple


def random_case(seed, num_images=3, shape=(40, 56), **kwargs):
    """Awkward ground truth, see ``tests/oracles/perturb.py``; no two scores
    are equal."""
    data, _, samples = make_case(
        seed, num_images=num_images, shape=shape, **kwargs)
    found = {}
    for sample in samples:
        maps = {
            name: sample[f'pred_{key}_seg']['sem_seg'][0].numpy()
            for name, key in (('panoptic', 'panoptic'), ('semantic', 'sem'))
        }
        found[sample['img_id']] = dict(
            maps, **{
                k: v.numpy()
                for k, v in sample['pred_instances'].items()
            })
    scores = np.concatenate([f['scores'] for f in found.values()])
    assert len(set(scores.tolist())) == len(scores)
    return Case(data, found, (*space_of(data).names, 'void'))


class Model:
    """Finds what a case says, in the labels of a data set."""

    def __init__(self, case, space):
        self.found = case.found
        self.labels = np.array([(*space.names, 'void').index(n)
                                for n in case.names])
        stuff = self.labels[space.num_things:-1] - space.num_things
        # one channel 'other'
        self.channels = np.append(stuff, space.num_stuff)

    def test_step(self, batch):
        for sample in batch['data_samples']:
            found = self.found[sample.img_id]
            codes = found['panoptic']
            panoptic = self.labels[codes % 1000] + codes // 1000 * 1000
            sample.pred_panoptic_seg = as_field(panoptic)
            sample.pred_sem_seg = as_field(self.channels[found['semantic']])
            sample.pred_instances = InstanceData(
                labels=torch.from_numpy(self.labels[found['labels']]),
                **{
                    k: torch.from_numpy(found[k])
                    for k in (BOXES, 'scores', 'masks')
                })
        return batch['data_samples']


def as_field(plane):
    return PixelData(sem_seg=torch.from_numpy(plane.astype(np.int32))[None])


def write(case, root):
    """The case's files, and the config of its data set."""
    write_coco_panoptic(case.data, root, with_images=True)
    return dict(
        type='CocoPanopticFPNDataset',
        data_root=str(root),
        ann_file='panoptic.json',
        data_prefix=dict(img='images/', seg='panoptic/'),
        test_mode=True,
        # else garbage is collected for each data set, ten times as long as
        # an evaluation takes
        serialize_data=False,
        pipeline=PIPELINE)


class Kept(Dataset):
    """Samples (dicts) that are predictions already."""

    def __init__(self, samples, metainfo):
        self.samples, self.metainfo = samples, metainfo

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return dict(data_samples=index)

    def test_step(self, batch):
        return [self.samples[index] for index in batch['data_samples']]


def process(dataset, model_of, metrics, batch_size=1, workers=0):
    """What a process does of an evaluation before scores are computed: an
    evaluator with its images, and the number of all images. ``dataset`` is a
    config or built, ``model_of`` makes the model for a built one."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        loader = Runner.build_dataloader(
            dict(
                dataset=dataset,
                batch_size=batch_size,
                num_workers=workers,
                drop_last=False,
                sampler=dict(type='DefaultSampler', shuffle=False)))
        evaluator = PanopticEvaluator(metrics)
    evaluator.dataset_meta = loader.dataset.metainfo
    model = model_of(loader.dataset)
    for batch in loader:
        evaluator.process(model.test_step(batch), batch)
    return evaluator, len(loader.dataset)


def judged(evaluator, size):
    """Scores and scores by class, as one flat dict."""
    scores = dict(evaluator.evaluate(size))
    for name, row in evaluator.by_class.items():
        scores.update({(name, key): value for key, value in row.items()})
    return scores


def evaluate(case, root, **kwargs):
    """Scores of a case; see :func:`process`."""
    dataset = write(case, root)
    return judged(*process(dataset, lambda built: Model(
        case, built.label_space), METRICS, **kwargs))


def evaluate_samples(samples, metainfo, metrics, **kwargs):
    """Scores of samples as metrics take them; see :func:`process`."""
    kept = Kept(samples, metainfo)
    return judged(*process(kept, lambda built: built, metrics, **kwargs))


def with_images(case, images, found):
    return replace(
        case, data=PanopticData(case.data.categories, images), found=found)


def change_images(case, change, change_found=lambda found: found):
    """Each image, and what is found in it, by itself."""
    return with_images(case, [change(image) for image in case.data.images], {
        id_: change_found(dict(found))
        for id_, found in case.found.items()
    })


def flipped(case, axis):
    """Mirrored: axis -1 left and right, -2 top and bottom."""

    def image(image):
        return replace(image, id_map=np.flip(image.id_map, axis).copy())

    def found(found):
        length = found['panoptic'].shape[axis]
        for key in ('panoptic', 'semantic', 'masks'):
            found[key] = np.flip(found[key], axis).copy()
        low, high = (0, 2) if axis == -1 else (1, 3)
        boxes = found[BOXES].copy()
        boxes[:, [low, high]] = length - boxes[:, [high, low]]
        return dict(found, bboxes=boxes)

    return change_images(case, image, found)


def enlarged(case, factor):
    """Each pixel as ``factor`` x ``factor`` pixels."""

    def grown(plane):
        return plane.repeat(factor, -1).repeat(factor, -2)

    def found(found):
        for key in ('panoptic', 'semantic', 'masks'):
            found[key] = grown(found[key])
        return dict(found, bboxes=found[BOXES] * factor)

    return change_images(
        case, lambda image: replace(image, id_map=grown(image.id_map)), found)


def with_other_category_ids(case, rng):
    """Other ids in another order: other labels, the same names."""
    old = [category['id'] for category in case.data.categories]
    new = dict(zip(old, rng.sample(range(1, 400), len(old))))
    categories = [dict(c, id=new[c['id']]) for c in case.data.categories]
    rng.shuffle(categories)

    def image(image):
        return replace(
            image,
            segments=[
                dict(s, category_id=new[s['category_id']])
                for s in image.segments
            ])

    changed = change_images(case, image)
    return replace(changed, data=replace(changed.data, categories=categories))


def with_other_segment_ids(case, rng):
    """Other colours of the PNGs."""

    def image(image):
        old = [s['id'] for s in image.segments]
        new = dict(zip(old, rng.sample(range(1, 2**24), len(old))))
        id_map = image.id_map.copy()
        for id_ in old:
            id_map[image.id_map == id_] = new[id_]
        return replace(
            image,
            id_map=id_map,
            segments=[dict(s, id=new[s['id']]) for s in image.segments])

    return change_images(case, image)


def with_images_in_another_order(case, rng):
    images = list(case.data.images)
    rng.shuffle(images)
    return with_images(case, images, case.found)


def with_segments_in_another_order(case, rng, crowd=False):
    """Only with ``crowd`` those of crowd among one another, too."""

    def image(image):
        segments = list(image.segments)
        rng.shuffle(segments)
        if not crowd:
            kept = iter([s for s in image.segments if s['iscrowd']])
            segments = [next(kept) if s['iscrowd'] else s for s in segments]
        return replace(image, segments=segments)

    return change_images(case, image)


def with_detections_in_another_order(case, rng):
    """And with other numbers of the things on the panoptic map."""

    def found(found):
        order = list(range(len(found['scores'])))
        rng.shuffle(order)
        for key in (BOXES, 'scores', 'labels', 'masks'):
            found[key] = found[key][order]
        codes = found['panoptic']
        things = [c for c in np.unique(codes).tolist() if c >= 1000]
        numbers = rng.sample(range(1, 2000), len(things))
        panoptic = codes.copy()
        for code, number in zip(things, numbers):
            panoptic[codes == code] = code % 1000 + 1000 * number
        return dict(found, panoptic=panoptic)

    return change_images(case, lambda image: image, found)


def with_other_image_ids(case, rng, strings=False):
    """So that images are added up in another order."""
    old = [image.image_id for image in case.data.images]
    new = rng.sample(range(10**6), len(old))
    if strings:
        new = [f'shot {id_:06d}' for id_ in new]
    names = dict(zip(old, new))
    return with_images(case, [
        replace(
            image,
            image_id=names[image.image_id],
            file_name=f'{names[image.image_id]}.jpg',
            png_name=f'{names[image.image_id]}.png')
        for image in case.data.images
    ], {
        names[id_]: found
        for id_, found in case.found.items()
    })


def joined(one, other):
    """Images of two cases that have the same classes."""
    assert one.data.categories == other.data.categories
    assert not set(one.found) & set(other.found)
    return with_images(one, one.data.images + other.data.images, {
        **one.found,
        **other.found
    })


def uniform(case, category_id, found_label, image_id='other'):
    """One image that is of one category (None: void), with another label, of
    stuff, found in it; nothing is detected."""
    shape = case.data.images[0].id_map.shape
    id_map = np.full(shape, 0 if category_id is None else 7)
    segments = [] if category_id is None else [
        dict(id=7, category_id=category_id, iscrowd=0)
    ]
    image = replace(
        case.data.images[0],
        image_id=image_id,
        file_name=f'{image_id}.jpg',
        png_name=f'{image_id}.png',
        id_map=id_map,
        segments=segments)
    num_things = sum(c['isthing'] for c in case.data.categories)
    found = dict(
        panoptic=np.full(shape, found_label),
        semantic=np.full(shape, found_label - num_things),
        bboxes=np.zeros((0, 4), np.float32),
        scores=np.zeros(0, np.float32),
        labels=np.zeros(0, np.int64),
        masks=np.zeros((0, *shape), bool))
    return with_images(case, [image], {image_id: found})


def shuffler(seed):
    return random.Random(seed)
