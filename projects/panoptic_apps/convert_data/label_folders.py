"""Folders of images and label maps. Label maps have one of these codings:

    class * 1000 + number for single instances and the bare class elsewhere,
        as in Cityscapes; class * 256 + number, as in KITTI and Mapillary
    classes or colours alone, beside which other maps may tell instances
        apart, as SegmentationClass and SegmentationObject of Pascal VOC do
    classes and numbers of instances in channels of their own, see
        ``channels.py``

A pixel of a thing class without an instance becomes crowd.
"""
import json
import os
import os.path as osp
from functools import partial
from glob import glob
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from mmengine_exact.errors import InputError
from mmengine_exact.files import read_bytes
from panoptic_fpn.ops.decode import claimed_size, find_fault, orientation_tag

from .channels import parse_channels, read_maps
from .label_map import ClassTable, class_table, paint_values, read_rows
from .panoptic_folder import Painted, write_panoptic_folder
from .resumable import Job, raise_failures, some

#: Suffixes of images where none is given.
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
#: Folders of thumbnails, recycle bins and archives that systems leave; other
#: hidden names begin with a dot.
_HIDDEN = {'@eaDir', '#recycle', '$RECYCLE.BIN', '__MACOSX'}


def convert_label_folders(images: str,
                          labels: str,
                          classes: str,
                          out: str,
                          name: str,
                          image_suffix: Optional[str] = None,
                          label_suffix: str = '.png',
                          offset: int = 1000,
                          numbered: bool = False,
                          void_values: Sequence[int] = (0, ),
                          things: Optional[Sequence[str]] = None,
                          instances: str = '',
                          channels: Sequence[str] = (),
                          split: Optional[str] = None,
                          orientation: Optional[str] = None,
                          num_workers: Optional[int] = None,
                          report: Any = print) -> Dict:
    """Write a data set in COCO panoptic format.

    Args:
        images, labels (str): Folders with the same subfolders.
        classes, void_values, numbered, things: See :func:`class_table`.
        out, name, num_workers, report: See :func:`write_panoptic_folder`.
        image_suffix, label_suffix (str): What names end with, such as
            ``_leftImg8bit.png``; images have the usual suffixes by default.
        offset (int): Values from this one on are single instances.
        instances (str): Folder of maps, named like the label maps, in which
            each value or colour but 0 is an instance of its class; values of
            label maps are then classes alone.
        channels (Sequence[str]): Which channel holds what, see
            ``channels.py``.
        split (str, optional): File that lists the images to take, one a line,
            with or without suffix.
        orientation (str, optional): See :func:`find_orientation`.

    Returns:
        dict: ``images``, ``segments``, ``crowd``, ``void_pixels``.

    Raises:
        InputError: Names the file that cannot be used, and the fix.
    """
    held = parse_channels(channels)
    jobs = find_pairs(images, labels, image_suffix, label_suffix, instances,
                      orientation, split)
    apart = bool(instances) or 'instance' in held
    # else colours may stand for classes
    is_plain = 'class' in held or apart and not instances
    table = class_table(
        read_rows(classes), classes, void_values, None if apart else offset,
        numbered, things, '' if is_plain else jobs[0].label)
    return write_panoptic_folder(out, name, jobs, partial(paint, table,
                                                          held), [table, held],
                                 table.categories, num_workers, report)


