"""COCO instances and semantic label maps, or polygons alone, brought to one
panoptic map.

From back to front: the semantic map (or the background), stuff, crowds, other
instances. Annotations are matched to the class list by the name of their
category. The last painter wins a pixel; an instance that is hidden altogether
is left out, and so is an annotation without a mask.
"""
import os.path as osp
from collections import defaultdict
from functools import partial
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from pycocotools import mask as mask_util

from mmengine_exact.errors import InputError
from mmengine_exact.files import find_name_fault, read_bytes
from panoptic_fpn.coco_format import (image_faults, instances_faults,
                                      parse_object, raise_first)
from panoptic_fpn.coco_format.faults import list_of
from panoptic_fpn.coco_format.panoptic import is_color
from panoptic_fpn.coco_format.segmentations import (find_segmentation_fault,
                                                    to_rle)

from .label_map import (ClassTable, Rows, class_table, paint_values,
                        plain_rows, read_label_map, read_rows)
from .panoptic_folder import Painted, write_panoptic_folder
from .resumable import Job, some


def convert_instances_and_semantic(instances: str,
                                   semantic: Optional[str],
                                   classes: Optional[str],
                                   out: str,
                                   name: str,
                                   order: str = 'area',
                                   uncovered: str = 'void',
                                   void_values: Sequence[int] = (0, 255),
                                   suffix: str = '.png',
                                   things: Optional[Sequence[str]] = None,
                                   only_things: bool = False,
                                   background: Optional[str] = None,
                                   single: bool = False,
                                   num_workers: Optional[int] = None,
                                   report: Any = print) -> Dict:
    """Write a data set in COCO panoptic format.

    Args:
        instances (str): COCO instances JSON, of things and stuff.
        semantic (str, optional): Folder of label maps, named like the images,
            with ``suffix`` instead of what follows the last dot.
        classes (str, optional): The class list, see ``label_map.py``; without
            one it is the categories of the JSON.
        out, name, num_workers, report: See :func:`write_panoptic_folder`.
        order (str): Which instance lies on top: 'area', the smaller, or
            'annotation', the later in the JSON.
        uncovered (str): 'void' or 'crowd': what pixels of a thing class in a
            label map become that no instance covers.
        void_values, things: See :func:`class_table`.
        only_things (bool): Whether all classes are things.
        background (str, optional): Without ``semantic``: the stuff class of
            pixels that nothing covers; by default they are void (''), with
            ``only_things`` the class 'background'.
        single (bool): Whether to take crowds for single instances.

    Returns:
        dict: ``images``, ``segments``, ``uncovered`` (pixels of things that no
        instance has); ids of annotations: ``unmasked`` (without a pixel),
        ``hidden`` (of which others leave no pixel), ``crowds``.

    Raises:
        InputError: Names the file that cannot be used, and the fix.
    """
    content = parse_object(
        read_bytes(instances, 'instances JSON', None), instances)
    _complete(content)
    raise_first(image_faults(content, instances))
    raise_first(instances_faults(content, instances))
    jobs = [_job(image, semantic, suffix) for image in content['images']]
    rows = read_rows(classes) if classes else _category_rows(content)
    if only_things:
        rows = [dict(row, isthing=1) for row in rows]
        background = 'background' if background is None else background
    table = class_table(
        rows,
        classes or instances,
        void_values,
        things=things,
        label=jobs[0].label)
    if semantic is None:
        table = _with_background(table, background or None)
    grouped = _group(content, table, instances, classes or instances, single)
    jobs = [job._replace(instances=grouped[job.image['id']]) for job in jobs]
    recipe = [table, order, uncovered, [job.instances for job in jobs]]
    summary = write_panoptic_folder(
        out, name, jobs, partial(paint, table, order, uncovered, instances),
        recipe, table.categories, num_workers, report)
    _report_lost(summary, uncovered, report)
    return summary


def _complete(content: Dict) -> None:
    """Write names of images with /; of paths of another machine only the last
    part is kept. Number annotations without ``id``, for messages."""
    for image in list_of(content, 'images', dict):
        name = image.get('file_name')
        if isinstance(name, str):  # else a fault, found later
            name = name.replace('\\', '/')
            image['file_name'] = osp.basename(name) if find_name_fault(
                name) else name
    for i, note in enumerate(list_of(content, 'annotations', dict)):
        if note.get('id') is None:
            note['id'] = i


def _job(image: Dict, semantic: Optional[str], suffix: str) -> Job:
    keys = ('id', 'file_name', 'height', 'width')
    label = osp.splitext(image['file_name'])[0] + suffix
    return Job({key: image[key]
                for key in keys},
               '' if semantic is None else osp.join(semantic, label))


