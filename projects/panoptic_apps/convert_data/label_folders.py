"""Folders in the style of Cityscapes: images, and label maps that hold
``class * 1000 + number`` for single instances and the bare class elsewhere.

The bare value of a thing class is a group of which instances are not known,
and becomes crowd. Segment ids are the values themselves.
"""
import os
import os.path as osp
from functools import partial
from typing import (Any, Dict, FrozenSet, List, NamedTuple, Optional, Sequence,
                    Tuple)

import numpy as np

from mmengine_exact.errors import InputError
from mmengine_exact.files import read_bytes
from mmengine_exact.workers import default_workers
from panoptic_fpn.ops.decode import claimed_size, find_fault

from .class_table import read_class_table
from .label_map import read_label_map
from .panoptic_folder import Painted, Source, write_panoptic_folder

#: Suffixes of images where none is given.
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
#: Values of label maps that mean nothing, unless the class list has them.
VOID_VALUES = (0, )
#: Id of a segment whose value is 0, which means void in a panoptic PNG.
_ID_OF_ZERO = 1 << 16


class Rules(NamedTuple):
    """What values of label maps mean."""

    category_of: Dict[int, int]
    void: FrozenSet[int]
    things: FrozenSet[int]
    offset: int


def convert_label_folders(images: str,
                          labels: str,
                          classes: str,
                          out: str,
                          name: str,
                          image_suffix: Optional[str] = None,
                          label_suffix: str = '.png',
                          offset: int = 1000,
                          void_values: Sequence[int] = VOID_VALUES,
                          num_workers: Optional[int] = None,
                          report: Any = print) -> Dict:
    """Write a data set in COCO panoptic format.

    Args:
        images (str): Folder of images, and folders in it.
        labels (str): Folder of label maps, in the same folders.
        classes (str): The class list, see :func:`read_class_table`.
        out (str): Folder to write to.
        name (str): Name of the JSON and of the folder of PNGs.
        image_suffix (str, optional): What image names end with, such as
            ``_leftImg8bit.png``; by default the usual ones.
        label_suffix (str): The same of label maps.
        offset (int): Values from it on are single instances.
        void_values (Sequence[int]): Values that mean nothing.
        num_workers (int, optional): Processes; by default one for each core,
            at most 8.
        report (Callable): Called with lines about the progress.

    Returns:
        dict: ``images``, ``segments``, ``crowd``, ``void_pixels``.

    Raises:
        InputError: A file cannot be used; names it and says what to do.
    """
    table = read_class_table(classes)
    highest = max([*table.category_of, *table.void])
    if highest >= offset:
        raise InputError(
            f'{classes}: value {highest} of a class is not below the '
            f'offset {offset}. Correct the class list or --offset.')
    void = table.void | (set(void_values) - set(table.category_of))
    rules = Rules(table.category_of, frozenset(void), frozenset(table.things),
                  offset)
    recipe = [
        sorted(table.category_of.items()),
        sorted(void),
        sorted(table.things), offset
    ]
    return write_panoptic_folder(
        out, name, find_pairs(images, labels, image_suffix, label_suffix),
        partial(paint, rules), recipe, table.categories, num_workers
        or default_workers(), report)


def find_pairs(images: str, labels: str, image_suffix: Optional[str],
               label_suffix: str) -> List[Source]:
    """Images and their label maps, sorted by name; ids are names without
    suffix.

    Raises:
        InputError: No image, one without label map, or one that cannot
            be read.
    """
    suffixes = (image_suffix, ) if image_suffix else IMAGE_SUFFIXES
    sources = []
    for name in _names_below(images):
        suffix = next(
            (s for s in suffixes if name.lower().endswith(s.lower())), None)
        if suffix is None:
            continue
        stem = name[:-len(suffix)]
        label = osp.join(labels, stem + label_suffix)
        if not osp.isfile(label):
            raise InputError(
                f'{label}: no such file, the label map of {name}. Correct '
                '--label-suffix and --image-suffix, or remove the image.')
        height, width = _image_size(osp.join(images, name))
        sources.append(
            Source(
                dict(id=stem, file_name=name, height=height, width=width),
                label))
    if not sources:
        raise InputError(f'{images}: no image that ends with '
                         f'{" or ".join(suffixes)}. Correct the folder '
                         'or --image-suffix.')
    return sources


def _names_below(root: str) -> List[str]:
    names = []
    for folder, _, files in os.walk(root, followlinks=True):
        inside = osp.relpath(folder, root)
        names += [osp.normpath(osp.join(inside, name)) for name in files]
    return sorted(names)


def _image_size(path: str) -> Tuple[int, int]:
    content = read_bytes(path, 'image', None)
    fault, size = find_fault(content), claimed_size(content)
    if fault is not None or size is None:
        raise InputError(f'{path}: no readable image ({fault}). Copy it again '
                         'or remove it.')
    return size


def paint(rules: Rules, source: Source) -> Painted:
    """Segments of one image.

    Raises:
        InputError: Its label map cannot be used.
    """
    values = read_label_map(source.label,
                            (source.image['height'], source.image['width']))
    found, index, counts = np.unique(
        values, return_inverse=True, return_counts=True)
    ids, segments = np.zeros(len(found), np.int32), []
    for i, value in enumerate(found.tolist()):
        segment = _segment(value, rules, source.label)
        if segment is not None:
            ids[i] = segment['id']
            segments.append(segment)
    return Painted(
        ids[index].reshape(values.shape), segments,
        dict(
            crowd=sum(s['iscrowd'] for s in segments),
            void_pixels=int(counts[ids == 0].sum())))


def _segment(value: int, rules: Rules, path: str) -> Optional[dict]:
    """The segment that a value stands for; None: void."""
    single = value >= rules.offset
    class_value = value // rules.offset if single else value
    category = rules.category_of.get(class_value)
    if category is None and class_value in rules.void:
        return None
    thing, fault = category in rules.things, None
    if category is None:
        fault = (f'no class has the value {class_value}. Add it to the class '
                 'list (as id or among values, with ignore=1 where it means '
                 'nothing) or to --void-values.')
    elif single and not thing:
        fault = (f'one instance of class {category}, which is stuff. Set '
                 'isthing=1 in the class list, or correct --offset.')
    if fault is not None:
        raise InputError(f'{path}: value {value}: {fault}')
    return dict(
        id=value or _ID_OF_ZERO,
        category_id=category,
        iscrowd=int(thing and not single))
