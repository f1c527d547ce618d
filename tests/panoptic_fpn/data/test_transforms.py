"""From files to targets, against an oracle of plain loops."""
import pickle

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import TRANSFORMS

from mmengine_exact.errors import CorruptFileError
from panoptic_fpn.data import (CocoPanopticFPNDataset, DerivePanopticTargets,
                               LoadPanopticMap)
from panoptic_fpn.data.load_map import PADDING, segment_values
from panoptic_fpn.labels import id_to_rgb
from panoptic_fpn.ops.run_length import segment_boxes
from tests.oracles.derive import (derive_instances, derive_panoptic,
                                  derive_semantic)
from tests.oracles.perturb import random_data, write_coco_panoptic

LOAD = [dict(type='LoadPanopticImage'), dict(type='LoadPanopticMap')]
DERIVE = dict(type='DerivePanopticTargets', panoptic=True)


def build(path, *pipeline, **kwargs):
    return CocoPanopticFPNDataset(
        data_root=str(path.parent),
        ann_file=path.name,
        data_prefix=dict(img='images/', seg='panoptic/'),
        pipeline=list(pipeline),
        **kwargs)


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    data = random_data(11, num_images=4, shape=(45, 61))
    root = tmp_path_factory.mktemp('data')
    return data, write_coco_panoptic(data, root, with_images=True)


def check_against_oracle(results, id_map, segments, categories):
    expected = derive_instances(id_map, segments, categories)
    boxes = results['gt_bboxes'].tensor.numpy()
    assert boxes.dtype == np.float32 and (boxes == expected['boxes']).all()
    assert boxes.shape == (len(expected['ids']), 4)
    assert (results['gt_bboxes_labels'] == expected['labels']).all()
    assert (results['gt_ignore_flags'] == expected['crowd']).all()
    assert (results['gt_masks'].masks == expected['masks']).all()
    assert (results['gt_seg_map'] == derive_semantic(id_map, segments,
                                                     categories)).all()


def test_targets_equal_the_oracle(written):
    data, path = written
    for results, image in zip(build(path, *LOAD, DERIVE), data.images):
        check_against_oracle(results, image.id_map, image.segments,
                             data.categories)
        expected = derive_panoptic(image.id_map, image.segments,
                                   data.categories)
        assert (results['gt_panoptic_map'] == expected['map']).all()
        assert results['gt_codes'] == list(expected['codes'])
        assert results['crowd_codes'] == list(expected['crowd_codes'])


def test_flip_and_crop_act_on_image_and_map_alike(written):
    data, path = written
    pipeline = [
        *LOAD,
        dict(type='RandomFlip', prob=1.0),
        dict(type='RandomCrop', crop_size=(30, 20)), DERIVE
    ]
    for seed in range(30):
        np.random.seed(seed)
        image = data.images[seed % 4]
        results = build(path, *pipeline)[seed % 4]
        left, top = -results['homography_matrix'][:2, 2].astype(int) \
            if not results.get('flip') else crop_offset(results, 61)
        crop = image.id_map[:, ::-1][top:top + 20, left:left + 30]
        check_against_oracle(results, crop, image.segments, data.categories)


def crop_offset(results, width):
    """Offsets (x, y) of the crop that followed a horizontal flip."""
    matrix = results['homography_matrix']
    # x' = width - x - left, y' = y - top
    return int(width - matrix[0, 2]), int(-matrix[1, 2])


def test_resize_keeps_ids_and_sizes(written):
    data, path = written
    pipeline = [*LOAD, dict(type='PanopticResize', scale=(122, 90)), DERIVE]
    for results, image in zip(build(path, *pipeline), data.images):
        assert results['img'].shape[:2] == (90, 122)
        # nearest neighbour at exactly twice the size repeats each pixel
        doubled = image.id_map.repeat(2, axis=0).repeat(2, axis=1)
        check_against_oracle(results, doubled, image.segments, data.categories)


def test_a_crop_without_things_trains_the_semantic_branch(written):
    data, path = written
    info = dict(build(path).get_data_info(0))
    info['ori_shape'] = data.images[0].id_map.shape
    results = LoadPanopticMap().transform(info)
    space = results['label_space']
    stuff = [
        value
        for value, s in zip(segment_values(99), results['segments_info'])
        if s['category'] >= space.num_things
    ]
    y, x = np.argwhere(np.isin(results['gt_seg_map'], stuff))[0]
    results['gt_seg_map'] = results['gt_seg_map'][y:y + 1, x:x + 1]
    results['img'] = np.zeros((1, 1, 3), np.uint8)
    results['img_shape'] = (1, 1)
    derived = DerivePanopticTargets().transform(results)
    packed = TRANSFORMS.build(
        dict(type='PackPanopticInputs')).transform(derived)['data_samples']
    assert packed.gt_instances.bboxes.tensor.shape == (0, 4)
    assert packed.gt_instances.masks.masks.shape == (0, 1, 1)
    assert packed.gt_sem_seg.sem_seg.item() >= space.num_things