def _category_rows(content: Dict) -> Rows:
    """Rows of a class list; a category that no annotation uses and that is the
    supercategory of others, as Roboflow writes, is ignored; so are colours
    that are not RGB."""
    categories = content['categories']
    used = {note['category_id'] for note in content['annotations']}
    for category in categories:
        above = any(
            other.get('supercategory') == category['name']
            for other in categories if other is not category)
        if above and category['id'] not in used:
            category['ignore'] = True
    rows = plain_rows(categories)
    for row in rows:
        if not is_color(row.get('color')):
            row.pop('color', None)
    return rows


def _with_background(table: ClassTable, name: Optional[str]) -> ClassTable:
    """The table for label maps of zeros, which are the stuff class ``name``,
    added unless it is listed; None: void."""
    named = table.category_named
    if named.get(name) in table.things:
        raise InputError(f'--background {name}: it is a thing. Name a stuff '
                         'class, or a new one.')
    if name is not None and named.get(name) is None:
        named[name] = 1 + max((c['id'] for c in table.categories), default=0)
        table.categories.append(dict(id=named[name], name=name, isthing=0))
    return table._replace(category_of={0: named.get(name)})


def _group(content: Dict, table: ClassTable, path: str, classes: str,
           single: bool) -> Dict[object, List[dict]]:
    """Annotations by image id, with their category ids in the class list;
    those of ignored classes are left out."""
    names = {c['id']: c['name'].strip() for c in content['categories']}
    grouped: Dict[object, List[dict]] = defaultdict(list)
    for note in content['annotations']:
        name = names[note['category_id']]
        if name not in table.category_named:
            raise InputError(
                f'{classes}: {name!r}, the category of annotation '
                f'{note["id"]!r} of {path}, is missing. List it with '
                'isthing=1 (a thing) or 0 (stuff), or with ignore=1 to leave '
                'it out.')
        category = table.category_named[name]
        crowd = note.get('iscrowd') and not single and category in table.things
        if category is not None:
            grouped[note['image_id']].append(
                dict(note, category_id=category, iscrowd=int(bool(crowd))))
    return grouped


def _report_lost(summary: Dict, uncovered: str, report: Any) -> None:
    for key, what in (
        ('unmasked', 'have no mask, or none in the image'),
        ('hidden', 'are hidden altogether by others'),
        ('crowds', 'are crowds, from which no instance is learnt (CVAT marks '
         'so what its brush draws; --no-crowd takes each for one object)')):
        if summary[key]:
            report(f'{len(summary[key])} annotations {what}: id '
                   f'{some([*map(str, summary[key])])}')
    if summary['uncovered']:
        report(f'{summary["uncovered"]} pixels of things that no instance '
               f'covers became {uncovered}')


def paint(table: ClassTable, order: str, uncovered: str, path: str,
          job: Job) -> Painted:
    """Segments of one image; ``path`` is the instances JSON, for errors."""
    values = np.zeros(job.size, np.uint8)
    if job.label:
        values = read_label_map(job.label, job.size, colors=table.colors)
    ids, segments = paint_values(table, values, job.label)
    # things of which no instance is known
    loose = np.isin(ids, [s['id'] for s in segments.values() if s['iscrowd']])
    if uncovered == 'void':
        ids[loose] = 0
    # from back to front: 0 stuff, 1 crowds, 2 instances
    masks = [((note['category_id'] in table.things) * (2 - note['iscrowd']),
              note, _mask(note, job.size, path)) for note in job.instances]
    masks.sort(key=lambda item: (item[0], -int(item[2].sum())
                                 if order == 'area' else 0))
    unmasked, owners = [], {}
    first = 1 + max((s['id'] for s in segments.values()), default=0)
    for id_, (level, note, mask) in enumerate(masks, first):
        if not mask.any():
            unmasked.append(note['id'])
            continue
        category = note['category_id']
        segment = dict(id=id_, category_id=category, iscrowd=note['iscrowd'])
        if level:
            owners[id_] = note
        # stuff joins the segment of its class
        key = category, id_ if level else None
        ids[mask] = segments.setdefault(key, segment)['id']
        loose &= ~mask
    left = set(np.unique(ids).tolist())
    return ids, [*segments.values()], dict(
        unmasked=unmasked,
        hidden=[n['id'] for id_, n in owners.items() if id_ not in left],
        crowds=[note['id'] for note in owners.values() if note['iscrowd']],
        uncovered=int(loose.sum()))


def _mask(note: dict, size: Tuple[int, int], path: str) -> np.ndarray:
    """Pixels (h, w) bool of a polygon list or an RLE; none where there is no
    mask, but a box."""
    given = note.get('segmentation') or []
    fault = find_segmentation_fault(given, size)
    if fault is not None:
        raise InputError(f'{path}: annotation {note["id"]!r}: its '
                         f'segmentation cannot be drawn: {fault}. Correct or '
                         'remove it.')
    if isinstance(given, list):
        # pycocotools takes four numbers for a box
        given = [part for part in given if len(part) >= 6]
        if not given:
            return np.zeros(size, bool)
    return mask_util.decode(to_rle(given, size)).astype(bool)
