"""Hypothesis strategies: label spaces, panoptic maps, predictions, networks'
outputs.

Maps (h, w) hold segment ids, 0 = void; images and data sets are those of
``tests/oracles/perturb.py``. Sizes, kinds and counts are drawn, so that they
shrink; the pixels of noise come from a drawn seed.
"""
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from tests.oracles.perturb import PanopticData, PanopticImage, ids_of_kind

#: Category ids: none in order, with gaps, 0, larger than a byte or an id.
CATEGORY_IDS = st.one_of(
    st.integers(0, 20), st.integers(0, 300),
    st.sampled_from([999, 1000, 1001, 65536, 2**24, 2**31 - 1, 2**40]))
#: Segment ids: of one, two and three bytes, and around their limits.
SEGMENT_IDS = st.one_of(
    st.integers(1, 300), st.integers(1, 2**24 - 1),
    st.sampled_from([1, 255, 256, 257, 65535, 65536, 65537, 2**24 - 1]))
SEEDS = st.integers(0, 2**32 - 1)
#: Few values, so that they tie; some differ in the last bit of a float32.
SCORES = st.sampled_from([
    0.0, 0.3, 0.5,
    float(np.nextafter(np.float32(0.5), np.float32(0))),
    float(np.nextafter(np.float32(0.5), np.float32(1))), 0.7, 0.9, 1.0
])


@st.composite
def shapes(draw, most=16, least=1):
    """(h, w), often a single row, column or pixel."""
    sides = st.integers(least, most)
    kind = draw(st.sampled_from(['any', 'any', 'any', 'row', 'column']))
    height = least if kind == 'row' else draw(sides)
    return height, least if kind == 'column' else draw(sides)


@st.composite
def label_spaces(draw, most=4, least_things=0, least_stuff=0):
    """Categories dict(id, name, isthing, color) in any order."""
    least = max(1, least_things + least_stuff)
    things = draw(st.integers(least_things, most))
    stuff = draw(st.integers(max(least_stuff, least - things), most))
    number = things + stuff
    ids = draw(
        st.lists(CATEGORY_IDS, min_size=number, max_size=number, unique=True))
    kinds = draw(st.permutations([1] * things + [0] * stuff))
    return [
        dict(
            id=id_,
            name=f'{"thing" if kind else "stuff"} {id_}',
            isthing=kind,
            color=[10 * i, 255 - i, 7])
        for i, (id_, kind) in enumerate(zip(ids, kinds))
    ]


def _parts(draw, shape):
    """Map (h, w) of 0..n-1: areas of very different form."""
    kind = draw(
        st.sampled_from(
            ['rectangles', 'voronoi', 'noise', 'stripes', 'pixels', 'one']))
    rng = np.random.default_rng(draw(SEEDS))
    height, width = shape
    if kind == 'one':
        return np.zeros(shape, np.int64)
    if kind == 'pixels':
        return np.arange(height * width).reshape(shape) % 40
    number = draw(st.integers(1, 9))
    if kind == 'noise':
        return rng.integers(0, number, shape)
    if kind == 'stripes':
        long = np.arange(height * width) // max(1, height * width // number)
        return long.reshape(shape, order=draw(st.sampled_from('CF')))
    ys, xs = rng.integers(0, height, number), rng.integers(0, width, number)
    if kind == 'voronoi':
        y, x = np.mgrid[:height, :width]
        return ((y[..., None] - ys)**2 + (x[..., None] - xs)**2).argmin(-1)
    parts = np.zeros(shape, np.int64)
    for i, (y, x) in enumerate(zip(ys, xs)):
        h, w = rng.integers(1, [height + 1, width + 1])
        parts[y:y + h, x:x + w] = i
    return parts


