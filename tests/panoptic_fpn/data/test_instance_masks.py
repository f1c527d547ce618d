"""Instances of a JSON against those of the PNGs, against points in polygons,
and against numbers worked out by hand.
"""
import json

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from pycocotools import mask as mask_util

from mmengine_exact import seeded
from mmengine_exact.errors import InputError
from panoptic_fpn.data import CocoPanopticFPNDataset
from panoptic_fpn.data.instance_masks import (compact_mask, draw_masks,
                                              pack_layers)
from panoptic_fpn.ops.index_map_masks import IndexMapMasks
from tests.oracles.perturb import (instances_of, random_data,
                                   write_coco_panoptic)

LOAD = [dict(type='LoadPanopticImage'), dict(type='LoadPanopticMap')]
FLIP = dict(type='RandomFlip', prob=0.5)
PACK = [dict(type='DerivePanopticTargets'), dict(type='PackPanopticInputs')]
SCALES = dict(scale=[(150, 33), (90, 80)], keep_ratio=False)
#: What configs do with a photograph, in small.
PIPELINES = dict(
    plain=[],
    resized=[
        dict(type='RandomResize', resize_type='PanopticResize', **SCALES), FLIP
    ],
    cropped=[
        FLIP,
        dict(type='RandomResize', resize_type='PanopticResize', **SCALES),
        dict(type='PanopticRandomCrop', crop_size=(30, 41)), FLIP
    ],
    jitter=[
        dict(
            type='PanopticRandomResizeCrop',
            scale=(64, 64),
            ratio_range=(0.1, 2.0),
            crop_size=(64, 64)),
        dict(type='RandomFlip', prob=1.0, direction='diagonal'),
    ],
    padded=[
        dict(type='PanopticResize', scale=(77, 50), keep_ratio=True),
        dict(type='mmdet.Pad', size=(96, 96)), FLIP
    ])


def build(path, instances=None, steps=(), **kwargs):
    return CocoPanopticFPNDataset(
        data_root=str(path.parent),
        ann_file=path.name,
        instances_ann_file=instances,
        data_prefix=dict(img='images/', seg='panoptic/'),
        pipeline=[*LOAD, *steps, *PACK],
        **kwargs)


def write(path, polygons_of=None, change=lambda content: None):
    content = instances_of(path, polygons_of)
    change(content)
    path.with_name('instances.json').write_text(json.dumps(content))


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    data = random_data(5, num_images=4, shape=(45, 61))
    return write_coco_panoptic(
        data, tmp_path_factory.mktemp('data'), with_images=True)


def targets(sample):
    found = dict(semantic=sample.gt_sem_seg.sem_seg.tolist())
    for group in ('gt_instances', 'ignored_instances'):
        data = sample.get(group)
        found[group] = (data.bboxes.tensor.tolist(), data.labels.tolist(),
                        data.masks.to_ndarray().tolist())
    return found


@pytest.mark.parametrize('name', PIPELINES)
def test_masks_of_the_png_give_the_targets_of_the_png(written, name):
    """Bit by bit, crowd and instances that a crop removes, too."""
    write(written)
    both = [
        build(written, instances, PIPELINES[name])
        for instances in (None, 'instances.json')
    ]
    found = []
    for i in range(40):
        samples = []
        for dataset in both:
            with seeded(i):
                samples.append(dataset[i % 4])
        png, drawn = samples
        assert torch.equal(png['inputs'], drawn['inputs'])
        assert targets(png['data_samples']) == targets(drawn['data_samples'])
        sample = drawn['data_samples']
        assert sample.gt_instances.masks.index_map.dim() == 2
        found.append((len(sample.gt_instances), len(sample.ignored_instances)))
    assert all(max(counts) > 1 for counts in zip(*found))
    assert (len(set(found)) > 4) == (name in ('cropped', 'jitter'))


