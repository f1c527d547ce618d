"""Files that some decoders take although a part is missing."""
import cv2
import numpy as np
import pytest

from panoptic_fpn.ops.decode import find_fault


@pytest.fixture(name='image')
def _image():
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3))
    return cv2.blur(noise.astype(np.uint8), (5, 5))


def encoded(image, suffix):
    return cv2.imencode(suffix, image)[1].tobytes()


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.bmp'])
def test_whole_files(image, suffix):
    assert find_fault(encoded(image, suffix)) is None


def test_a_photograph_without_its_end(image):
    content = encoded(image, '.jpg')
    cut = content[:len(content) * 4 // 5]
    assert 'cut off' in find_fault(cut)


@pytest.mark.parametrize('tail', [b'\0' * 20, b'appended by a camera' * 9])
def test_what_follows_a_photograph_is_no_damage(image, tail):
    assert find_fault(encoded(image, '.jpg') + tail) is None


def test_a_png_without_its_end(image):
    content = encoded(image, '.png')
    for size in (len(content) - 1, len(content) // 2):
        assert 'cut off' in find_fault(content[:size])


def test_a_png_with_a_wrong_byte(image):
    content = bytearray(encoded(image, '.png'))
    content[len(content) // 2] ^= 1
    assert 'checksum' in find_fault(bytes(content))


def test_nothing_at_all():
    assert find_fault(b'') == 'an empty file'