@st.composite
def panoptic_images(draw,
                    categories,
                    shape=None,
                    crowd_stuff=False,
                    image_id=1):
    """Ground truth with void, crowd, single pixels and scattered segments;
    stuff is crowd only with ``crowd_stuff``."""
    shape = shape or draw(shapes())
    parts = _parts(draw, shape)
    rng = np.random.default_rng(draw(SEEDS))
    if draw(st.booleans()):  # single pixels of their own
        for i in range(draw(st.integers(1, 3))):
            parts[tuple(rng.integers(0, shape))] = parts.max() + 1
    # several parts have one owner; void has some
    number = int(parts.max()) + 1
    owners = np.zeros(number, np.int64)
    most = draw(st.integers(0, number))
    if most:
        owners = rng.integers(draw(st.integers(0, 1)), most + 1, number)
    parts = owners[parts]
    present = [i for i in np.unique(parts).tolist() if i]
    names = [c['id'] for c in categories]
    things = set(ids_of_kind(categories, True))
    ids = draw(
        st.lists(
            SEGMENT_IDS,
            min_size=len(present),
            max_size=len(present),
            unique=True))
    crowd_rate = draw(st.sampled_from([0, 0, .3, .8]))
    # few classes, so that segments meet others of their own
    names = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
    id_map, segments = np.zeros(shape, np.int64), []
    for part, id_ in zip(present, ids):
        name = names[int(rng.integers(len(names)))]
        id_map[parts == part] = id_
        crowd = (name in things or crowd_stuff) and rng.random() < crowd_rate
        segments.append(dict(id=id_, category_id=name, iscrowd=int(crowd)))
    order = rng.permutation(len(segments))
    return PanopticImage(image_id, f'{image_id}.jpg', f'pan {image_id}.png',
                         id_map, [segments[i] for i in order])


ACTIONS = [
    'keep', 'keep', 'keep', 'miss', 'shift', 'rename', 'split', 'merge', 'dent'
]


@st.composite
def predictions(draw, truth, categories, unite_stuff=False):
    """A prediction that has to do with the ground truth, or nothing at all.

    Segments are kept, missed, moved, renamed, split, united with the one
    before, or lose pixels; crowd and void are predicted, too. With
    ``unite_stuff`` a stuff class has one segment, as the merge gives.
    """
    shape = truth.id_map.shape
    names = [c['id'] for c in categories]
    rng = np.random.default_rng(draw(SEEDS))
    layers = []  # (mask, category id), later ones on top
    if draw(st.integers(0, 4)) == 0:
        other = draw(panoptic_images(categories, shape))
        layers = [(other.id_map == s['id'], s['category_id'])
                  for s in other.segments]
    else:
        number = len(truth.segments)
        actions = draw(
            st.lists(
                st.sampled_from(ACTIONS), min_size=number, max_size=number))
        for segment, action in zip(truth.segments, actions):
            _disturb(rng, truth.id_map == segment['id'],
                     segment['category_id'], action, names, layers)
        for _ in range(draw(st.integers(0, 2))):
            (y, x), (h, w) = rng.integers(0, shape), rng.integers(1, 6, 2)
            mask = np.zeros(shape, bool)
            mask[y:y + h, x:x + w] = True
            layers.append((mask, names[int(rng.integers(len(names)))]))
    united = ids_of_kind(categories, False) if unite_stuff else []
    return _painted(draw, truth, layers, united)


def _disturb(rng, mask, name, action, names, layers):
    """Append what is left of a segment after an action."""
    if action == 'miss':
        return
    if action == 'shift':
        dy, dx = rng.integers(-2, 3, 2)
        mask = np.roll(mask, (int(dy), int(dx)), (0, 1))
    elif action == 'dent':
        mask = mask & (rng.random(mask.shape) < rng.choice([.4, .5, .7, .9]))
    elif action == 'rename':
        name = names[int(rng.integers(len(names)))]
    elif action == 'split':
        first = mask & (rng.random(mask.shape) < .5)
        layers += [(first, name), (mask & ~first, name)]
        return
    elif action == 'merge' and layers:
        layers[-1] = (layers[-1][0] | mask, layers[-1][1])
        return
    layers.append((mask, name))


