"""Preparation of images, and files, without mmdet."""
import cv2
import msgspec
import numpy as np
import pytest
import torch
from mmdet.models import DetDataPreprocessor
from mmdet.structures import DetDataSample
from PIL import Image

from panoptic_fpn import inference as apis
from panoptic_fpn.data import PanopticResize
from tests.tiny import picture

pytest.importorskip('onnxruntime')
from panoptic_onnx import DeployError, files, model_file  # noqa: E402
from panoptic_onnx.session import prepare  # noqa: E402

SETTINGS = model_file.Preprocessing(
    scale=(133, 80),
    keep_ratio=True,
    mean=(103.53, 116.28, 123.675),
    std=(57.4, 57.1, 58.4),
    to_rgb=False,
    divisor=32,
    pad_value=0.0)


@pytest.mark.parametrize('size', [(96, 128), (300, 45), (61, 61), (20, 500),
                                  (2, 900), (900, 2), (1, 1)])
@pytest.mark.parametrize('to_rgb', [False, True])
@pytest.mark.parametrize('keep_ratio', [False, True])
def test_images_are_prepared_as_in_training(size, to_rgb, keep_ratio):
    image = picture(*size)
    settings = msgspec.structs.replace(
        SETTINGS, to_rgb=to_rgb, keep_ratio=keep_ratio)
    found, shape = prepare(image, settings)
    resize = PanopticResize(scale=(133, 80), keep_ratio=keep_ratio)
    results = resize(dict(img=image.copy(), img_shape=size))
    processor = DetDataPreprocessor(
        mean=SETTINGS.mean,
        std=SETTINGS.std,
        bgr_to_rgb=to_rgb,
        pad_size_divisor=32)
    pixels = torch.from_numpy(results['img'].transpose(2, 0, 1).copy())
    sample = DetDataSample(metainfo=dict(img_shape=results['img_shape']))
    expected = processor(dict(inputs=[pixels], data_samples=[sample]))
    assert shape == tuple(results['img_shape'][:2])
    np.testing.assert_array_equal(found, expected['inputs'].numpy())


@pytest.mark.parametrize('image', [
    np.zeros((4, 4), np.uint8),
    np.zeros((0, 4, 3), np.uint8),
    np.zeros((4, 4, 3), np.float32)
])
def test_what_is_no_image_is_named(image):
    with pytest.raises(DeployError, match='is not an image'):
        prepare(image, SETTINGS)


def test_files_that_are_no_images(tmp_path):
    (tmp_path / 'empty.png').write_bytes(b'')
    (tmp_path / 'text.jpg').write_text('no image')
    for name in ('empty.png', 'text.jpg', 'missing.jpg'):
        with pytest.raises(DeployError, match=name):
            files.read_image(str(tmp_path / name))


@pytest.mark.parametrize('kind, options', [
    ('jpg', {}),
    ('jpg', dict(progressive=True, exif=b'Exif\0\0 \xff\xda \xff\xd9')),
    ('png', {}),
])
def test_a_file_that_is_cut_off(tmp_path, kind, options):
    """None is partly grey: cut anywhere, it is an error."""
    path = tmp_path / f'x.{kind}'
    Image.fromarray(picture()).save(path, **options)
    whole = path.read_bytes()
    shown = files.read_image(str(path))
    for length in range(3, len(whole) - 12, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(DeployError, match=f'x.{kind}: '):
            files.read_image(str(path))
    path.write_bytes(whole + bytes(9))  # as some cameras do
    np.testing.assert_array_equal(files.read_image(str(path)), shown)
    np.testing.assert_array_equal(cv2.imread(str(path)), shown)


def test_finds_and_names_what_the_apis_do(tmp_path):
    for name in ('a.png', 'b/a.JPG', 'b/a_panoptic.png', 'b/note.txt',
                 'b/c/x.tiff', 'b/._a.JPG', 'b/.c/x.png', 'b.jpg/y.png'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'')
    paths = [str(tmp_path), str(tmp_path / 'a.png'), 'missing.png']
    found = files.find_images(paths)
    assert len(found) == 5
    assert found == apis.find_images(paths)
    assert files.unique_stems(found) == apis.unique_stems(found)


def test_written_files_are_complete_or_absent(tmp_path, monkeypatch):
    path = tmp_path / 'new' / 'x.json'
    files.write_bytes(str(path), b'first')

    def fail(*_):
        raise OSError('disk full')

    monkeypatch.setattr(files.os, 'replace', fail)
    with pytest.raises(OSError):
        files.write_bytes(str(path), b'second')
    assert path.read_bytes() == b'first'
    assert [one.name for one in path.parent.iterdir()] == ['x.json']
