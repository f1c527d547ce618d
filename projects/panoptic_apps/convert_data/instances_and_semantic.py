"""COCO instances and semantic label maps, brought to one panoptic map.

From back to front: the semantic map (stuff alone), crowds, other instances.
Instances are matched to the class list by the name of their category. The
last painter wins a pixel; an instance that is hidden altogether is left out
and counted.
"""
import os.path as osp
from collections import defaultdict
from functools import partial
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from pycocotools import mask as mask_util

from mmengine_exact.errors import InputError
from mmengine_exact.files import read_bytes
from panoptic_fpn.coco_format import (image_faults, instances_faults,
                                      parse_object, raise_first)
from panoptic_fpn.coco_format.segmentations import find_segmentation_fault

from .label_map import ClassTable, read_class_table, read_label_map
from .panoptic_folder import Painted, write_panoptic_folder
from .resumable import Job


def convert_instances_and_semantic(instances: str,
                                   semantic: str,
                                   classes: str,
                                   out: str,
                                   name: str,
                                   order: str = 'area',
                                   uncovered: str = 'void',
                                   void_values: Sequence[int] = (0, 255),
                                   suffix: str = '.png',
                                   num_workers: Optional[int] = None,
                                   report: Any = print) -> Dict:
    """Write a data set in COCO panoptic format.

    Args:
        instances (str): COCO instances JSON.
        semantic (str): Folder of label maps, named like the images, with
            ``suffix`` instead of what follows the last dot.
        classes (str): The class list, see ``label_map.py``.
        out, name, num_workers, report: See :func:`write_panoptic_folder`.
        order (str): Which instance lies on top: 'area', the smaller, or
            'annotation', the later in the JSON.
        uncovered (str): 'void' or 'crowd': what pixels of a thing class
            become that no instance covers.
        void_values (Sequence[int]): Values that mean nothing, unless the
            class list has them.

    Returns:
        dict: ``images``, ``segments``, ``hidden`` (instances without a
        pixel left), ``uncovered`` (pixels of things that no instance has).

    Raises:
        InputError: Names the file that cannot be used, and the fix.
    """
    table = read_class_table(classes, void_values)
    content = parse_object(
        read_bytes(instances, 'instances JSON', None), instances)
    raise_first(image_faults(content, instances))
    raise_first(instances_faults(content, instances))
    grouped = _group(content, table, instances, classes)
    keys = ('id', 'file_name', 'height', 'width')
    jobs = [
        Job({key: image[key]
             for key in keys},
            osp.join(semantic,
                     osp.splitext(image['file_name'])[0] + suffix),
            instances=grouped[image['id']]) for image in content['images']
    ]
    recipe = [
        sorted(table.category_of.items()),
        sorted(table.things), order, uncovered, content['annotations']
    ]
    return write_panoptic_folder(
        out, name, jobs, partial(paint, table, order, uncovered, instances),
        recipe, table.categories, num_workers, report)


def _group(content: Dict, table: ClassTable, path: str,
           classes: str) -> Dict[object, List[dict]]:
    """Annotations by image id, with their category ids in the class list;
    those of ignored classes are left out."""
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
    grouped: Dict[object, List[dict]] = defaultdict(list)
    for note in content['annotations']:
        if note['category_id'] in category_of:
            grouped[note['image_id']].append(
                dict(note, category_id=category_of[note['category_id']]))
    return grouped


def paint(table: ClassTable, order: str, uncovered: str, path: str,
          job: Job) -> Painted:
    """Segments of one image; ``path`` is the instances JSON, for errors."""
    values = read_label_map(job.label, job.size)
    ids, segments = _paint_semantic(values, table, uncovered, job.label)
    masks = [(note, bool(note.get('iscrowd')), _mask(note, job.size, path))
             for note in job.instances]
    # crowds first: they lie below
    masks.sort(key=lambda item: (not item[1], -int(item[2].sum())
                                 if order == 'area' else 0))
    first, covered = len(segments), np.zeros(job.size, bool)
    for id_, (note, crowd, mask) in enumerate(masks, first + 1):
        segments.append(
            dict(id=id_, category_id=note['category_id'], iscrowd=int(crowd)))
        ids[mask] = id_
        covered |= mask
    left = set(np.unique(ids).tolist())
    things = [v for v, c in table.category_of.items() if c in table.things]
    return ids, segments, dict(
        hidden=sum(s['id'] not in left for s in segments[first:]),
        uncovered=int((np.isin(values, things) & ~covered).sum()))


def _paint_semantic(values: np.ndarray, table: ClassTable, uncovered: str,
                    path: str) -> Tuple[np.ndarray, List[dict]]:
    """Ids and one segment for each class of the label map."""
    values_of: Dict[int, List[int]] = {}
    for value in np.unique(values).tolist():
        category = table.category(value, path)
        if category is not None:
            values_of.setdefault(category, []).append(value)
    ids = np.zeros(values.shape, np.int32)
    segments: List[dict] = []
    for category, of_class in values_of.items():
        crowd = int(category in table.things)
        if not crowd or uncovered == 'crowd':
            id_ = len(segments) + 1
            segments.append(dict(id=id_, category_id=category, iscrowd=crowd))
            ids[np.isin(values, of_class)] = id_
    return ids, segments


def _mask(note: dict, size: Tuple[int, int], path: str) -> np.ndarray:
    """Pixels (h, w) bool of a polygon list or an RLE."""
    given = note.get('segmentation')
    fault = find_segmentation_fault(given, size)
    if fault is not None:
        raise InputError(f'{path}: annotation {note["id"]!r}: its '
                         f'segmentation cannot be drawn: {fault}. Correct or '
                         'remove it.')
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