def find_pairs(images: str,
               labels: str,
               image_suffix: Optional[str],
               label_suffix: str,
               instances: str = '',
               orientation: Optional[str] = None,
               split: Optional[str] = None) -> List[Job]:
    """Images and their label maps, sorted by name; ids are names without
    suffix. Hidden files are left out."""
    suffixes = (image_suffix, ) if image_suffix else IMAGE_SUFFIXES
    pairs = [*_names_and_stems(images, suffixes)]
    if split:
        pairs = _listed(pairs, split, images)
    jobs, failures = [], []
    for name, stem in pairs:
        path = osp.join(images, name)
        label = osp.join(labels, stem + label_suffix)
        if not osp.isfile(label):
            failures.append(
                f'{label}: no such file, the label map of {name}. Correct '
                '--label-suffix and --image-suffix, remove the image, or list '
                'those to take in a file and give it as --split.')
            continue
        numbers = osp.join(instances, stem + label_suffix) if instances else ''
        if numbers and not osp.isfile(numbers):
            failures.append(f'{numbers}: no such file, the instances of '
                            f'{name}. Correct --instances.')
            continue
        try:
            size, turn = find_orientation(path, label, orientation)
        except InputError as error:
            failures.append(str(error))
            continue
        image = dict(id=stem, file_name=name, height=size[0], width=size[1])
        jobs.append(Job(image, label, numbers=numbers, turn=turn))
    raise_failures(failures)
    if not jobs:
        raise InputError(
            f'{images}: no image that ends with {" or ".join(suffixes)}. '
            'Correct the folder or --image-suffix.')
    return jobs


def _names_and_stems(images: str,
                     suffixes: Sequence[str]) -> Iterator[Tuple[str, str]]:
    # without names that begin with a dot
    for name in sorted(glob('**', root_dir=images, recursive=True)):
        ends = [s for s in suffixes if name.lower().endswith(s.lower())]
        hidden = _HIDDEN.intersection(name.split(os.sep))
        if ends and not hidden and not osp.isdir(osp.join(images, name)):
            yield name, name[:-len(ends[0])]


def _listed(pairs: List[Tuple[str, str]], split: str,
            images: str) -> List[Tuple[str, str]]:
    """Those pairs of name and stem that the file ``split`` lists."""
    content = read_bytes(split, 'list of images', None, 'Correct --split.')
    text = content.decode(json.detect_encoding(content), 'replace')
    wanted = {line.strip() for line in text.splitlines()} - {''}
    missing = wanted.difference(*pairs)
    if missing or not wanted:
        raise InputError(
            f'{split}: {some(sorted(missing)) or "empty"}: no such image in '
            f'{images}. Correct the list (one a line, with or without '
            'suffix), or --image-suffix.')
    return [pair for pair in pairs if wanted.intersection(pair)]


def find_orientation(path: str, label: str,
                     labels_are: Optional[str]) -> Tuple[Tuple[int, int], int]:
    """Size (h, w) of a photograph as it is shown, which training reads, and
    the EXIF tag by which its label map is to be turned, 1: not at all.

    ``labels_are`` says what the label map fits where both are possible: what
    is 'shown', or what is 'stored', turned by the tag.
    """
    content = read_bytes(path, 'image', None)
    fault, stored = find_fault(content), claimed_size(content)
    if fault is not None:
        raise InputError(f'{path}: not a readable image ({fault}). Copy it '
                         'again or remove it.')
    tag = orientation_tag(content)
    if tag == 1:
        return stored, 1
    shown = stored[::-1] if tag > 4 else stored
    if shown != stored:
        found = claimed_size(read_bytes(label, 'label map', None))
        labels_are = 'stored' if found == stored else 'shown'
    if labels_are is None:
        raise InputError(f'{path}: its orientation tag ({tag}) turns it. Does '
                         'its label map fit what is shown or what is stored? '
                         'Give --orientation shown or --orientation stored.')
    return shown, tag if labels_are == 'stored' else 1


def paint(table: ClassTable, channels: Dict[str, str], job: Job) -> Painted:
    """Segments of one image."""
    size = job.size[::-1] if job.turn > 4 else job.size
    values, numbers, void = read_maps(job, size, channels, table.colors)
    ids, segments = paint_values(table, values, job.label, numbers)
    if void is not None:
        ids[void] = 0
    return ids, [*segments.values()], dict(
        crowd=sum(s['iscrowd'] for s in segments.values()),
        void_pixels=int((ids == 0).sum()))
