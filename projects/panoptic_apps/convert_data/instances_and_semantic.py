"""COCO instances and semantic label maps, brought to one panoptic map.

From back to front: the semantic map (stuff alone), crowds, other instances.
Instances are matched to the class list by the name of their category. The
last painter wins a pixel; an instance that is hidden altogether is left out
and counted.
"""
import os.path as osp
from functools import partial
from typing import (Any, Dict, FrozenSet, List, NamedTuple, Optional, Sequence,
                    Tuple)

import numpy as np
from pycocotools import mask as mask_util

from mmengine_exact.errors import InputError
from mmengine_exact.files import read_bytes
from mmengine_exact.workers import default_workers
from panoptic_fpn.coco_format import (image_faults, instances_faults,
                                      parse_object, raise_first)
from panoptic_fpn.coco_format.segmentations import find_segmentation_fault

from .class_table import ClassTable, read_class_table
from .label_map import read_label_map
from .panoptic_folder import Painted, Source, write_panoptic_folder

#: Which instance lies on top: the smaller, or the later in the JSON.
ORDERS = ('area', 'annotation')
#: What pixels of a thing class become that no instance covers.
UNCOVERED = ('void', 'crowd')
#: Values of label maps that mean nothing, unless the class list has them.
VOID_VALUES = (0, 255)


class Instance(NamedTuple):
    """An annotation of the instances JSON, with its category id in the
    class list."""

    id: object
    category_id: int
    iscrowd: int
    segmentation: Any


class Rules(NamedTuple):
    """What the painter goes by."""

    category_of: Dict[int, int]
    void: FrozenSet[int]
    things: FrozenSet[int]
    order: str
    uncovered: str


def convert_instances_and_semantic(instances: str,
                                   semantic: str,
                                   classes: str,
                                   out: str,
                                   name: str,
                                   order: str = 'area',
                                   uncovered: str = 'void',
                                   void_values: Sequence[int] = VOID_VALUES,
                                   suffix: str = '.png',
                                   num_workers: Optional[int] = None,
                                   report: Any = print) -> Dict:
    """Write a data set in COCO panoptic format.

    Args:
        instances (str): COCO instances JSON.
        semantic (str): Folder of label maps, called as the images are, with
            ``suffix`` in the place of what follows the last dot.
        classes (str): The class list, see :func:`read_class_table`.
        out (str): Folder to write to.
        name (str): Of the JSON and of the folder of PNGs.
        order (str): Of :data:`ORDERS`.
        uncovered (str): Of :data:`UNCOVERED`.
        void_values (Sequence[int]): Values of label maps that mean nothing.
        suffix (str): Of label maps.
        num_workers (int, optional): Processes; by default one for each core,
            at most 8.
        report (Callable): Called with lines about the progress.

    Returns:
        dict: ``images``, ``segments``, ``hidden`` (instances without a
        pixel left), ``uncovered`` (pixels of things that no instance has).

    Raises:
        InputError: A file cannot be used; names it and says what to do.
    """
    table = read_class_table(classes)
    content = _read_instances(instances)
    grouped = _group(content, table, instances, classes)
    sources = [
        _source(image, semantic, suffix, grouped.get(image['id'], []),
                instances) for image in content['images']
    ]
    void = table.void | (set(void_values) - set(table.category_of))
    rules = Rules(table.category_of, frozenset(void), frozenset(table.things),
                  order, uncovered)
    recipe = [
        sorted(table.category_of.items()),
        sorted(void),
        sorted(table.things), order, uncovered, content['annotations']
    ]
    return write_panoptic_folder(out, name, sources, partial(paint, rules),
                                 recipe, table.categories, num_workers
                                 or default_workers(), report)


def _read_instances(path: str) -> Dict:
    content = parse_object(read_bytes(path, 'instances JSON', None), path)
    raise_first(image_faults(content, path))
    return raise_first(instances_faults(content, path))