def _painted(draw, truth, layers, united):
    """The layers as an image; layers of a category in ``united`` are one."""
    parts, names, shared = np.zeros(truth.id_map.shape, np.int64), [], {}
    for mask, name in layers:
        if name not in shared:
            names.append(name)
        part = shared.get(name, len(names))
        if name in united:
            shared[name] = part
        parts[mask] = part
    present = [i for i in np.unique(parts).tolist() if i]
    ids = draw(
        st.lists(
            SEGMENT_IDS,
            min_size=len(present),
            max_size=len(present),
            unique=True))
    id_map, segments = np.zeros_like(parts), []
    for part, id_ in zip(present, ids):
        id_map[parts == part] = id_
        segments.append(dict(id=id_, category_id=names[part - 1]))
    return replace(truth, id_map=id_map, segments=segments)


@st.composite
def data_sets(draw, most_images=3, crowd_stuff=False, **spaces):
    """PanopticData with integer or string image ids; sizes differ."""
    categories = draw(label_spaces(**spaces))
    number = draw(st.integers(1, most_images))
    ids = draw(
        st.lists(
            st.integers(0, 10**6),
            min_size=number,
            max_size=number,
            unique=True))
    if draw(st.booleans()):
        ids = [f'shot {i:02d}' for i in ids]
    return PanopticData(
        categories,
        [draw(panoptic_images(categories, None, crowd_stuff, i)) for i in ids])


@st.composite
def truths_and_predictions(draw, unite_stuff=False, **kwargs):
    """Ground truth and predictions of a data set."""
    data = draw(data_sets(**kwargs))
    return data, PanopticData(data.categories, [
        draw(predictions(image, data.categories, unite_stuff))
        for image in data.images
    ])


@st.composite
def instances(draw, shape, num_things, most=6):
    """Predicted instances: rectangles, noise, empty ones; scores tie.

    masks (n, h, w) bool, boxes (n, 4) float32 around them, scores (n, )
    float32, labels (n, ) int64.
    """
    number = draw(st.integers(0, most)) if num_things else 0
    kinds = draw(
        st.lists(
            st.sampled_from(
                ['box', 'box', 'box', 'noise', 'all', 'pixel', 'empty']),
            min_size=number,
            max_size=number))
    rng = np.random.default_rng(draw(SEEDS))
    masks = np.zeros((number, ) + tuple(shape), bool)
    boxes = np.zeros((number, 4), np.float32)
    for mask, box, kind in zip(masks, boxes, kinds):
        (y, x), (h, w) = rng.integers(0, shape), rng.integers(1, 12, 2)
        if kind == 'noise':
            mask[:] = rng.random(shape) < .3
        elif kind == 'all':
            mask[:] = True
        elif kind != 'empty':
            h, w = (1, 1) if kind == 'pixel' else (h, w)
            mask[y:y + h, x:x + w] = True
        ys, xs = np.nonzero(mask)
        if ys.size:
            box[:] = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
    scores = draw(st.lists(SCORES, min_size=number, max_size=number))
    labels = rng.integers(0, max(1, num_things), number)
    return masks, boxes, np.array(scores, np.float32), labels


@st.composite
def channel_maps(draw, shape, num_channels):
    """(h, w) int64, what the semantic head has for each pixel."""
    rng = np.random.default_rng(draw(SEEDS))
    return rng.integers(0, num_channels, 64)[_parts(draw, shape) % 64]


@st.composite
def semantic_logits(draw, most_channels=7, most=9):
    """(N, C, h, w) float32: ordinary, tied, constant, far apart."""
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, most_channels)),
             *draw(shapes(most)))
    rng = np.random.default_rng(draw(SEEDS))
    kind = draw(st.sampled_from(['normal', 'tied', 'constant', 'far']))
    if kind == 'tied':
        logits = rng.integers(-2, 3, shape)
    elif kind == 'constant':
        logits = np.full(shape, draw(st.sampled_from([0., -3., 1e4])))
    else:
        logits = rng.normal(0, 60 if kind == 'far' else 3, shape)
    return logits.astype(np.float32)
