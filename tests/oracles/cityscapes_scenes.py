"""Random Cityscapes ground truth and wrong predictions of it, from a seed.

Ground truth is a map (h, w) of values of ``*_gtFine_instanceIds.png``:
``id * 1000 + number`` of single instances, the bare id of the label table
elsewhere. Awkward on purpose:

- groups, also more than one patch and below 100 pixels; instances below 100
  pixels; instances with the number 0
- caravans and trailers as instances and as groups; other ignored ids
- predicted masks overlap; instances are missed, moved, eroded, split,
  merged, named wrongly, found twice with equal or different scores; spurious
  ones lie anywhere; some masks are empty
- scores have few different values, so that they tie across images; some
  differ in their last bit alone
- a thing and a stuff class are never in the ground truth, but predicted; a
  thing class is in the ground truth and never predicted as an instance
- the first image has no predicted instance
"""
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cityscapesscripts.helpers.labels import labels
from PIL import Image

from .perturb import random_blob

THINGS = [x.id for x in labels if x.hasInstances and not x.ignoreInEval]
STUFF = [x.id for x in labels if not x.hasInstances and not x.ignoreInEval]
#: Ignored ids; those of the second list have instances.
VOID = [x.id for x in labels if x.ignoreInEval and x.id >= 0]
IGNORED_THINGS = [29, 30]


