"""Crops against the label image itself, at the place the crop says it has."""
import copy
import itertools
from collections import Counter

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from PIL import Image

from mmengine_exact import seeded
from mmengine_exact.errors import InputError
from panoptic_apps.convert_data import prepare
from panoptic_apps.toy_data.miniature import make_miniature
from panoptic_fpn.data import CityscapesPanopticDataset, PanopticRandomCrop
from panoptic_fpn.data.load_map import segment_values
from panoptic_fpn.training.class_uniform import ClassUniformInfiniteSampler

CROP = (64, 128)
#: Things by id, then stuff by id: written down here, not read from our code.
ORDER = [24, 25, 26, 27, 28, 31, 32, 33, 7, 8, 11, 12, 13, 17, 19, 20, 21, 22]
ORDER.append(23)
LABEL = {id_: label for label, id_ in enumerate(ORDER)}


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'cityscapes'
    make_miniature(
        str(root), splits=dict(train=6, val=4, test=1), size=(128, 256))
    prepare(str(root), splits=('train', 'val'), num_workers=1)
    return CityscapesPanopticDataset(
        data_root=str(root),
        ann_file='gtFine/panoptic_fpn_train.json',
        data_prefix=dict(img='leftImg8bit/train/', seg='gtFine/train/'),
        pipeline=[
            dict(type='LoadPanopticImage'),
            dict(type='LoadPanopticMap'),
        ])


def pipeline(bootstrap):
    return Compose([
        TRANSFORMS.build(cfg) for cfg in (
            dict(
                type='RandomResize',
                resize_type='PanopticResize',
                scale=(256, 128),
                ratio_range=(0.5, 2.0),
                keep_ratio=True),
            dict(
                type='PanopticRandomCrop', crop_size=CROP,
                bootstrap=bootstrap),
            dict(type='RandomFlip', prob=0.5),
            dict(type='DerivePanopticTargets'),
        )
    ])


def source_of(results, values):
    """Values of the label image (h, w) at the pixels of a crop.

    The homography is flip x crop x resize.
    """
    matrix = results['homography_matrix'].astype(np.float64)
    height, width = results['img'].shape[:2]
    flipped = matrix[0, 0] < 0
    new_w = round(abs(matrix[0, 0]) * values.shape[1])
    new_h = round(matrix[1, 1] * values.shape[0])
    x = np.arange(width)
    if flipped:
        x = width - 1 - x
    offset = matrix[0, 2] - width if flipped else -matrix[0, 2]
    x = x + round(offset)
    y = np.arange(height) - round(matrix[1, 2])
    assert x.min() >= 0 and x.max() < new_w
    assert y.min() >= 0 and y.max() < new_h
    rows = source_pixels(values.shape[0], new_h)[y]
    cols = source_pixels(values.shape[1], new_w)[x]
    return values[rows[:, None], cols]


def source_pixels(size, resized):
    """Source pixel of each resized one: it holds its centre, and where the
    centre is on a border (in OpenCV's fixed point) either neighbour may."""
    ruler = np.arange(size, dtype=np.float32)[None]
    pixels = cv2.resize(
        ruler, (resized, 1),
        interpolation=cv2.INTER_NEAREST_EXACT)[0].astype(int)
    centers = (np.arange(resized) + 0.5) * size / resized
    assert np.abs(pixels + 0.5 - centers).max() < 0.51
    return pixels


