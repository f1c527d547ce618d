"""PNGs whose ids are lost, and those that merely have more than the JSON."""
import cv2
import numpy as np
import pytest
from PIL import Image

from panoptic_fpn.coco_format import (ERROR, WARNING, measure_segments,
                                      png_faults)
from tests.oracles.perturb import random_data, rgb_of_ids

RESIZES = dict(
    linear=cv2.INTER_LINEAR,
    cubic=cv2.INTER_CUBIC,
    area=cv2.INTER_AREA,
    lanczos=cv2.INTER_LANCZOS4)


def images(shape=(120, 168), number=4):
    """Sound PNGs in RGB with their segments: random ids of up to 3 bytes, and
    ``category * 1000 + number``."""
    for image in random_data(5, number, shape).images:
        yield rgb_of_ids(image.id_map), image.segments
        ids, segments = 0 * image.id_map, []
        for number, segment in enumerate(image.segments, 1):
            id_ = 1000 * (segment['category_id'] % 20) + number
            ids[image.id_map == segment['id']] = id_
            segments.append(dict(segment, id=id_))
        yield rgb_of_ids(ids), segments


def kinds(pixels, segments):
    measured = measure_segments(pixels, (0, ))
    found = png_faults(measured, segments, 'it', 'its PNG', (), pixels)
    return {fault.kind for fault in found} - {'area', 'bbox'}


@pytest.mark.parametrize('scale', [0.3, 0.5, 0.77, 1.5, 2.1, 5.3])
@pytest.mark.parametrize('method', RESIZES)
def test_resized_with_interpolation(method, scale):
    for pixels, segments in images():
        resized = cv2.resize(
            pixels, None, fx=scale, fy=scale, interpolation=RESIZES[method])
        assert kinds(resized, segments) == {'png_blended'}


@pytest.mark.parametrize('scale', [0.77, 0.85, 0.95])
def test_resized_by_boxes(scale):
    """Few pixels of such a resize are between others, but all new ones."""
    for pixels, segments in images():
        size = [round(n * scale) for n in pixels.shape[1::-1]]
        resized = np.array(Image.fromarray(pixels).resize(size, Image.BOX))
        assert kinds(resized, segments) == {'png_blended'}


@pytest.mark.parametrize('quality', [30, 75, 95, 100])
def test_compressed_with_loss(quality):
    """What was a JPEG once, now a PNG."""
    for pixels, segments in images():
        content = cv2.imencode('.jpg', pixels,
                               [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        found = cv2.imdecode(content, cv2.IMREAD_COLOR)
        assert kinds(found, segments) == {'png_blended'}


@pytest.mark.parametrize('scale', [0.2, 0.5, 1, 2.5])
def test_unlisted_segments_are_no_blend(scale):
    """Nearest neighbour makes no new value, however much is not listed."""
    draw = np.random.default_rng(3)
    for pixels, segments in images(number=12):
        resized = cv2.resize(
            pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        for share in (0, 0.3, 0.6, 0.9):
            listed = [s for s in segments if draw.random() > share]
            found = kinds(resized, listed)
            assert not found & {'png_blended', 'png_swapped'}


def test_channels_that_are_swapped():
    for pixels, segments in images():
        assert kinds(pixels, segments) == set()
        swapped = pixels[..., ::-1]
        expected = set() if (swapped == pixels).all() else {'png_swapped'}
        assert kinds(swapped, segments) == expected
        # one id that fits in neither order
        other = swapped.copy()
        other[:3, :3] = 11, 12, 13
        assert not kinds(other, segments) & {'png_swapped'}


@pytest.mark.parametrize('scale', [0.77, 1.5, 2.1])
def test_blends_that_fall_on_listed_ids(scale):
    """Ids that count from 1: no value is new, but areas are wrong."""
    for image in random_data(5, 4, (120, 168)).images:
        ids = 0 * image.id_map
        for number, segment in enumerate(image.segments, 1):
            ids[image.id_map == segment['id']] = number
        segments = [dict(id=i + 1) for i in range(len(image.segments))]
        pixels = rgb_of_ids(ids)
        assert kinds(pixels, segments) == set()
        resized = cv2.resize(pixels, None, fx=scale, fy=scale)
        assert kinds(resized, segments) == {'png_blended'}


def test_textures_with_old_areas_are_a_warning():
    """Where all ids are known, values between others may be right."""
    ids = np.kron(
        np.random.default_rng(0).integers(1, 9, (40, 40)) * 1000,
        np.ones((1, 2), int))
    segments = [dict(id=i * 1000, area=1) for i in range(1, 9)]
    pixels = rgb_of_ids(ids)
    found = list(
        png_faults(
            measure_segments(pixels, (0, )), segments, 'it', 'its PNG', (),
            pixels))
    assert [f.kind for f in found if f.severity == ERROR] == ['area'] * 8
    assert [f.severity for f in found if f.kind == 'png_blended'] == [WARNING]


def test_cells_of_six_pixels_are_no_blend():
    """Where three segments meet, values lie between others by chance."""
    draw = np.random.default_rng(0)
    centres = draw.random((350, 1, 1, 2)) * 100
    grid = np.stack(np.mgrid[:100, :100], axis=-1)
    ids = ((centres - grid)**2).sum(axis=-1).argmin(axis=0) + 1
    listed = [dict(id=i) for i in range(1, 301)]
    assert 'png_blended' not in kinds(rgb_of_ids(ids), listed)
