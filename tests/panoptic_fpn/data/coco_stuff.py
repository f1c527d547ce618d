"""A few images annotated as COCO-Stuff is, written to a folder.

    ROOT/annotations/stuff_{train,val}2017.json
    ROOT/annotations/stuff_{train,val}2017_pixelmaps/000000000007.png
    ROOT/{train,val}2017/000000000007.png

Maps have a palette, as the released ones: 92 .. 182 are stuff, 183 is 'other'
and 0 is void.
"""
import json

import numpy as np
from PIL import Image

STUFF = list(range(92, 183))
OTHER = 183


def categories(seed=0):
    """As in the release, without ``isthing``; in another order."""
    found = [
        dict(id=i, name=f'stuff-{i}', supercategory='ground') for i in STUFF
    ]
    found.append(dict(id=OTHER, name='other', supercategory='other'))
    np.random.default_rng(seed).shuffle(found)
    return found


def draw_map(rng, height, width):
    """uint8 (h, w): rectangles of some classes, 'other' and void."""
    ids = np.full((height, width), rng.choice(STUFF), np.uint8)
    for value in [*rng.choice(STUFF, 4), 92, 182, OTHER, OTHER, 0]:
        y, x = rng.integers(0, height - 8), rng.integers(0, width - 8)
        h, w = rng.integers(6, 20, 2)
        ids[y:y + h, x:x + w] = value
    return ids


def colors():
    """A palette in which no colour is the index."""
    return [c for i in range(256) for c in (255 - i, i * 7 % 256, 40)]


def write_map(path, ids):
    image = Image.fromarray(ids).convert('P')
    image.putpalette(colors())
    image.save(path)


def write_split(root, split, num, seed):
    """Write a split; its maps by image id."""
    rng = np.random.default_rng(seed)
    maps = root / 'annotations' / f'stuff_{split}2017_pixelmaps'
    folder = root / f'{split}2017'
    maps.mkdir(parents=True)
    folder.mkdir()
    images, annotations, found = [], [], {}
    for index in range(num):
        image_id = 7 + 3 * index
        height, width = (48, 64) if index % 2 == 0 else (64, 48)
        ids = draw_map(rng, height, width)
        stem = f'{image_id:012d}'
        write_map(maps / f'{stem}.png', ids)
        # the class can be seen
        photo = np.stack([ids, 255 - ids, ids], axis=-1)
        Image.fromarray(photo).save(folder / f'{stem}.png')
        images.append(
            dict(
                id=image_id,
                file_name=f'{stem}.png',
                height=height,
                width=width))
        # an entry for each class, which a panoptic JSON must not have
        annotations += [
            dict(image_id=image_id, category_id=int(i)) for i in np.unique(ids)
            if i
        ]
        found[image_id] = ids
    content = dict(
        images=images, annotations=annotations, categories=categories())
    path = root / 'annotations' / f'stuff_{split}2017.json'
    path.write_text(json.dumps(content))
    return found


def write_coco_stuff(root, num_train=4, num_val=3):
    """Write both splits; maps by split and image id."""
    return dict(
        train=write_split(root, 'train', num_train, 1),
        val=write_split(root, 'val', num_val, 2))


def labels_of(ids):
    """Labels of our data set: 'other' is 0, stuff 1 .. 91, void -1."""
    labels = ids.astype(np.int64) - 91
    labels[ids == OTHER] = 0
    labels[ids == 0] = -1
    return labels