def _group(content: Dict, table: ClassTable, path: str,
           classes: str) -> Dict[object, List[Instance]]:
    """Instances by image id; those of ignored classes are left out."""
    by_name = {c['name']: c for c in table.categories}
    category_of = {}
    for category in content['categories']:
        found = by_name.get(category['name'])
        if found is not None and found['isthing']:
            category_of[category['id']] = found['id']
        elif category['name'] not in table.ignored_names:
            problem = 'is stuff' if found else 'is missing'
            raise InputError(
                f'{classes}: {category["name"]!r}, a category of {path}, '
                f'{problem}. List it with isthing=1, or with ignore=1 to '
                'leave it out.')
    grouped: Dict[object, List[Instance]] = {}
    for note in content['annotations']:
        if note['category_id'] in category_of:
            grouped.setdefault(note['image_id'], []).append(
                Instance(note['id'], category_of[note['category_id']],
                         int(bool(note.get('iscrowd', 0))),
                         note.get('segmentation')))
    return grouped


def _source(image: dict, folder: str, suffix: str, instances: List[Instance],
            path: str) -> Source:
    label = osp.join(folder, osp.splitext(image['file_name'])[0] + suffix)
    kept = {k: image[k] for k in ('id', 'file_name', 'height', 'width')}
    return Source(kept, label, (path, instances))


def paint(rules: Rules, source: Source) -> Painted:
    """Segments of one image.

    Raises:
        InputError: Its label map or a segmentation cannot be used.
    """
    size = source.image['height'], source.image['width']
    values = read_label_map(source.label, size)
    path, instances = source.more
    ids = np.zeros(size, np.int32)
    segments = _paint_semantic(ids, values, rules, source.label)
    masks = [(item, _mask(item, size, path)) for item in instances]
    # bool: False, a crowd's, comes first
    masks.sort(key=lambda pair: (not pair[0].iscrowd, -int(pair[1].sum())
                                 if rules.order == 'area' else 0))
    first = len(segments)
    for item, mask in masks:
        id_ = len(segments) + 1
        ids[mask] = id_
        segments.append(
            dict(id=id_, category_id=item.category_id, iscrowd=item.iscrowd))
    left = set(np.unique(ids).tolist())
    hidden = sum(s['id'] not in left for s in segments[first:])
    covered = np.zeros(size, bool)
    for _, mask in masks:
        covered |= mask
    things = [v for v, c in rules.category_of.items() if c in rules.things]
    uncovered = int((np.isin(values, things) & ~covered).sum())
    return Painted(ids, segments, dict(hidden=hidden, uncovered=uncovered))


def _paint_semantic(ids: np.ndarray, values: np.ndarray, rules: Rules,
                    path: str) -> List[dict]:
    """One segment for each class of the label map."""
    masks: Dict[int, List[int]] = {}
    for value in np.unique(values).tolist():
        category = rules.category_of.get(value)
        if category is None and value not in rules.void:
            raise InputError(
                f'{path}: {int((values == value).sum())} pixels have value '
                f'{value}, which no class has. Add it to the class list (as '
                'id or among values, with ignore=1 where it means nothing) '
                'or to --void-values.')
        if category is not None:
            masks.setdefault(category, []).append(value)
    segments: List[dict] = []
    for category, of_class in masks.items():
        thing = category in rules.things
        if thing and rules.uncovered == 'void':
            continue
        ids[np.isin(values, of_class)] = len(segments) + 1
        segments.append(
            dict(
                id=len(segments) + 1, category_id=category,
                iscrowd=int(thing)))
    return segments


def _mask(item: Instance, size: Tuple[int, int], path: str) -> np.ndarray:
    """Pixels (h, w) bool of a polygon list or an RLE."""
    given = item.segmentation
    fault = find_segmentation_fault(given, size)
    if fault is not None:
        raise InputError(f'{path}: annotation {item.id!r}: its segmentation '
                         f'cannot be drawn: {fault}. Correct or remove it.')
    if isinstance(given, list):
        # pycocotools takes four numbers for a box
        polygons = [part for part in given if len(part) >= 6]
        if not polygons:
            return np.zeros(size, bool)
        rle = mask_util.merge(mask_util.frPyObjects(polygons, *size))
    elif isinstance(given['counts'], list):
        rle = mask_util.frPyObjects(given, *size)
    else:
        rle = given
    return mask_util.decode(rle).astype(bool)