def semantic_of(values):
    ids = np.where(values >= 1000, values // 1000, values)
    table = np.array([LABEL.get(i, -1) for i in range(ids.max() + 1)])
    return table[ids]


@pytest.mark.parametrize('bootstrap', [False, True], ids=['plain', 'boot'])
def test_5000_crops_are_what_the_label_image_says(dataset, bootstrap):
    transform = pipeline(bootstrap)
    loaded = [dataset[i] for i in range(len(dataset))]
    truth = [np.array(Image.open(r['seg_map_path'])) for r in loaded]
    instances = empty = 0
    for number in range(5000):
        index = number % len(loaded)
        with seeded(number):
            results = transform(copy.deepcopy(loaded[index]))
        values = source_of(results, truth[index])
        assert results['img'].shape == CROP + (3, )
        assert results['img_shape'] == CROP
        assert (results['gt_seg_map'] == semantic_of(values)).all()
        expected = {
            int(v)
            for v in np.unique(values)
            if id2label[v // 1000 if v >= 1000 else v].hasInstances
            and not id2label[v // 1000 if v >= 1000 else v].ignoreInEval
        }
        masks = results['gt_masks'].masks
        boxes = results['gt_bboxes'].numpy()
        assert len(masks) == len(boxes) == len(expected)
        assert len(results['gt_bboxes_labels']) == len(expected)
        seen = set()
        for mask, box, label, crowd in zip(masks, boxes,
                                           results['gt_bboxes_labels'],
                                           results['gt_ignore_flags']):
            rows, cols = np.nonzero(mask)
            assert rows.size > 0
            assert box.tolist() == [
                cols.min(),
                rows.min(),
                cols.max() + 1,
                rows.max() + 1
            ]
            value = int(values[rows[0], cols[0]])
            assert ((values == value) == mask.astype(bool)).all()
            assert LABEL[value // 1000 if value >= 1000 else value] == label
            assert crowd == (value < 1000)
            seen.add(value)
        assert seen == expected
        instances += len(seen)
        empty += not seen
    # the test has seen what it is about
    assert instances > 5000 and empty > 0


def test_the_drawn_class_is_in_the_crop(dataset):
    """Pixel by pixel: crops of 1 x 1 show the class and nothing else."""
    crop = TRANSFORMS.build(
        dict(type='PanopticRandomCrop', crop_size=1, bootstrap=True))
    derive = TRANSFORMS.build(
        dict(type='DerivePanopticTargets', instances=False))
    sampler = ClassUniformInfiniteSampler(dataset, seed=2)
    found = Counter()
    for index in itertools.islice(sampler, 2000):
        info = dataset[index]
        assert info['drawn_label'] == index.label
        with seeded(index.seed):
            label = derive(crop(info))['gt_seg_map'].item()
        assert label == index.label
        found[label] += 1
    # 19 classes, uniformly: 105 of each, sigma 10
    assert len(found) == 19
    assert 60 < min(found.values()) <= max(found.values()) < 150
    assert dataset[0]['drawn_label'] is None


def test_without_the_sampler_a_class_of_the_image_is_drawn(dataset):
    crop = TRANSFORMS.build(
        dict(type='PanopticRandomCrop', crop_size=(1, 1), bootstrap=True))
    derive = TRANSFORMS.build(
        dict(type='DerivePanopticTargets', instances=False))
    info = dataset[0]
    present = {s['category'] for s in info['segments_info']}
    # of a class that scaling removed, too
    info['drawn_label'] = 99
    found = Counter()
    for number in range(1000):
        with seeded(number):
            results = derive(crop(copy.deepcopy(info)))
        found[results['gt_seg_map'].item()] += 1
    assert set(found) == present  # never void
    mean = 1000 / len(present)
    assert max(abs(n - mean) for n in found.values()) < 5 * np.sqrt(mean)


def test_all_void_and_small_images_are_cropped_anywhere():
    crop = TRANSFORMS.build(
        dict(type='PanopticRandomCrop', crop_size=(8, 6), bootstrap=True))
    results = dict(
        img=np.zeros((5, 9, 3), np.uint8),
        gt_seg_map=np.full((5, 9), 255, np.uint8),
        segments_info=[dict(id=7, category=0, iscrowd=0)])
    results = crop(results)
    assert results['img'].shape == (5, 6, 3)
    assert results['gt_seg_map'].shape == (5, 6)


def test_each_window_with_the_pixel_is_equally_likely():
    """One labelled pixel at (2, 3) of 6 x 8; windows of 3 x 4 with it."""
    crop = TRANSFORMS.build(
        dict(type='PanopticRandomCrop', crop_size=(3, 4), bootstrap=True))
    corners = {}
    for number in range(2400):
        index_map = np.zeros((6, 8), np.uint8)
        index_map[2, 3] = 1
        with seeded(number):
            results = crop(
                dict(
                    img=np.zeros((6, 8, 3), np.uint8),
                    gt_seg_map=index_map,
                    segments_info=[dict(id=1, category=0, iscrowd=0)]))
        assert results['gt_seg_map'].sum() == 1
        matrix = results['homography_matrix']
        corner = (-matrix[1, 2], -matrix[0, 2])
        corners[corner] = corners.get(corner, 0) + 1
    assert set(corners) == {(y, x) for y in range(3) for x in range(4)}
    assert 140 < min(corners.values()) <= max(corners.values()) < 260


#: Steps, what is said of them, whether instances are derived. (A crop of the
#: semantic map alone is no mistake.)
ORDERS = [(order, words, instances) for order, words in (
    (['crop', 'map', 'derive'], 'gt_seg_map is'),
    (['resize', 'map', 'derive'], 'gt_seg_map is'),
    (['flip', 'map', 'derive'], 'before RandomFlip'),
) for instances in (True, False)]
ORDERS.append((['map', 'derive', 'crop'], 'gt_masks is', True))


@pytest.mark.parametrize('order, words, instances', ORDERS)
def test_an_order_that_would_train_on_other_targets(dataset, order, words,
                                                    instances):
    """Without instances nothing else would notice."""
    steps = dict(
        map=dict(type='LoadPanopticMap'),
        crop=dict(type='PanopticRandomCrop', crop_size=CROP),
        resize=dict(type='PanopticResize', scale=(128, 64)),
        flip=dict(type='RandomFlip', prob=1.0),
        derive=dict(type='DerivePanopticTargets', instances=instances))
    run = Compose([
        TRANSFORMS.build(cfg)
        for cfg in (dict(type='LoadPanopticImage'), *(steps[name]
                                                      for name in order),
                    dict(type='PackPanopticInputs'))
    ])
    with pytest.raises(InputError, match=words) as error:
        run(dataset.get_data_info(0))
    assert '.png' in str(error.value)


def test_bootstrap_with_more_values_than_segments():
    """``ignored_ids`` follow the segments in the map, beyond 255 here."""
    values = segment_values(270)
    index_map = np.resize(values, (30, 40)).astype(np.uint16)
    results = dict(
        img=np.zeros((30, 40, 3), np.uint8),
        gt_seg_map=index_map,
        segments_info=[dict(category=i % 7) for i in range(250)],
        ignored_ids=list(range(20)))
    cropped = PanopticRandomCrop((8, 8), bootstrap=True)(results)
    assert cropped['gt_seg_map'].shape == (8, 8)
