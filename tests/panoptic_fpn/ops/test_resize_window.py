"""Windows of resized images against OpenCV's resizing of the whole."""
import cv2
import numpy as np
import pytest

from panoptic_fpn.ops.resize_window import (nearest_pixels, resize_window,
                                            take_pixels)


def noise(rng, height, width):
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def extremes(rng, height, width):
    """The largest steps between neighbours."""
    return (rng.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)


def floats(rng, height, width):
    return rng.uniform(0, 255, (height, width)).astype(np.float32)


def sizes(rng, number):
    """Of image and resized image: odd, tiny, large, extreme, exact ratios."""
    for i in range(number):
        top = 700 if i % 10 == 0 else 150
        size = rng.integers(1, top, 2)
        factor = np.exp(
            rng.uniform(np.log(.05), np.log(2 if top > 150 else 8)))
        if i % 3 == 0:
            factor = rng.choice([.25, 1 / 3, .5, .75, 1, 1.5, 2, 3])
        factor = np.array([1, rng.uniform(.7, 1.4) if i % 4 == 0 else 1
                           ]) * factor
        resized = np.maximum((size * factor + .5).astype(int), 1)
        yield tuple(size.tolist()), tuple(resized.tolist())


@pytest.mark.parametrize('kind', [noise, extremes, floats])
def test_windows_of_resized_images(kind):
    rng = np.random.default_rng(5)
    equal = total = 0
    for size, resized in sizes(rng, 150):
        image = kind(rng, *size)
        whole = cv2.resize(image, resized[::-1])
        for _ in range(4):
            height, width = (int(rng.integers(1, n + 1)) for n in resized)
            y = int(rng.integers(0, resized[0] - height + 1))
            x = int(rng.integers(0, resized[1] - width + 1))
            window = resize_window(image, resized, (y, x, height, width))
            expected = whole[y:y + height, x:x + width]
            assert window.shape == expected.shape
            assert window.flags.c_contiguous and window.base is None
            assert window.dtype == image.dtype
            difference = cv2.absdiff(window, expected)
            assert difference.max() <= 1, (size, resized, y, x)
            equal += np.count_nonzero(difference < 0.5)
            total += difference.size
    assert equal > 0.95 * total


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32])
def test_windows_of_resized_maps(dtype):
    rng = np.random.default_rng(8)
    for size, resized in sizes(rng, 300):
        index_map = rng.integers(0, 250, size).astype(dtype)
        whole = cv2.resize(
            index_map, resized[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        rows, cols = map(nearest_pixels, size, resized)
        height, width = (int(rng.integers(1, n + 1)) for n in resized)
        y = int(rng.integers(0, resized[0] - height + 1))
        x = int(rng.integers(0, resized[1] - width + 1))
        window = take_pixels(index_map, rows[y:y + height], cols[x:x + width])
        assert window.dtype == dtype and window.flags.c_contiguous
        assert (window == whole[y:y + height, x:x + width]).all()