def test_packing_separates_crowd(written):
    data, path = written
    dataset = build(path, *LOAD, DERIVE, dict(type='PackPanopticInputs'))
    total = 0
    for item, image in zip(dataset, data.images):
        sample = item['data_samples']
        expected = derive_instances(image.id_map, image.segments,
                                    data.categories)
        crowd = expected['crowd']
        total += crowd.sum()
        assert len(sample.gt_instances) == (~crowd).sum()
        assert len(sample.ignored_instances) == crowd.sum()
        assert sample.gt_panoptic_seg.sem_seg.shape == (1, 45, 61)
        assert sample.gt_panoptic_seg.sem_seg.dtype == torch.int32
        assert sample.gt_sem_seg.sem_seg.shape == (1, 45, 61)
        assert sample.metainfo['img_id'] == image.image_id
    assert total > 0


def test_255_is_padding_whatever_the_number_of_segments():
    for count in (3, 254, 255, 600):
        values = segment_values(count)
        assert len(set(values)) == count and values.min() == 1
        assert PADDING not in values


def test_many_segments_and_mmdet_padding(tmp_path):
    """300 segments in one image, padded by mmdet's own transform."""
    space = type('Space', (), dict(num_things=1, void=2))
    ids = np.arange(1, 301) * 7
    id_map = np.repeat(ids.reshape(15, 20), 2, axis=1).astype(np.int32)
    info = [
        dict(id=int(i), category=int(k % 2), iscrowd=0)
        for k, i in enumerate(ids)
    ]
    png = tmp_path / 'x.png'
    cv2.imwrite(str(png), id_to_rgb(id_map)[..., ::-1])
    results = dict(
        img=np.zeros(id_map.shape + (3, ), np.uint8),
        ori_shape=id_map.shape,
        seg_map_path=str(png),
        segments_info=info,
        label_space=space)
    results = LoadPanopticMap()(results)
    results = TRANSFORMS.build(dict(type='Pad', size=(48, 20)))(results)
    results = DerivePanopticTargets().transform(results)
    assert len(results['gt_bboxes']) == 150
    expected = np.full((20, 48), -1)
    expected[:15, :40] = np.repeat(
        (np.arange(300) % 2).reshape(15, 20), 2, axis=1)
    assert (results['gt_seg_map'] == expected).all()


def spoil(path, data, change):
    """Rewrite the first PNG after ``change`` of its BGR array."""
    png = path.parent / 'panoptic' / data.images[0].png_name
    bgr = cv2.imread(str(png), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(png), change(bgr))
    return png


@pytest.mark.parametrize('change, words', [
    (lambda bgr: bgr[:-1], ['(44, 61)', '(45, 61)']),
    (lambda bgr: bgr[..., 0], ['8-bit RGB']),
    (lambda bgr: bgr.astype(np.uint16), ['8-bit RGB']),
    (lambda bgr: np.where(np.arange(61)[:, None] < 3, 251, bgr).astype('u1'),
     ['135 pixels', '16514043']),
    (lambda bgr: bgr * 0, ['without a pixel']),
])
def test_png_that_disagrees_is_named(tmp_path, change, words):
    data = random_data(11, num_images=1, shape=(45, 61))
    path = write_coco_panoptic(data, tmp_path, with_images=True)
    png = spoil(path, data, change)
    with pytest.raises(CorruptFileError) as error:
        build(path, *LOAD)[0]
    for word in words + [str(png)]:
        assert word in str(error.value)


def test_missing_and_truncated_files_are_named(tmp_path):
    data = random_data(11, num_images=1, shape=(45, 61))
    path = write_coco_panoptic(data, tmp_path, with_images=True)
    png = path.parent / 'panoptic' / data.images[0].png_name
    photo = path.parent / 'images' / data.images[0].file_name
    content = png.read_bytes()
    for broken in (b'', b'not a png'):
        png.write_bytes(broken)
        with pytest.raises(CorruptFileError, match=png.name):
            build(path, *LOAD)[0]
    png.unlink()
    with pytest.raises(CorruptFileError, match='cannot read the panoptic'):
        build(path, *LOAD)[0]
    png.write_bytes(content)
    photo.unlink()
    with pytest.raises(CorruptFileError, match='cannot read the image'):
        build(path, *LOAD)[0]