def random_polygons(rng, shape, number):
    """Instances of one or two polygons, some across the border."""
    found = []
    for _ in range(number):
        mask = []
        for _ in range(rng.integers(1, 3)):
            angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 20)))
            radius = rng.uniform(2, 25) * rng.uniform(.5, 1, len(angle))
            center = rng.uniform(-5, np.array(shape[::-1]) + 5)
            points = center + radius[:, None] * np.stack(
                [np.cos(angle), np.sin(angle)], 1)
            mask.append(points.round(2).reshape(-1).tolist())
        found.append(mask)
    return found


def whole(windows, size):
    """Bitmaps uint8 (n, h, w)."""
    found = np.zeros((len(windows), *size), np.uint8)
    for one, window in zip(found, windows):
        if window is not None:
            y, x, bitmap = window
            one[y:y + bitmap.shape[0], x:x + bitmap.shape[1]] = bitmap
    return found


def test_untouched_polygons_are_cocos_masks():
    """Bit by bit, if coordinates are exact in float32 and in the image."""
    rng, shape = np.random.default_rng(0), (48, 70)
    polygons = [[
        (np.reshape(p,
                    (-1, 2)).clip(0, shape[::-1]) * 4).round().reshape(-1) / 4
        for p in mask
    ] for mask in random_polygons(rng, shape, 60)]
    expected = np.stack([
        mask_util.decode(mask_util.merge(mask_util.frPyObjects(p, *shape)))
        for p in polygons
    ])
    geometry = np.ones(2), np.zeros(2), shape
    masks = [compact_mask(one, shape) for one in polygons]
    windows = draw_masks(masks, geometry)
    assert np.array_equal(whole(windows, shape), expected)
    # overlapping ones keep all of their pixels
    assert expected.sum(0).max() > 3
    kept = [i for i, window in enumerate(windows) if window is not None]
    index_map, values = pack_layers([windows[i] for i in kept], shape)
    assert 3 < len(index_map) < 20
    packed = IndexMapMasks(torch.from_numpy(index_map), values)
    assert np.array_equal(packed.to_ndarray(), expected[kept])


@pytest.mark.parametrize('name', ['resized', 'cropped', 'jitter'])
def test_moved_polygons_hold_the_pixels_whose_centres_lie_inside(name):
    """Of the original image, up to what pycocotools rounds vertices to."""
    rng, shape = np.random.default_rng(1), (48, 70)
    transform = Compose([TRANSFORMS.build(step) for step in PIPELINES[name]])
    sure = 0
    for seed in range(8):
        polygons = [[p[0]] for p in random_polygons(rng, shape, 4)]
        with seeded(seed):
            results = transform(
                dict(
                    img=np.zeros((*shape, 3), np.uint8),
                    img_path='x.png',
                    ori_shape=shape,
                    gt_seg_map=np.zeros(shape, np.uint8),
                    segments_info=[],
                    label_space=None))
        size = results['img'].shape[:2]
        matrix = results['homography_matrix'].astype(float)
        geometry = matrix.diagonal()[:2], matrix[:2, 2], size
        masks = [compact_mask(one, shape) for one in polygons]
        found = whole(draw_masks(masks, geometry), size)
        centers = np.stack(np.meshgrid(*map(np.arange, size[::-1])), -1) + .5
        back = (centers - matrix[:2, 2]) / matrix.diagonal()[:2]
        for polygon, mask in zip(polygons, found):
            contour = np.array(polygon, np.float32).reshape(-1, 1, 2)
            moved = (contour * matrix.diagonal()[:2] + matrix[:2, 2]).astype(
                np.float32)
            for place in np.ndindex(*size):
                away = cv2.pointPolygonTest(moved, tuple(centers[place]), True)
                if abs(away) > 0.3:
                    inside = cv2.pointPolygonTest(contour, tuple(back[place]),
                                                  False)
                    assert mask[place] == (inside > 0)
                    sure += inside > 0
    assert sure > 500


def results_of(masks, **kwargs):
    """A void image (4, 8) with instances."""
    shape = (4, 8)
    return dict(
        img=np.zeros((*shape, 3), np.uint8),
        img_path='x.png',
        ori_shape=shape,
        gt_seg_map=np.zeros(shape, np.uint8),
        segments_info=[],
        instances=[
            dict(bbox_label=i, ignore_flag=0) for i in range(len(masks))
        ],
        instance_masks=[compact_mask(m, shape) for m in masks],
        **kwargs)


