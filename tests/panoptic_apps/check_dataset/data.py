"""Data sets to check: clean ones, and one with every freedom of the format.
"""
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from panoptic_apps.check_dataset import check_dataset
from panoptic_apps.toy_data.synthetic_shapes import write_dataset
from tests.oracles.perturb import random_data, rgb_of_ids, write_coco_panoptic


def clean_data(root):
    """Three awkward images, stuff first, and string ids: folder, JSON."""
    data = random_data(3, num_images=3, string_ids=True)
    for image in data.images:
        _unite_stuff(image, data.categories)
    path = write_coco_panoptic(data, root, with_images=True)
    used = {s['category_id'] for i in data.images for s in i.segments}
    edit(
        path, lambda content: content.update(
            categories=[c for c in content['categories'] if c['id'] in used]))
    return path


def _unite_stuff(image, categories):
    """One segment for each stuff class."""
    stuff = {c['id'] for c in categories if not c['isthing']}
    first, kept = {}, []
    for segment in image.segments:
        category = segment['category_id']
        if category in stuff and category in first:
            image.id_map[image.id_map == segment['id']] = first[category]
            continue
        first.setdefault(category, segment['id'])
        kept.append(segment)
    image.segments = kept


def shapes(root, **kwargs):
    """The synthetic data set, which has crowd and void."""
    recipe = dict(num_train=12, num_val=6, size=64, seed=5)
    write_dataset(str(root), **dict(recipe, **kwargs))
    return Path(root)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def run(path, **kwargs):
    """The check of a data set of :func:`clean_data`, in this process."""
    root = path.parent
    return check_dataset(
        str(path),
        str(root / 'images'),
        str(root / 'panoptic'),
        num_workers=kwargs.pop('num_workers', 1),
        **kwargs)


def kinds(result):
    return dict(+result.faults.counts)


def copy(path, target):
    """Copy the folder of a data set; the JSON of the copy."""
    shutil.copytree(path.parent, target)
    return Path(target) / path.name


def png_of(path, index=0):
    note = json.loads(path.read_text())['annotations'][index]
    return path.parent / 'panoptic' / note['file_name']


def image_of(path, index=0):
    image = json.loads(path.read_text())['images'][index]
    return path.parent / 'images' / image['file_name']


def read_ids(path):
    rgb = np.asarray(Image.open(path)).astype(np.int64)
    return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]


def write_ids(path, ids):
    Image.fromarray(rgb_of_ids(ids)).save(path)
