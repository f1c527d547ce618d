"""What AP keeps of an image: a few arrays instead of many small objects.

A detection as Python objects (dict, list, numbers, RLE) takes twice the
memory of what they say, and as pycocotools' annotations ten times. So rows
hold arrays, the RLEs of an image are one string of bytes, and annotations are
made of the classes that are judged at the moment.
"""
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from mmengine_exact.errors import InputError


class Masks(NamedTuple):
    """RLEs of an image.

    Attributes:
        counts (bytes): Those of all masks, one after the other.
        ends (np.ndarray): int32 (n, ), where each of them ends.
    """
    counts: bytes
    ends: np.ndarray


class Detections(NamedTuple):
    """Detections of an image.

    Attributes:
        labels (np.ndarray): int16 (n, ), 0..T-1.
        boxes (np.ndarray): (n, 4) as x1, y1, x2, y2 in pixels.
        scores (np.ndarray): (n, ).
        masks (Masks, optional): Of n masks.
    """
    labels: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    masks: Optional[Masks]


class Instances(NamedTuple):
    """Instances of the ground truth of an image.

    Attributes:
        labels (np.ndarray): int16 (n, ), 0..T-1.
        boxes (np.ndarray): int32 (n, 4) as x, y, width, height in pixels.
        areas (np.ndarray): int32 (n, ), pixels of the masks.
        crowd (np.ndarray): bool (n, ).
        masks (Masks): Of n masks.
    """
    labels: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    masks: Masks


class ImageRow(NamedTuple):
    """Height and width in pixels, and what is compared; ``truth`` is None
    where an instances JSON has it."""
    height: int
    width: int
    found: Detections
    truth: Optional[Instances]


def join_rles(rles: Sequence[Dict], shape: Tuple[int, int]) -> Masks:
    """Compressed RLEs (with ``counts`` as bytes or text) as one string.

    Raises:
        InputError: One of them has not the size (h, w) of the image.
    """
    counts = []
    for rle in rles:
        if tuple(rle['size']) != tuple(shape):
            raise InputError(
                f'a mask in RLE is {tuple(rle["size"])} (h, w), its image is '
                f'{tuple(shape)}. Encode masks at the original size.')
        text = rle['counts']
        counts.append(text.encode() if isinstance(text, str) else text)
    ends = np.cumsum([len(c) for c in counts], dtype=np.int32)
    return Masks(b''.join(counts), ends)


def split_rles(masks: Masks, shape: Tuple[int, int]) -> List[Dict]:
    """The RLEs again: ``size`` [h, w] and ``counts`` (bytes)."""
    ends = masks.ends.tolist()
    return [
        dict(size=list(shape), counts=masks.counts[a:b])
        for a, b in zip([0, *ends], ends)
    ]


def join_instances(truth: Sequence[Dict], shape: Tuple[int, int]) -> Instances:
    """What ``instance_truth`` found in an image, as arrays."""
    return Instances(
        labels=np.array([t['label'] for t in truth], np.int16),
        boxes=np.array([t['bbox'] for t in truth], np.int32).reshape(-1, 4),
        areas=np.array([t['area'] for t in truth], np.int32),
        crowd=np.array([t['iscrowd'] for t in truth], bool),
        masks=join_rles([t['segmentation'] for t in truth], shape))


class Table:
    """Entries of one kind of all images, as columns.

    Args:
        parts (Sequence[Detections | Instances]): Of each image.
        shapes (Sequence[tuple[int, int]]): (h, w) of each image.

    Attributes:
        labels (np.ndarray): int16 (N, ), of the entries of all images.
        image (np.ndarray): int32 (N, ), position of each entry's image.
        has_masks (bool): Whether all images have masks.
    """

    def __init__(self, parts: Union[Sequence[Detections], Sequence[Instances]],
                 shapes: Sequence[Tuple[int, int]]) -> None:
        self._shapes = shapes
        self._masks = [part.masks for part in parts if part.masks is not None]
        self.has_masks = len(self._masks) == len(parts)
        self._columns = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in parts[0]._fields if name != 'masks'
        }
        self.labels = self._columns['labels']
        numbers = np.array([len(part.labels) for part in parts])
        self.image = np.repeat(np.arange(len(parts), dtype=np.int32), numbers)
        if self.has_masks:
            ends = [masks.ends for masks in self._masks]
            self._ends = np.concatenate(ends)
            self._starts = np.concatenate([np.append(0, e)[:-1] for e in ends])

    def column(self, name: str, chosen: np.ndarray) -> np.ndarray:
        """A field of some entries."""
        return self._columns[name][chosen]

    def rles(self, chosen: np.ndarray) -> List[Dict]:
        """RLEs of some entries, as JSON holds them."""
        return [
            dict(
                size=list(self._shapes[image]),
                counts=self._masks[image].counts[start:end].decode())
            for image, start, end in zip(self.image[chosen].tolist(
            ), self._starts[chosen].tolist(), self._ends[chosen].tolist())
        ]


def detection_entries(table: Table, chosen: np.ndarray, image_ids: Sequence,
                      category_ids: Sequence, iou_type: str) -> List[Dict]:
    """Detections as in a COCO results JSON.

    Args:
        table (Table): Of ``Detections``.
        chosen (np.ndarray): Entries of the table, ascending.
        image_ids (Sequence): Of the images.
        category_ids (Sequence): Of each label.
        iou_type (str): 'bbox' or 'segm'. Areas are those of what is judged,
            so an entry has either its box or its mask.
    """
    if iou_type == 'segm':
        key, shapes = 'segmentation', table.rles(chosen)
    else:
        boxes = table.column('boxes', chosen).astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        key, shapes = 'bbox', boxes.tolist()
    return [{
        'image_id': image_ids[image],
        'category_id': category_ids[label],
        'score': score,
        key: shape
    } for image, label, score, shape in zip(
        table.image[chosen].tolist(), table.labels[chosen].tolist(),
        table.column('scores', chosen).tolist(), shapes)]


def instance_entries(table: Table, chosen: np.ndarray, image_ids: Sequence,
                     category_ids: Sequence) -> List[Dict]:
    """Annotations of an instances JSON, with ids from 1 (COCOeval takes 0 for
    'unmatched').

    Args:
        table (Table): Of ``Instances``.
        chosen, image_ids, category_ids: As for :func:`detection_entries`.
    """
    columns = [
        table.column(name, chosen).tolist()
        for name in ('boxes', 'areas', 'crowd')
    ]
    return [
        dict(
            id=i,
            image_id=image_ids[image],
            category_id=category_ids[label],
            bbox=box,
            area=area,
            iscrowd=int(crowd),
            segmentation=rle)
        for i, (image, label, box, area, crowd, rle) in enumerate(
            zip(table.image[chosen].tolist(), table.labels[chosen].tolist(), *
                columns, table.rles(chosen)), 1)
    ]
