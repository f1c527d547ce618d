"""Ground truth of AP: an instances JSON, or the things of a panoptic map.

Boxes are (x, y, width, height) in pixels, areas are pixels of the mask (not of
the box), RLE is COCO's, crowd things have ``iscrowd`` = 1.
"""
from typing import Any, Dict, List, Optional, Sequence, Set

import numpy as np
from mmdet.datasets.api_wrappers import COCO

from mmengine_exact.errors import InputError
from mmengine_exact.files import parse_json, read_bytes

from ..coco_format.segmentations import find_segmentation_fault
from ..labels import LabelSpace, is_whole, short
from ..ops.run_length import encode_segments, segment_boxes
from .coco_ap import has_plain_ids
from .instance_rows import Table, instance_entries
from .per_image import ImageId, Row, labels_of_codes


class GroundTruth(COCO):
    """COCO index of a dict; also takes an empty list of detections.

    Args:
        dataset (dict): ``images``, ``annotations``, ``categories``.
    """

    def __init__(self, dataset: Dict) -> None:
        super().__init__()
        self.dataset = dataset
        self.createIndex()

    def loadRes(self, resFile: List[Dict]) -> COCO:
        """Index of detections; pycocotools fails on an empty list."""
        # No evaluation asks for category -1, so this entry is not counted.
        nothing = dict(
            image_id=self.dataset['images'][0]['id'],
            category_id=-1,
            bbox=[0, 0, 1, 1],
            score=0.)
        return super().loadRes(resFile or [nothing])


def instance_truth(segments: np.ndarray, codes: np.ndarray, crowd: np.ndarray,
                   num_things: int) -> List[Dict]:
    """Instances of a panoptic ground truth, crowd too.

    Args:
        segments (np.ndarray): (h, w) of ``label + 1000 * number``.
        codes (np.ndarray): (G, ), codes of the segments.
        crowd (np.ndarray): bool (G, ).
        num_things (int): T; labels below it are things.

    Returns:
        list[dict]: ``label``, ``iscrowd``, ``area`` (pixels of the mask),
        ``bbox`` (x, y, width, height), ``segmentation`` (RLE), of every thing
        with at least one pixel.
    """
    found, areas, boxes = segment_boxes(segments)
    place = {int(code): i for i, code in enumerate(found)}
    things = [
        i for i in np.flatnonzero(labels_of_codes(codes) < num_things)
        if int(codes[i]) in place
    ]
    rles = encode_segments(segments, codes[things])
    truth = []
    for i, rle in zip(things, rles):
        where = place[int(codes[i])]
        truth.append(
            dict(
                label=int(labels_of_codes(codes[i])),
                iscrowd=int(crowd[i]),
                area=int(areas[where]),
                bbox=boxes[where].tolist(),
                segmentation=rle))
    return truth


class DerivedTruth:
    """Ground truth of the rows themselves.

    Args:
        rows (Sequence[tuple]): Image ids and rows.
        category_ids (Sequence): Of each thing.
    """

    #: Whether classes can be judged apart.
    separable = True

    def __init__(self, rows: Sequence[Row], category_ids: Sequence) -> None:
        self._ids = [image_id for image_id, _ in rows]
        self._category_ids = category_ids
        self._table = Table([row.truth for _, row in rows],
                            [(row.height, row.width) for _, row in rows])

    def annotations(self, labels: Sequence[int]) -> List[Dict]:
        """Of all images, those of some classes."""
        chosen = np.flatnonzero(np.isin(self._table.labels, labels))
        return instance_entries(self._table, chosen, self._ids,
                                self._category_ids)


class NamedTruth:
    """Ground truth of an instances JSON.

    Args:
        rows (Sequence[tuple]): Image ids and rows.
        category_ids (Sequence): Of each thing, in that JSON.
        annotations (Sequence[dict]): Of that JSON.

    Attributes:
        separable (bool): Whether classes can be judged apart: not where
            pycocotools mixes annotations up by their ids.
    """

    def __init__(self, rows: Sequence[Row], category_ids: Sequence,
                 annotations: Sequence[Dict]) -> None:
        self.separable = has_plain_ids(annotations)
        self._category_ids = category_ids
        evaluated = {image_id for image_id, _ in rows}
        self._by_category: Dict = {}
        for ann in annotations:
            if ann['image_id'] in evaluated:
                self._by_category.setdefault(ann['category_id'],
                                             []).append(ann)

    def annotations(self, labels: Sequence[int]) -> List[Dict]:
        """Of the evaluated images, those of some classes."""
        return [
            ann for label in labels
            for ann in self._by_category.get(self._category_ids[label], [])
        ]


def thing_category_ids(space: LabelSpace, categories: Sequence[Dict],
                       source: str) -> List[int]:
    """Category id of each thing in an instances JSON, found by its name.

    Args:
        space (LabelSpace): Classes of the panoptic data set.
        categories (Sequence[dict]): ``categories`` of the instances JSON.
        source (str): That file, for the error.

    Raises:
        InputError: A thing class is missing, or two have one name.
    """
    ids: Dict[str, List] = {}
    for category in categories:
        ids.setdefault(category['name'], []).append(category['id'])
    wrong = [n for n in space.thing_names if len(ids.get(n, [])) != 1]
    if wrong:
        raise InputError(
            f'{source}: its categories do not name the thing classes {wrong} '
            'exactly once. Use the instances file of the same classes, or '
            'leave ann_file out to derive the ground truth.')
    return [ids[name][0] for name in space.thing_names]