def test_image_of_another_size_than_the_json(tmp_path):
    data = random_data(11, num_images=1, shape=(45, 61))
    path = write_coco_panoptic(data, tmp_path, with_images=True)
    photo = path.parent / 'images' / data.images[0].file_name
    cv2.imwrite(str(photo), np.zeros((61, 45, 3), np.uint8))
    with pytest.raises(CorruptFileError, match=r'\(61, 45\).*\(45, 61\)'):
        build(path, *LOAD)[0]


def test_the_loader_survives_a_fault_and_pickles(written, tmp_path):
    """Its scratch table is clean after each call, also after an error."""
    data, path = written
    loader = LoadPanopticMap()
    info = dict(build(path).get_data_info(0), ori_shape=(45, 61))
    expected = loader.transform(dict(info))['gt_seg_map']
    with pytest.raises(CorruptFileError):
        loader.transform(dict(info, segments_info=info['segments_info'][1:]))
    assert (loader.transform(dict(info))['gt_seg_map'] == expected).all()
    assert len(pickle.dumps(loader)) < 1000
    assert not loader._values.any()


def test_files_come_through_mmengine_backends(written):
    """JSON, image and PNG are asked of the backend that is configured."""
    from mmengine.fileio import LocalBackend, register_backend
    data, path = written
    asked = []

    class Recorder(LocalBackend):

        def get(self, filepath):
            asked.append(str(filepath))
            return super().get(filepath)

        def get_text(self, filepath, encoding='utf-8'):
            asked.append(str(filepath))
            return super().get_text(filepath, encoding)

    register_backend('recorder', Recorder, force=True)
    args = dict(backend='recorder')
    pipeline = [dict(step, backend_args=args) for step in LOAD]
    build(path, *pipeline, backend_args=args)[0]
    assert [name.rsplit('.', 1)[1] for name in asked] == ['json', 'jpg', 'png']


@pytest.mark.parametrize('dtype', [np.uint8, np.int32])
def test_resized_boxes_have_no_bias(dtype):
    """Edges of a resized rectangle lie where scaling puts them, on average;
    OpenCV's plain nearest neighbour is off by 0.4 pixels."""
    rng = np.random.default_rng(0)
    resize = TRANSFORMS.build(
        dict(type='PanopticResize', scale=(1333, 800), keep_ratio=True))
    offsets = []
    for _ in range(40):
        x1, y1 = rng.integers(5, 200, 2)
        x2, y2 = x1 + rng.integers(9, 300), y1 + rng.integers(9, 200)
        index_map = np.zeros((480, 640), dtype)
        index_map[y1:y2, x1:x2] = 1
        results = resize(
            dict(
                img=np.zeros((480, 640, 3), np.uint8),
                img_shape=(480, 640),
                gt_seg_map=index_map))
        assert results['gt_seg_map'].shape == results['img'].shape[:2]
        scale = np.tile(results['scale_factor'], 2)
        x, y, w, h = segment_boxes(results['gt_seg_map'])[2][1]
        offsets.append([x, y, x + w, y + h] -
                       np.array([x1, y1, x2, y2]) * scale)
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.12


def test_random_choice_resize_keeps_image_and_map_together(written):
    data, path = written
    pipeline = [
        *LOAD,
        dict(
            type='RandomChoiceResize',
            resize_type='PanopticResize',
            scales=[(90, side) for side in (40, 50, 60)],
            keep_ratio=True), DERIVE
    ]
    sizes = set()
    for seed in range(12):
        np.random.seed(seed)
        results = build(path, *pipeline)[0]
        assert results['img'].shape[:2] == results['gt_seg_map'].shape
        sizes.add(results['gt_seg_map'].shape)
    assert len(sizes) == 3


def test_a_key_that_a_backend_does_not_know_is_named(written):
    from mmengine.fileio import LocalBackend, register_backend

    class Forgetful(LocalBackend):

        def get(self, filepath):
            return None

    register_backend('forgetful', Forgetful, force=True)
    step = dict(LOAD[0], backend_args=dict(backend='forgetful'))
    with pytest.raises(CorruptFileError, match='no such key'):
        build(written[1], step)[0]
