"""What is written and read back is the same: ids as colours and codes, PNGs,
runs, RLEs."""
import io

import cv2
import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as mask_util

from panoptic_fpn.labels import (LabelSpace, channel_labels, encode_panoptic,
                                 id_to_rgb, rgb_to_id, semantic_channels)
from panoptic_fpn.ops import run_length as runs
from panoptic_fpn.ops.decode import decode_image, decode_map
from panoptic_fpn.ops.run_length import contiguous, row_runs
from panoptic_fpn.ops.to_host import to_plane
from tests.oracles import runs as plain
from tests.oracles.derive import labels_of
from tests.oracles.semantic import gt_channels

from . import strategies

#: Any id, and those around the limits of a byte.
IDS = st.one_of(st.integers(0, 2**24 - 1), st.just(0), strategies.SEGMENT_IDS)


@given(
    hnp.arrays(
        st.sampled_from([np.int32, np.int64, np.uint32]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
        elements=IDS))
def test_ids_are_colours_and_back(ids):
    rgb = id_to_rgb(ids)
    assert rgb.dtype == np.uint8 and rgb.shape == ids.shape + (3, )
    for (r, g, b), id_ in zip(rgb.reshape(-1, 3).tolist(), ids.ravel()):
        assert r + 256 * g + 65536 * b == id_
    assert (rgb_to_id(rgb) == ids).all()


@given(hnp.arrays(np.uint8, st.tuples(st.integers(0, 5), st.just(3))))
def test_colours_are_ids_and_back(rgb):
    ids = rgb_to_id(rgb)
    assert (ids >= 0).all() and (ids < 2**24).all()
    assert (id_to_rgb(ids) == rgb).all()


@given(
    st.lists(
        st.tuples(st.integers(0, 999), st.integers(0, 2**40)), max_size=6))
def test_codes_hold_label_and_number(pairs):
    labels, numbers = np.array(pairs, np.int64).reshape(-1, 2).T
    codes = encode_panoptic(labels, numbers)
    assert (codes % 1000 == labels).all() and (codes // 1000 == numbers).all()
    if pairs:
        one = encode_panoptic(*pairs[0])
        assert (one % 1000, one // 1000) == pairs[0]


@given(strategies.label_spaces(), st.randoms(use_true_random=False))
def test_label_spaces_whatever_their_order(categories, random):
    space = LabelSpace.from_coco(categories)
    label_of = labels_of(categories)
    assert space.category_ids == tuple(label_of)
    for category in categories:
        label = space.label(category['id'])
        assert label == label_of[category['id']]
        assert space.is_thing(label) == bool(category['isthing'])
        assert space.names[label] == category['name']
        assert list(space.palette[label]) == category['color']
    shuffled = random.sample(categories, len(categories))
    assert LabelSpace.from_coco(shuffled) == space
    assert LabelSpace.from_metainfo(space.metainfo()) == space
    assert space.void == len(categories)


@given(st.integers(0, 9), st.integers(0, 9), st.booleans())
def test_channels_of_labels_and_back(things, stuff, predict_things):
    assume(things + stuff)
    channels = semantic_channels(things, stuff, predict_things)
    labels = channel_labels(things, stuff, predict_things)
    wanted = gt_channels(
        np.arange(things + stuff), things, stuff, predict_things)
    assert channels.tolist() == wanted.tolist()
    assert labels[channels].tolist() == [
        label if label >= things else things + stuff
        for label in range(things + stuff)
    ]


@st.composite
def pictures(draw, channels, dtypes=(np.uint8, )):
    """(h, w) or (h, w, channels): large areas of few values, or noise."""
    shape = draw(strategies.shapes(40))
    parts = draw(strategies.channel_maps(shape, 64))
    dtype = draw(st.sampled_from(dtypes))
    rng = np.random.default_rng(draw(strategies.SEEDS))
    size = (64, channels) if channels > 1 else 64
    table = rng.integers(0, np.iinfo(dtype).max + 1, size)
    return table[parts].astype(dtype)


def by_pillow(pixels, level):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, 'PNG', compress_level=level)
    return buffer.getvalue()


def by_opencv(pixels, level):
    if pixels.ndim == 3:
        pixels = pixels[..., ::-1]
    flags = [
        cv2.IMWRITE_PNG_COMPRESSION, level, cv2.IMWRITE_PNG_STRATEGY, level % 5
    ]
    return cv2.imencode('.png', np.ascontiguousarray(pixels),
                        flags)[1].tobytes()


LEVELS = st.integers(0, 9)
WRITERS = st.sampled_from([by_pillow, by_opencv])


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and (a == b).all()


@given(pictures(3), WRITERS, LEVELS)
def test_a_png_of_ids_comes_back(rgb, write, level):
    content = write(rgb, level)
    assert same(decode_map(content), rgb)
    assert same(id_to_rgb(rgb_to_id(decode_map(content))), rgb)
    image = decode_image(content)
    assert same(image, rgb[..., ::-1])
    assert image.flags.c_contiguous and image.flags.writeable


@given(pictures(1, (np.uint8, np.uint16)), WRITERS, LEVELS)
def test_a_png_of_one_channel_comes_back(values, write, level):
    content = write(values, level)
    assert same(decode_map(content), values)


@st.composite
def bitmaps(draw):
    """(h, w) bool, as it is, seen from another side, or a part of more."""
    shape = draw(strategies.shapes(20))
    mask = draw(strategies.channel_maps(shape, 4)) < draw(st.integers(0, 4))
    view = draw(st.sampled_from(['as it is', 'columns', 'mirrored', 'part']))
    if view == 'columns':
        return np.asfortranarray(mask)
    if view == 'mirrored':
        return mask[:, ::-1].copy()[:, ::-1]
    return np.pad(mask, 2, mode='edge')[2:-2, 2:-2] if view == 'part' else mask


@given(bitmaps())
def test_masks_are_rles_and_back(mask):
    rle = runs.encode_mask(mask)
    assert rle == plain.encode(mask)
    assert (mask_util.decode(rle) == mask).all()
    assert mask_util.area(rle) == mask.sum()
    window = runs.mask_window(mask)
    if window is None:
        assert not mask.any()
    else:
        y1, x1, y2, x2 = window
        inside = mask[y1:y2, x1:x2]
        assert inside.sum() == mask.sum()
        sides = inside[0], inside[-1], inside[:, 0], inside[:, -1]
        assert all(side.any() for side in sides)


@st.composite
def code_maps(draw, shape=None):
    """(h, w) of ``label + 1000 * number`` of any size, type and layout."""
    shape = shape or draw(strategies.shapes(20))
    codes = draw(
        st.lists(
            st.one_of(
                st.integers(0, 999), st.integers(0, 10**6),
                st.integers(runs.TABLE_SIZE - 2, runs.TABLE_SIZE + 2),
                st.integers(0, 2**45)),
            min_size=1,
            max_size=9))
    codes = np.array(codes, np.int64)
    dtypes = [np.uint8, np.uint16, np.int32, np.int64]
    codes = codes.astype(
        draw(
            st.sampled_from(
                [d for d in dtypes if codes.max() <= np.iinfo(d).max])))
    array = codes[draw(strategies.channel_maps(shape, len(codes)))]
    layout = draw(
        st.sampled_from(['plain', 'columns', 'part', 'turned', 'tensor']))
    if layout == 'columns':
        return np.asfortranarray(array)
    if layout == 'part':
        return array.repeat(2, axis=0).repeat(3, axis=1)[::2, ::3]
    if layout == 'turned':
        return np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]
    return to_plane(torch.from_numpy(
        array[None])) if layout == 'tensor' else array


@given(
    st.sampled_from([
        (np.uint8, 0, 1), (np.uint8, 0, 255), (np.int16, -50, 50),
        (np.int32, 0, 10**5), (np.int64, -9, -1), (np.int64, 2**40, 2**40 + 9)
    ]).flatmap(lambda kind: hnp.arrays(
        kind[0], st.integers(1, 200), elements=st.integers(kind[1], kind[2]))))
def test_indices_are_those_of_unique(values):
    expected = np.unique(values, return_inverse=True)
    found = runs.index_values(values)
    assert all(map(np.array_equal, found, expected))
    assert found[0].dtype == np.int64


@given(st.sampled_from([1, 300, 1 << 16, (1 << 16) + 1]), strategies.SEEDS)
def test_groups_keep_the_order_of_their_entries(size, seed):
    index = np.random.default_rng(seed).integers(0, size, 5000)
    index = np.append(index, np.arange(size))
    order, borders = runs.group_by_value(index, size)
    assert np.array_equal(order, np.argsort(index, kind='stable'))
    assert np.array_equal(np.diff(borders), np.bincount(index))


@given(code_maps(), st.integers(0, 2**45))
def test_segments_are_rles_and_back(segments, absent):
    codes = np.unique(segments)
    found = runs.encode_segments(segments, [*codes[::-1].tolist(), absent])
    for code, rle in zip([*codes[::-1], absent], found):
        assert (mask_util.decode(rle) == (segments == code)).all()
        assert rle == plain.encode(segments == code)
    codes, areas, boxes = runs.segment_boxes(segments)
    expected = plain.segment_boxes(segments)
    assert (codes == expected[0]).all() and (areas == expected[1]).all()
    assert (boxes == expected[2]).all()


@given(st.data())
def test_common_runs_give_the_maps_back(data):
    shape = data.draw(strategies.shapes(20))
    maps = [data.draw(code_maps(shape)) for _ in range(2)]
    values, lengths = runs.joint_runs(*maps)
    for one, expected in zip(values, maps):
        assert (np.repeat(one, lengths) == expected.ravel()).all()
    # as few of them as there can be
    if len(lengths) > 1:
        assert ((np.diff(values[0]) != 0) | (np.diff(values[1]) != 0)).all()
    codes, places = runs.index_values(values[0])
    assert (codes[places] == values[0]).all()
    assert sorted(set(codes.tolist())) == codes.tolist()
    found, areas, index = runs.index_map(maps[0])
    assert (found[index] == maps[0]).all()
    assert (areas == np.unique(maps[0], return_counts=True)[1]).all()


@given(st.data(), st.sampled_from([np.uint8, np.uint16, np.int32]),
       st.booleans())
def test_runs_of_an_index_map_give_it_back(data, dtype, mirrored):
    shape = data.draw(strategies.shapes(20))
    index_map = data.draw(strategies.channel_maps(shape, 60)).astype(dtype)
    if mirrored:
        index_map = index_map[:, ::-1]
    assert same(contiguous(index_map), np.ascontiguousarray(index_map))
    again = np.zeros_like(index_map)
    for value, row, begin, end in zip(*row_runs(index_map)):
        assert begin < end
        again[row, begin:end] = value
    assert (again == index_map).all()