@dataclass
class Scene:
    """Ground truth and predictions of one image.

    ``values`` (h, w) of the instance image; ``instances`` of (id, score,
    mask (h, w) bool); ``semantic`` (h, w) of ids; ``panoptic`` (h, w) of
    segment ids, 0 = void, with the category id of each.
    """

    image_id: str
    values: np.ndarray
    instances: list = field(default_factory=list)
    semantic: np.ndarray = None
    panoptic: np.ndarray = None
    categories: dict = field(default_factory=dict)

    @property
    def ids(self):
        """(h, w) of the label image."""
        return np.where(self.values < 1000, self.values, self.values // 1000)


@dataclass
class Absent:
    """Classes that one side lacks."""

    thing: int
    stuff: int
    unpredicted: int


def random_values(rng, shape, absent, num_instances, share):
    """An instance image (h, w); ``share`` of a side is the largest blob."""
    things = [x for x in THINGS if x != absent.thing]
    stuff = [x for x in STUFF if x != absent.stuff]
    values = np.zeros(shape, dtype=np.int64)
    step = shape[1] // 6
    for left in range(0, shape[1], step):
        pick = VOID if rng.random() < 0.1 else stuff
        values[:, left:left + step] = rng.choice(pick)
    numbers = {}
    for _ in range(num_instances):
        kind = rng.random()
        pick = IGNORED_THINGS if kind < 0.12 else things
        id_ = int(rng.choice(pick))
        blob = random_blob(rng, shape, 0.06 if kind > 0.8 else share)
        if rng.random() < 0.2:
            values[blob] = id_  # a group
        else:
            number = numbers.get(id_, 0)
            numbers[id_] = number + 1
            values[blob] = id_ * 1000 + number
    for _ in range(2):
        values[random_blob(rng, shape, 0.15)] = rng.choice(VOID)
    return values


def random_score(rng):
    """One of a few values, or the float32 after it."""
    score = np.float32(rng.integers(1, 7) / 7)
    return np.nextafter(score, np.float32(1)) if rng.random() < .3 else score


def random_instances(rng, scene, absent):
    """Predictions of the things of a scene, and spurious ones."""
    found = []
    predicted = [x for x in THINGS if x != absent.unpredicted]
    values = [
        v for v in np.unique(scene.values)
        if v >= 1000 or v in THINGS + IGNORED_THINGS
    ]
    for value in values:
        mask = scene.values == value
        id_ = int(value // 1000 if value >= 1000 else value)
        if id_ not in predicted:
            id_ = int(rng.choice(predicted))
        action = rng.choice([
            'keep', 'miss', 'shift', 'erode', 'split', 'merge', 'rename',
            'twice'
        ], p=[.24, .1, .16, .1, .1, .1, .1, .1])  # yapf: disable
        score = random_score(rng)
        if action == 'miss':
            continue
        if action == 'shift':
            mask = np.roll(mask, rng.integers(-3, 4, 2), axis=(0, 1))
        elif action == 'erode':
            mask = mask & np.roll(mask, 2, axis=0) & np.roll(mask, 2, axis=1)
        elif action == 'split':
            middle = int(np.median(np.nonzero(mask)[1]))
            half = mask.copy()
            half[:, :middle] = False
            mask = mask & ~half
            found.append((id_, random_score(rng), half))
        elif action == 'merge' and found:
            mask = mask | found[-1][2]
        elif action == 'rename':
            id_ = int(rng.choice(predicted))
        elif action == 'twice':
            other = score if rng.random() < 0.5 else random_score(rng)
            found.append((id_, other, mask & np.roll(mask, 1, axis=0)))
        found.append((id_, score, mask))
    for id_ in [absent.thing, *rng.choice(predicted, rng.integers(0, 4))]:
        blob = random_blob(rng, scene.values.shape, 0.3)
        found.append((int(id_), random_score(rng), blob))
    if rng.random() < 0.7:
        found.append((int(rng.choice(predicted)), random_score(rng),
                      np.zeros(scene.values.shape, dtype=bool)))
    return [found[i] for i in rng.permutation(len(found))]


def random_semantic(rng, scene, absent):
    """Predicted ids (h, w): the ground truth moved, with wrong patches."""
    known = np.isin(scene.ids, THINGS + STUFF)
    ids = np.where(known, scene.ids, rng.choice(STUFF))
    ids = np.roll(ids, rng.integers(-3, 4, 2), axis=(0, 1))
    for id_ in [absent.thing, absent.stuff, *rng.choice(THINGS + STUFF, 4)]:
        ids[random_blob(rng, ids.shape, 0.2)] = id_
    return ids


def paint_panoptic(rng, scene):
    """Predicted segments: semantic stuff, instances above, some void."""
    segments, categories = np.zeros(scene.values.shape, np.int64), {}
    layers = [(int(id_), scene.semantic == id_)
              for id_ in np.unique(scene.semantic) if id_ in STUFF]
    layers += [(id_, mask) for id_, _, mask in scene.instances]
    for number, (id_, mask) in enumerate(layers, start=1):
        segments[mask] = number
        categories[number] = id_
    segments[random_blob(rng, segments.shape, 0.2)] = 0
    left = set(np.unique(segments).tolist())
    return segments, {n: c for n, c in categories.items() if n in left}


def random_scenes(seed,
                  num_images=4,
                  shape=(128, 256),
                  num_instances=12,
                  share=0.35):
    """Scenes of a data set; see the module. ``share`` is the largest blob as a
    share of h and w, ``num_instances`` counts groups, too."""
    rng = np.random.default_rng(seed)
    thing, unpredicted = rng.choice(THINGS, 2, replace=False)
    absent = Absent(int(thing), int(rng.choice(STUFF)), int(unpredicted))
    scenes = []
    for i in range(num_images):
        city = ('aachen', 'bern')[i % 2]
        scene = Scene(f'{city}_{seed:06d}_{7 * i:06d}',
                      random_values(rng, shape, absent, num_instances, share))
        if i:
            scene.instances = random_instances(rng, scene, absent)
        scene.semantic = random_semantic(rng, scene, absent)
        scene.panoptic, scene.categories = paint_panoptic(rng, scene)
        scenes.append(scene)
    return scenes


def write_ground_truth(scenes, root, split='val'):
    """Write the official files below ``root/gtFine``; the instance images,
    beside which label images lie."""
    paths = []
    for scene in scenes:
        folder = Path(root, 'gtFine', split, scene.image_id.split('_')[0])
        folder.mkdir(parents=True, exist_ok=True)
        for kind, plane, depth in (('labelIds', scene.ids, np.uint8),
                                   ('instanceIds', scene.values, np.uint16)):
            path = folder / f'{scene.image_id}_gtFine_{kind}.png'
            Image.fromarray(plane.astype(depth)).save(path)
        paths.append(path)
    return paths