def read_instances(path: str, backend_args: Optional[dict],
                   masks: bool) -> Dict:
    """A COCO instances JSON whose values can be evaluated.

    Args:
        path (str): The file.
        backend_args (dict, optional): Of mmengine's fileio.
        masks (bool): Whether masks are, not boxes alone.

    Raises:
        InputError: It cannot be read, or an entry has a value that
            pycocotools would stop at or count wrongly.
    """
    content = parse_json(
        read_bytes(path, 'instances JSON', backend_args), path)
    known = {}
    for key in ('images', 'categories', 'annotations'):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise InputError(f'no list "{key}" at the top level')
        for entry in entries:
            if not isinstance(entry, dict) or not _is_id(entry.get('id')):
                raise InputError(f'"{key}" lists {short(entry)}, which has '
                                 'no id, a whole number or a string')
        known[key] = {entry['id'] for entry in entries}
        if key != 'annotations' and len(known[key]) < len(entries):
            raise InputError(f'two entries of "{key}" share an id')
    for image in content['images']:
        sides = image.get('height'), image.get('width')
        if not all(n is None or is_whole(n) and n > 0 for n in sides):
            raise InputError(f'image id={short(image["id"])} has (height, '
                             f'width)={short(sides)}')
    for category in content['categories']:
        if not isinstance(category.get('name'), str):
            raise InputError(f'category {short(category)} has no name')
    for note in content['annotations']:
        fault = _annotation_fault(note, known)
        if masks and fault is None:
            fault = find_segmentation_fault(
                note.get('segmentation'), (None, None))
        if fault is not None:
            raise InputError(f'annotation id={short(note["id"])}: {fault}')
    return content


def _is_id(value: Any) -> bool:
    return is_whole(value) or isinstance(value, str)


def _annotation_fault(note: Dict, known: Dict[str, Set]) -> Optional[str]:
    """What keeps an annotation from being evaluated."""
    if not is_whole(note['id']):
        return 'has an id that is no whole number, as pycocotools needs it'
    for key, ids in (('image_id', 'images'), ('category_id', 'categories')):
        if not _is_id(note.get(key)) or note[key] not in known[ids]:
            return f'has {key}={short(note.get(key))}, none of "{ids}"'
    if note.get('iscrowd') not in (0, 1):
        return f'has iscrowd={short(note.get("iscrowd"))}, neither 0 nor 1'
    if not _is_number(note.get('area')) or note['area'] < 0:
        return f'has area={short(note.get("area"))}, no number of pixels'
    box = note.get('bbox')
    if not isinstance(box, list) or len(box) != 4 or not all(
            map(_is_number, box)) or min(box[2:]) < 0:
        return f'has bbox={short(box)}, no [x, y, width, height]'
    return None


def _is_number(value: Any) -> bool:
    return isinstance(
        value,
        (int, float)) and not isinstance(value, bool) and abs(value) < 2**53


def check_id_types(ids: Sequence[ImageId]) -> None:
    """Raise where some ids are integers and others strings.

    Raises:
        InputError: Names one of each.
    """
    if len({isinstance(image_id, str) for image_id in ids}) > 1:
        raise InputError(
            f'image ids {ids[0]!r} and {ids[-1]!r} are of two types, which '
            'pycocotools cannot hold together. Write all ids of the '
            'annotation as integers or all as strings.')


def check_mask_sizes(rows: Sequence[Row], annotations: Sequence[Dict],
                     source: str) -> None:
    """Raise where an RLE has not the size of its image.

    Args:
        rows (Sequence[tuple]): Image ids and rows.
        annotations (Sequence[dict]): Of the instances JSON.
        source (str): That file, for the error.

    Raises:
        InputError: Names the first such annotation.
    """
    size_of = {image_id: [row.height, row.width] for image_id, row in rows}
    for note in annotations:
        mask, size = note['segmentation'], size_of.get(note['image_id'])
        if size and isinstance(mask, dict) and mask['size'] != size:
            raise InputError(
                f'{source}: the mask of annotation id={short(note["id"])} is '
                f'{tuple(mask["size"])} (h, w), its image {tuple(size)}. '
                'Correct the instances file.')


def check_images(rows: Sequence[Row], images: Sequence[Dict],
                 source: str) -> None:
    """Raise where an instances JSON is not about the evaluated images.

    Args:
        rows (Sequence[tuple]): Image ids and rows.
        images (Sequence[dict]): ``images`` of the instances JSON.
        source (str): That file, for the error.

    Raises:
        InputError: An image is missing there or has another size.
    """
    known = {image['id']: image for image in images}
    for image_id, row in rows:
        image = known.get(image_id)
        if image is None:
            raise InputError(
                f'{source}: no image with the id {image_id!r} of the data '
                f'set; the first id there is {next(iter(known), None)!r}. Use '
                'the instances file of the same images, or leave ann_file out '
                'to derive the ground truth.')
        size = row.height, row.width
        stated = tuple(
            image.get(k, n) for k, n in zip(('height', 'width'), size))
        if stated != size:
            raise InputError(
                f'{source}: image {image_id!r} is {stated} (h, w) there, '
                f'{size} in the data set. Correct the instances file.')
