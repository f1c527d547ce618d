"""Random panoptic ground truth and wrong predictions of it, from a seed.

Maps (h, w) hold segment ids, 0 = void; segments are dict(id, category_id,
iscrowd) in the ground truth, dict(id, category_id) in predictions. Awkward on
purpose:

- categories list stuff first, shuffled, with ids that are not contiguous and
  mix things and stuff
- segment ids use all three bytes of a PNG
- several crowd segments of one class, in an order unlike that of their ids
- several stuff segments of one class, void areas, shapes that overlap
- PNG names that are not the image's name; integer or string image ids
"""
import copy
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as mask_util


@dataclass
class PanopticImage:
    """One image with its annotation; ``id_map`` (h, w) int64, 0 = void."""

    image_id: object
    file_name: str
    png_name: str
    id_map: np.ndarray
    segments: list = field(default_factory=list)


@dataclass
class PanopticData:
    """Categories dict(id, name, isthing, color) and images."""

    categories: list
    images: list


def random_categories(rng, num_things=4, num_stuff=5):
    """COCO categories: stuff first, shuffled, ids with gaps."""
    total = num_things + num_stuff
    ids = rng.choice(np.arange(1, 250), total, replace=False)
    colors = rng.integers(40, 250, (total, 3))
    isthing = [0] * num_stuff + [1] * num_things
    return [
        dict(
            id=int(ids[i]),
            name=f'{"thing" if isthing[i] else "stuff"}_{i}',
            isthing=isthing[i],
            supercategory='thing' if isthing[i] else 'stuff',
            color=[int(c) for c in colors[i]]) for i in range(total)
    ]


def ids_of_kind(categories, isthing):
    return [c['id'] for c in categories if bool(c['isthing']) == bool(isthing)]


def random_blob(rng, shape, share=0.5):
    """A rectangle or an ellipse, up to ``share`` of each side: (h, w) bool."""
    h, w = shape
    bh = int(rng.integers(2, max(3, int(h * share))))
    bw = int(rng.integers(2, max(3, int(w * share))))
    y0, x0 = int(rng.integers(0, h - 1)), int(rng.integers(0, w - 1))
    if rng.random() < 0.5:
        blob = np.zeros(shape, dtype=bool)
        blob[y0:y0 + bh, x0:x0 + bw] = True
        return blob
    y, x = np.mgrid[:h, :w]
    blob = ((y - y0) / bh)**2 + ((x - x0) / bw)**2 <= 1
    blob[y0, x0] = True
    return blob


def _new_id(rng, used):
    """A 24-bit id that is not in ``used`` (adds it)."""
    high = int(rng.choice([1 << 8, 1 << 16, 1 << 24]))
    while True:
        id_ = int(rng.integers(1, high))
        if id_ not in used:
            used.add(id_)
            return id_