#: Columns 1 .. 4 of row 1: the pixels whose centres it holds.
BAR = [[1.3, 0.6, 4.6, 0.6, 4.6, 2.4, 1.3, 2.4]]
#: Rows 0 .. 1 of columns 4 .. 5, and column 7.
TWO = [[4, 0, 6, 0, 6, 2, 4, 2], [7, 0, 8, 0, 8, 4, 7, 4]]
#: Like annotation 918 of COCO's train2017.
EMPTY = [[2.65, 1.33, 2.65, 1.33, 3.68, 1.33, 3.68, 1.33]]


def boxes_of(results):
    return results['gt_bboxes'].tensor.tolist()


def test_by_hand():
    derive = TRANSFORMS.build(dict(type='DerivePanopticTargets'))
    found = derive(results_of([BAR, EMPTY, TWO]))
    assert found['gt_bboxes_labels'].tolist() == [0, 2]
    assert boxes_of(found) == [[1, 1, 5, 2], [4, 0, 8, 4]]
    # they share the pixel (1, 4)
    assert found['gt_masks'].index_map.tolist() == [
        [[0, 0, 0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0, 0, 0], [0] * 8, [0] * 8],
        [[0, 0, 0, 0, 1, 1, 0, 1], [0, 0, 0, 0, 1, 1, 0, 1], [0] * 7 + [1],
         [0] * 7 + [1]]
    ]  # yapf: disable
    assert found['gt_masks'].values.tolist() == [1, 256 + 1]
    # twice as large BAR is x 2.6 .. 9.2, y 1.2 .. 4.8: columns 3 .. 8, rows
    # 1 .. 4; flipped in 16 columns 7 .. 12
    resize = dict(type='PanopticResize', scale=(16, 8), keep_ratio=True)
    flip = dict(type='RandomFlip', prob=1.0)
    steps = [TRANSFORMS.build(step) for step in (resize, flip)]
    results = results_of([BAR])
    for step in [*steps, derive]:
        results = step(results)
    assert boxes_of(results) == [[7, 1, 13, 5]]
    assert results['gt_masks'].to_ndarray().sum() == 4 * 6


def test_what_a_crop_leaves_and_least_areas():
    """The crop is columns 5 .. 7: BAR is gone, and 2 + 4 pixels of TWO."""
    matrix = np.array([[1, 0, -5], [0, 1, 0], [0, 0, 1]], np.float32)
    for area, count in ((1, 1), (6, 1), (7, 0)):
        results = results_of([BAR, TWO], homography_matrix=matrix)
        for key in ('img', 'gt_seg_map'):
            results[key] = results[key][:, 5:]
        derive = dict(type='DerivePanopticTargets', min_area=area)
        results = TRANSFORMS.build(derive)(results)
        assert boxes_of(results) == [[0, 0, 3, 4]] * count
        assert len(results['gt_bboxes_labels']) == count
        assert results['gt_masks'].to_ndarray().sum() == 6 * count
        assert results['gt_ignore_flags'].dtype == bool


def test_more_instances_than_a_layer_has_values():
    dot = np.ones((1, 1), np.uint8)
    windows = [(0, i, dot) for i in range(300)]
    index_map, values = pack_layers(windows, (1, 300))
    assert index_map.shape == (2, 1, 300) and len(set(values)) == 300
    masks = IndexMapMasks(torch.from_numpy(index_map), values)
    assert np.array_equal(masks.to_ndarray()[:, 0], np.eye(300))


@pytest.mark.parametrize('matrix', [None, [[1, .1, 0], [0, 1, 0], [0, 0, 1]]])
def test_geometry_that_is_not_known(matrix):
    results = results_of([BAR], homography_matrix=matrix and np.array(matrix))
    results['gt_seg_map'] = np.zeros((8, 16), np.uint8)
    with pytest.raises(InputError, match='x.png.*instances_ann_file=None'):
        TRANSFORMS.build(dict(type='DerivePanopticTargets'))(results)


