"""Folders in the style of Cityscapes: images, and label maps that hold
``class * 1000 + number`` for single instances and the bare class elsewhere.

The bare value of a thing class is a group whose instances are not known, and
becomes crowd. Segment ids are the values themselves.
"""
import os
import os.path as osp
from functools import partial
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from mmengine_exact.files import read_bytes
from panoptic_fpn.ops.decode import claimed_size, find_fault

from .label_map import ClassTable, read_class_table, read_label_map
from .panoptic_folder import Painted, write_panoptic_folder
from .resumable import Job, raise_failures

#: Suffixes of images where none is given.
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
#: Id of a segment whose value is 0, which means void in a panoptic PNG.
_ID_OF_ZERO = 1 << 16


def convert_label_folders(images: str,
                          labels: str,
                          classes: str,
                          out: str,
                          name: str,
                          image_suffix: Optional[str] = None,
                          label_suffix: str = '.png',
                          offset: int = 1000,
                          void_values: Sequence[int] = (0, ),
                          num_workers: Optional[int] = None,
                          report: Any = print) -> Dict:
    """Write a data set in COCO panoptic format.

    Args:
        images, labels (str): Folders with the same subfolders.
        classes (str): The class list, see ``label_map.py``.
        out, name, num_workers, report: See :func:`write_panoptic_folder`.
        image_suffix, label_suffix (str): What names end with, such as
            ``_leftImg8bit.png``; images have the usual suffixes by default.
        offset (int): Values from this one on are single instances.
        void_values (Sequence[int]): Values that mean nothing, unless the
            class list has them.

    Returns:
        dict: ``images``, ``segments``, ``crowd``, ``void_pixels``.

    Raises:
        InputError: Names the file that cannot be used, and the fix.
    """
    table = read_class_table(classes, void_values, offset)
    recipe = [sorted(table.category_of.items()), sorted(table.things), offset]
    return write_panoptic_folder(
        out, name, find_pairs(images, labels, image_suffix, label_suffix),
        partial(paint, table, offset), recipe, table.categories, num_workers,
        report)


def find_pairs(images: str, labels: str, image_suffix: Optional[str],
               label_suffix: str) -> List[Job]:
    """Images and their label maps, sorted by name; ids are names without
    suffix."""
    suffixes = (image_suffix, ) if image_suffix else IMAGE_SUFFIXES
    jobs, failures = [], []
    for name in sorted(
            osp.relpath(osp.join(folder, name), images)
            for folder, _, files in os.walk(images, followlinks=True)
            for name in files):
        ends = [s for s in suffixes if name.lower().endswith(s.lower())]
        if not ends:
            continue
        stem, path = name[:-len(ends[0])], osp.join(images, name)
        label = osp.join(labels, stem + label_suffix)
        if not osp.isfile(label):
            failures.append(
                f'{label}: no such file, the label map of {name}. Correct '
                '--label-suffix and --image-suffix, or remove the image.')
            continue
        content = read_bytes(path, 'image', None)
        fault, size = find_fault(content), claimed_size(content)
        if fault is not None or size is None:
            failures.append(f'{path}: not a readable image ({fault}). Copy it '
                            'again or remove it.')
            continue
        image = dict(id=stem, file_name=name, height=size[0], width=size[1])
        jobs.append(Job(image, label))
    raise_failures(failures if jobs or failures else [
        f'{images}: no image that ends with {" or ".join(suffixes)}. Correct '
        'the folder or --image-suffix.'
    ])
    return jobs


def paint(table: ClassTable, offset: int, job: Job) -> Painted:
    """Segments of one image."""
    values = read_label_map(job.label, job.size)
    found, index, counts = np.unique(
        values, return_inverse=True, return_counts=True)
    ids, segments = np.zeros(len(found), np.int32), []
    for i, value in enumerate(found.tolist()):
        single = value >= offset
        category = table.category(value // offset if single else value,
                                  job.label, value if single else None)
        if category is not None:
            ids[i] = value or _ID_OF_ZERO
            crowd = int(category in table.things and not single)
            segments.append(
                dict(id=int(ids[i]), category_id=category, iscrowd=crowd))
    summary = dict(
        crowd=sum(s['iscrowd'] for s in segments),
        void_pixels=int(counts[ids == 0].sum()))
    return ids[index].reshape(values.shape), segments, summary
