"""Files that cannot be read, or not as they are: the message names them."""
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from mmengine_exact.errors import CorruptFileError
from panoptic_fpn.data import LoadPanopticImage, LoadPanopticMap
from panoptic_fpn.ops import FAST_OPS


@pytest.fixture(params=['kornia-rs', 'opencv'])
def decoder(request, monkeypatch):
    """Which of them decodes PNGs."""
    if request.param == 'opencv':
        monkeypatch.setenv(FAST_OPS, '0')


def check_cut(load, info, path, content):
    """The file is read as a whole; cut off, it is named."""
    path.write_bytes(content)
    results = load(dict(info))
    for size in (0, 7, 30, len(content) // 2, len(content) * 4 // 5):
        path.write_bytes(content[:size])
        with pytest.raises(CorruptFileError) as error:
            load(dict(info))
        for words in (str(path), f'{size} bytes', 'Copy or export it again'):
            assert words in str(error.value)
    return results


@pytest.mark.parametrize('suffix', ['png', 'jpg'])
def test_truncated_images(tmp_path, decoder, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3))
    content = cv2.imencode(f'.{suffix}', pixels.astype(np.uint8))[1].tobytes()
    path = tmp_path / f'street.{suffix}'
    info = dict(img_path=str(path))
    results = check_cut(LoadPanopticImage(), info, path, content)
    assert results['img'].shape == (60, 80, 3)


@pytest.mark.parametrize('kind', ['rgb', '16 bits', 'classes'])
def test_truncated_maps(tmp_path, decoder, kind):
    path, pixels = tmp_path / 'map.png', np.full((60, 80, 3), 1, np.uint8)
    info = dict(
        img_path='x',
        seg_map_path=str(path),
        ori_shape=(60, 80),
        segments_info=[dict(id=65793)])
    if kind != 'rgb':
        pixels = np.full((60, 80), 7, np.uint16 if kind == '16 bits' else 'u1')
        info.update(
            segments_info=[dict(id=7)], void_ids=[], class_map=kind[0] == 'c')
    content = cv2.imencode('.png', pixels)[1].tobytes()
    results = check_cut(LoadPanopticMap(), info, path, content)
    assert (results['gt_seg_map'] == 1).all()


@pytest.mark.parametrize('fmt', ['JPEG', 'PNG'])
def test_an_orientation_tag_is_followed_and_named(tmp_path, decoder, fmt):
    """The JSON of COCO has the sizes of images that lie on their side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(
        buffer, fmt, exif=exif.tobytes())
    path = tmp_path / 'photo'
    path.write_bytes(buffer.getvalue())
    results = LoadPanopticImage()(dict(img_path=str(path)))
    assert results['img_shape'] == (30, 20)
    with pytest.raises(CorruptFileError, match='strip the orientation tag'):
        LoadPanopticImage()(dict(img_path=str(path), height=20, width=30))


def test_other_ways_to_read_an_image(tmp_path):
    path = tmp_path / 'image.png'
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3))
    cv2.imwrite(str(path), pixels)
    info = dict(img_path=str(path))
    for options, expected in ((dict(to_float32=True),
                               pixels.astype(np.float32)),
                              (dict(color_type='grayscale'),
                               cv2.imread(str(path), 0)),
                              (dict(imdecode_backend='pillow'), pixels)):
        found = LoadPanopticImage(**options)(dict(info))['img']
        assert found.dtype == (
            np.float32 if 'to_float32' in options else np.uint8)
        assert (found == expected).all()