def random_image(rng, categories, shape=(40, 56), image_id=1):
    """Ground truth of one image: stuff, things over it, crowds, void.

    At least two crowd segments of one thing class, side by side, so that all
    of them keep pixels (void may still eat one).
    """
    h, w = shape
    stuff = ids_of_kind(categories, False)
    things = ids_of_kind(categories, True)
    id_map = np.zeros(shape, dtype=np.int64)
    segments, used = [], {0}

    def paint(mask, category_id, iscrowd=0):
        id_ = _new_id(rng, used)
        id_map[mask] = id_
        segments.append(
            dict(id=id_, category_id=int(category_id), iscrowd=iscrowd))

    if stuff:
        for left in range(0, w, w // 4):
            if rng.random() < 0.9:  # else a strip of void
                strip = np.zeros(shape, dtype=bool)
                strip[:, left:left + w // 4] = True
                paint(strip, rng.choice(stuff))
    if things:
        for _ in range(int(rng.integers(2, 9))):
            paint(random_blob(rng, shape, 0.4), rng.choice(things))
        crowd_class = rng.choice(things)
        for left in range(0, 3 * (w // 4), w // 4):
            mask = np.zeros(shape, dtype=bool)
            top = int(rng.integers(0, h // 2))
            mask[top:top + h // 4, left:left + w // 5] = True
            other = rng.random() < 0.2
            paint(mask, rng.choice(things) if other else crowd_class, 1)
    for _ in range(int(rng.integers(0, 3))):
        id_map[random_blob(rng, shape, 0.2)] = 0

    left = set(np.unique(id_map).tolist())
    segments = [s for s in segments if s['id'] in left]
    order = rng.permutation(len(segments))
    return PanopticImage(image_id, f'{image_id}.jpg', f'pan-{image_id}.png',
                         id_map, [segments[i] for i in order])


def random_data(seed,
                num_images=4,
                shape=(40, 56),
                string_ids=False,
                num_things=4,
                num_stuff=5):
    """A data set; ``string_ids`` gives ids such as ``'shot_07_b'``."""
    rng = np.random.default_rng(seed)
    categories = random_categories(rng, num_things, num_stuff)
    numbers = rng.permutation(np.arange(1, 50 * num_images, 7))[:num_images]
    ids = [f'shot_{n:02d}_b' if string_ids else int(n) for n in numbers]
    return PanopticData(categories,
                        [random_image(rng, categories, shape, i) for i in ids])


def _shifted(mask, dy, dx):
    """The mask moved by (dy, dx) pixels, without wrapping around."""
    moved = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(mask)):
        if 0 <= y + dy < mask.shape[0] and 0 <= x + dx < mask.shape[1]:
            moved[y + dy, x + dx] = True
    return moved


def _eroded(mask):
    """The mask without the pixels that touch its outside."""
    return (mask & _shifted(mask, 1, 0) & _shifted(mask, -1, 0)
            & _shifted(mask, 0, 1) & _shifted(mask, 0, -1))


def _halves(mask, rng):
    """The mask cut at a random row or column inside it."""
    places = np.nonzero(mask)[int(rng.integers(2))]
    cut = int(rng.integers(places.min(), places.max() + 1))
    axis_index = np.nonzero(mask)
    first = np.zeros_like(mask)
    chosen = places <= cut
    first[axis_index[0][chosen], axis_index[1][chosen]] = True
    return first, mask & ~first


def perturb(rng, image, categories, unite_stuff=True, void_rate=0.05):
    """A wrong prediction of ``image``, segments of dict(id, category_id).

    Each segment (crowd too) is kept, missed, shifted, eroded, split, given
    another name or merged into the one before; spurious segments are added,
    over void and crowd as well. A share of ``void_rate`` is void altogether;
    with ``unite_stuff`` a stuff class has one segment, as the merge gives.
    """
    every = [c['id'] for c in categories]
    layers = []  # (mask, category id), later ones on top
    for segment in image.segments:
        mask = image.id_map == segment['id']
        name = segment['category_id']
        action = rng.choice(
            ['keep', 'miss', 'shift', 'erode', 'split', 'rename', 'merge'],
            p=[0.4, 0.1, 0.15, 0.1, 0.1, 0.1, 0.05])
        if action == 'shift':
            dy, dx = rng.integers(-3, 4, 2)
            mask = _shifted(mask, int(dy), int(dx))
        elif action == 'erode':
            mask = _eroded(mask)
        elif action == 'rename':
            name = int(rng.choice(every))
        if action == 'split':
            layers += [(half, name) for half in _halves(mask, rng)]
        elif action == 'merge' and layers:
            layers[-1] = (layers[-1][0] | mask, layers[-1][1])
        elif action != 'miss':
            layers.append((mask, name))
    for _ in range(int(rng.integers(0, 4))):
        blob = random_blob(rng, image.id_map.shape, 0.3)
        layers.append((blob, int(rng.choice(every))))
    if rng.random() < void_rate:
        layers = []
    return _paint_layers(rng, image, layers,
                         ids_of_kind(categories, False) if unite_stuff else [])


def _paint_layers(rng, image, layers, united):
    """Layers to ids; layers of a category in ``united`` share an id."""
    id_map = np.zeros_like(image.id_map)
    used, shared, name_of = {0}, {}, {}
    for mask, name in layers:
        id_ = shared.get(name) or _new_id(rng, used)
        if name in united:
            shared[name] = id_
        id_map[mask] = id_
        name_of[id_] = name
    segments = [
        dict(id=int(id_), category_id=name_of[int(id_)])
        for id_ in rng.permutation(np.unique(id_map)) if id_
    ]
    return replace(image, id_map=id_map, segments=segments)


def perturbed_data(seed, data, **kwargs):
    """:func:`perturb` for every image of a data set."""
    rng = np.random.default_rng(seed)
    return PanopticData(data.categories, [
        perturb(rng, image, data.categories, **kwargs) for image in data.images
    ])


def things_first_copy(data):
    """The same data as mmdet expects it.

    Categories list things first, each group by ascending id (the order of
    labels), and a PNG has the name of its image.
    """
    copied = copy.deepcopy(data)
    copied.categories.sort(key=lambda c: (not c['isthing'], c['id']))
    for image in copied.images:
        image.png_name = Path(image.file_name).stem + '.png'
    return copied


def rgb_of_ids(id_map):
    """(h, w, 3) uint8, id = R + 256 G + 65536 B."""
    id_map = np.asarray(id_map)
    return np.stack([id_map % 256, id_map // 256 % 256, id_map // 65536],
                    axis=-1).astype(np.uint8)


def annotation_of(image):
    """Entry of ``annotations`` with area and bbox (x, y, w, h) counted."""
    infos = []
    for segment in image.segments:
        ys, xs = np.nonzero(image.id_map == segment['id'])
        x, y = int(xs.min()), int(ys.min())
        infos.append(
            dict(
                segment,
                area=len(ys),
                bbox=[x, y, int(xs.max()) - x + 1,
                      int(ys.max()) - y + 1]))
    return dict(
        image_id=image.image_id, file_name=image.png_name, segments_info=infos)


def write_coco_panoptic(data, root, with_images=False, name='panoptic'):
    """Write ``root/<name>.json``, ``root/<name>/*.png`` and, ``with_images``,
    ``root/images/*.jpg``: each segment in the colour of its category, a little
    varied, with noise. The path of the JSON."""
    root = Path(root)
    (root / name).mkdir(parents=True, exist_ok=True)
    for image in data.images:
        png = Image.fromarray(rgb_of_ids(image.id_map))
        png.save(root / name / image.png_name)
    if with_images:
        (root / 'images').mkdir(exist_ok=True)
        for image in data.images:
            picture = Image.fromarray(_photo(image, data.categories))
            picture.save(root / 'images' / image.file_name, quality=95)
    content = dict(
        images=[
            dict(
                id=image.image_id,
                file_name=image.file_name,
                height=image.id_map.shape[0],
                width=image.id_map.shape[1]) for image in data.images
        ],
        annotations=[annotation_of(image) for image in data.images],
        categories=data.categories)
    path = root / f'{name}.json'
    path.write_text(json.dumps(content))
    return path


def _photo(image, categories):
    """(h, w, 3) uint8 picture that the annotation describes."""
    color_of = {c['id']: np.array(c['color']) for c in categories}
    rng = np.random.default_rng(int(image.id_map.sum()) % (1 << 32))
    photo = np.zeros((*image.id_map.shape, 3))
    for segment in image.segments:
        color = color_of[segment['category_id']] + rng.integers(-20, 21, 3)
        photo[image.id_map == segment['id']] = color
    photo += rng.normal(0, 6, photo.shape)
    return photo.clip(0, 255).astype(np.uint8)


def instances_of(path, polygons_of=None):
    """Content of an instances JSON with the things of a panoptic JSON: what
    its PNGs, in the folder of its name, show of each, as RLE, or as the
    polygons that a function makes of a mask (h, w) that is not crowd."""
    path = Path(path)
    content = json.loads(path.read_text())
    things = ids_of_kind(content['categories'], True)
    notes = []
    for annotation in content['annotations']:
        png = Image.open(path.with_suffix('') / annotation['file_name'])
        id_map = np.asarray(png).astype(np.int64) @ (1, 256, 256**2)
        for segment in annotation['segments_info']:
            if segment['category_id'] not in things:
                continue
            crowd, mask = segment.get('iscrowd', 0), id_map == segment['id']
            rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
            rle['counts'] = rle['counts'].decode()
            notes.append(
                dict(
                    id=len(notes) + 1,
                    image_id=annotation['image_id'],
                    category_id=segment['category_id'],
                    iscrowd=crowd,
                    segmentation=rle
                    if crowd or not polygons_of else polygons_of(mask)))
    return dict(
        images=content['images'],
        categories=[c for c in content['categories'] if c['isthing']],
        annotations=notes)
