"""Loading and resizing files; targets: tests/properties/test_transforms.py."""
import pickle

import cv2
import numpy as np
import pytest
from mmdet.registry import TRANSFORMS

from mmengine_exact.errors import CorruptFileError
from panoptic_fpn.data import CocoPanopticFPNDataset, LoadPanopticMap
from panoptic_fpn.ops.run_length import segment_boxes
from tests.oracles.perturb import random_data, write_coco_panoptic

LOAD = [dict(type='LoadPanopticImage'), dict(type='LoadPanopticMap')]


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


@pytest.mark.parametrize('size, resized', [
    ((2, 900), (1, 64)),
    ((900, 2), (64, 1)),
    ((4, 3000), (1, 64)),
    ((1, 1), (64, 64)),
    ((45, 61), (47, 64)),
])
@pytest.mark.parametrize('kind', ['Resize', 'RandomResizeCrop'])
def test_thin_images_keep_a_pixel(size, resized, kind):
    options = dict(crop_size=(64, 64)) if 'Crop' in kind else {}
    if options:
        options['ratio_range'] = (1., 1.)
    transform = TRANSFORMS.build(
        dict(
            type=f'Panoptic{kind}', scale=(64, 64), keep_ratio=True,
            **options))
    image = np.full((*size, 3), 77, np.uint8)
    results = transform(
        dict(img=image, img_shape=size, gt_seg_map=np.full(size, 3, 'u1')))
    assert results['img'].shape == (*resized, 3)
    assert results['img_shape'] == results['gt_seg_map'].shape == resized
    assert (results['img'] == 77).all() and (results['gt_seg_map'] == 3).all()
    assert results['scale_factor'] == pytest.approx(
        np.divide(resized, size)[::-1])


def test_random_choice_resize_keeps_image_and_map_together(written):
    data, path = written
    resize = TRANSFORMS.build(
        dict(
            type='RandomChoiceResize',
            resize_type='PanopticResize',
            scales=[(90, side) for side in (40, 50, 60)],
            keep_ratio=True))
    loaded, sizes = build(path, *LOAD)[0], set()
    for seed in range(12):
        np.random.seed(seed)
        results = resize(dict(loaded))
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
