"""Cityscapes: its classes, the values of its label images, its file names.

Everything about classes is read from ``cityscapesscripts.helpers.labels``.
Three orders of the 19 evaluated classes meet here:

label      ours: the 8 things, then the 11 stuff classes, each by id
id         of the label table, in label images and in results: 7 .. 33
train id   mmseg's and most checkpoints': 0 .. 18, stuff before things

A pixel of ``*_gtFine_instanceIds.png`` (16 bit) holds ``id * 1000 + number``
where it belongs to one instance and the bare ``id`` elsewhere; of a class
that has instances, the bare id is a group whose members nobody annotated.
"""
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Dict, List, Tuple

import numpy as np
from cityscapesscripts.helpers.labels import id2label, labels

from mmengine_exact.errors import InputError

from .labels import LabelSpace

#: Images of each split of the official download.
SPLIT_SIZES = dict(train=2975, val=500, test=1525)
IMAGE_SUFFIX = '_leftImg8bit.png'
INSTANCE_SUFFIX = '_gtFine_instanceIds.png'

#: ``info.prepared_for`` and ``info.version`` of what the converter writes.
#: The version rises whenever a reader needs files to be written again.
PREPARED_FOR = 'projects.panoptic_fpn'
PREPARED_VERSION = 1
#: Prepared JSON of a split, below the data root.
PREPARED_FILE = 'gtFine/panoptic_fpn_{split}.json'

#: Values of instance images from here on are single instances.
FIRST_INSTANCE = 1000


@dataclass(frozen=True)
class PixelValue:
    """What a value of an instance image stands for."""

    #: Id of the label table.
    category_id: int
    #: Whether it is one of the 19 classes; else it is void.
    evaluated: bool
    #: Whether the value names one instance, or a group of a thing class.
    instance: bool
    crowd: bool


def categories() -> List[Dict]:
    """``categories`` of a COCO panoptic JSON, as the official converter
    writes them: those that the evaluation does not ignore."""
    return [
        dict(
            id=label.id,
            name=label.name,
            color=list(label.color),
            supercategory=label.category,
            isthing=int(label.hasInstances)) for label in labels
        if not label.ignoreInEval
    ]


def label_space() -> LabelSpace:
    """The 8 thing and 11 stuff classes."""
    return LabelSpace.from_coco(categories(), 'cityscapesscripts')


def train_ids() -> np.ndarray:
    """Train id of each of our labels, int64 (19, ).

    ``weight[train_ids()]`` brings the output channels of a head in train id
    order to ours, ``weight[np.argsort(train_ids())]`` ours to train id order.
    """
    return np.array([id2label[i].trainId for i in label_space().category_ids])


def pixel_value(value: int) -> PixelValue:
    """Meaning of a value of an instance image."""
    instance = value >= FIRST_INSTANCE
    label = id2label.get(value // FIRST_INSTANCE if instance else value)
    if label is None or label.id < 0 or instance and not label.hasInstances:
        raise InputError(
            f'{value} is not a value of a Cityscapes instance image (an id of '
            'the label table, or id * 1000 + number of a class with '
            'instances). Use *_gtFine_instanceIds.png, not labelIds, '
            'labelTrainIds or color.')
    evaluated = not label.ignoreInEval
    return PixelValue(label.id, evaluated, instance, evaluated
                      and label.hasInstances and not instance)


def split_values(
        values: List[int]) -> Tuple[Dict[int, PixelValue], List, List]:
    """Sort the distinct values of one instance image.

    Returns:
        tuple: Segments (value -> meaning); values that are void for every
        evaluation; and values of single instances of classes that the
        evaluation ignores (caravan, trailer): void as well, except that the
        official AP forgives no detection on them.
    """
    segments: Dict[int, Any] = {}
    void: List[int] = []
    ignored: List[int] = []
    for value in values:
        meaning = pixel_value(value)
        if meaning.evaluated:
            segments[value] = meaning
        else:
            (ignored if meaning.instance else void).append(value)
    return segments, void, ignored


def image_id(path: str) -> str:
    """``<city>_<sequence>_<frame>`` of any file of an image."""
    name = PurePosixPath(path).name
    parts = name.split('_')
    if len(parts) < 4 or not (parts[1].isdigit() and parts[2].isdigit()):
        raise InputError(
            f'{path}: not named as Cityscapes names its files '
            f'(<city>_000000_000000{IMAGE_SUFFIX}). Restore the name.')
    return '_'.join(parts[:3])