def polygons_of(mask):
    """Rectangle around a mask: things then overlap."""
    y, x = np.nonzero(mask)
    x1, y1, x2, y2 = (
        int(v) for v in (x.min(), y.min(), x.max() + 1, y.max() + 1))
    return [[x1, y1, x2, y1, x2, y2, x1, y2], [x1, y1, x2, y2]]


def test_instances_that_overlap(written):
    """Whole, from the JSON; the semantic map is that of the PNG. The second
    polygon of each, a line, has no pixels."""
    write(written, polygons_of)
    content = json.loads(written.with_name('instances.json').read_text())
    png, drawn = (
        build(written, name)[0]['data_samples']
        for name in (None, 'instances.json'))
    assert torch.equal(png.gt_sem_seg.sem_seg, drawn.gt_sem_seg.sem_seg)
    assert torch.equal(png.gt_instances.bboxes.tensor,
                       drawn.gt_instances.bboxes.tensor)
    boxes = drawn.gt_instances.bboxes.tensor.int().tolist()
    masks = drawn.gt_instances.masks
    assert masks.index_map.dim() == 3 and len(masks) == len(boxes)
    for mask, (x1, y1, x2, y2) in zip(masks.to_ndarray(), boxes):
        expected = np.zeros_like(mask)
        expected[y1:y2, x1:x2] = 1
        assert np.array_equal(mask, expected)
    assert drawn.ignored_instances.masks.to_ndarray().any()
    flags = [n['iscrowd'] for n in content['annotations']]
    assert 0 < sum(flags) < len(flags)


def test_some_of_the_classes(written):
    write(written)
    names = build(written).label_space.names[1:6]
    found = [
        build(written, instances, metainfo=dict(classes=names))
        for instances in (None, 'instances.json')
    ]
    for i in range(4):
        png, drawn = (dataset[i]['data_samples'] for dataset in found)
        assert targets(png) == targets(drawn)


def note(**values):
    return lambda content: content['annotations'][0].update(values)


def rename(content):
    used = content['annotations'][0]['category_id']
    for category in content['categories']:
        if category['id'] == used:
            category['name'] = 'zebra'


def stuff(content):
    content['categories'].append(dict(id=1000, name='sky'))
    content['annotations'][0]['category_id'] = 1000


FAULTS = {
    'not a list': (lambda c: c.update(annotations=3), 'annotations=3'),
    'an image less': (lambda c: c['images'].pop(0), 'is not in "images"'),
    'an image that has none': (lambda c:
                               (c['images'].pop(0), c.update(annotations=[])),
                               r'is not listed here, \(45, 61\) \(h, w\) in '),
    'another size':
    (lambda c: (c['images'][0].update(width=60), c.update(annotations=[])),
     r'is \(45, 60\) here, \(45, 61\) \(h, w\) in '),
    'ids as texts': (lambda c:
                     (c['images'][0].update(id='x'), c.update(annotations=[])),
                     'is not listed here'),
    'category that is none': (note(category_id=999), 'category_id=999'),
    'another name': (rename, "'zebra'; in .* it is 'thing_"),
    'no thing': (stuff, "1000, 'sky'; in .* it is 'no thing'"),
    'no segmentation': (note(segmentation=None), 'None is neither a list'),
    'half a point': (note(segmentation=[[1, 2, 3]]), 'is not a polygon'),
    'an RLE of another size':
    (note(segmentation=dict(size=[2, 3], counts=[6])), 'neither a list'),
}


@pytest.mark.parametrize('name', FAULTS)
def test_faults_of_the_json(written, name):
    change, words = FAULTS[name]
    write(written, change=change)
    path = written.with_name('instances.json')
    with pytest.raises(InputError, match=f'^{path}: .*{words}'):
        build(written, path.name)


def test_no_such_json(written):
    with pytest.raises(
            InputError,
            match='none.json: .*No such file.*Set instances_ann_fil'):
        build(written, 'none.json')


def test_workers_get_few_bytes(written):
    write(written, polygons_of)
    info = build(written, 'instances.json').get_data_info(0)
    polygons = [m for m in info['instance_masks'] if isinstance(m, list)]
    assert all(list(map(len, m)) == [4 * 8] for m in polygons)
