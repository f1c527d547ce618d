"""Ground truth of AP: an instances JSON, or the things of a panoptic map.

Boxes are (x, y, width, height) in pixels, areas are pixels of the mask (not of
the box), RLE is COCO's, crowd things have ``iscrowd`` = 1.
"""
from typing import Dict, List, Sequence

import numpy as np
from mmdet.datasets.api_wrappers import COCO

from ..errors import PanopticError
from ..labels import LabelSpace
from .per_image import ImageId, Row, labels_of_codes
from .runs import encode_segments, segment_boxes


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


def derived_dataset(rows: Sequence[Row], space: LabelSpace) -> Dict:
    """Instances JSON, as a dict, of the rows' ground truth."""
    images, annotations = [], []
    for image_id, row in rows:
        images.append(
            dict(
                id=image_id,
                height=row['height'],
                width=row['width'],
                file_name=''))
        for truth in row.get('truth', []):
            # From 1: COCOeval takes 0 for 'unmatched'.
            annotations.append(
                dict(
                    truth,
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=space.category_ids[truth['label']]))
    categories = [
        dict(id=c.id, name=c.name) for c in space.categories[:space.num_things]
    ]
    return dict(images=images, annotations=annotations, categories=categories)


def thing_category_ids(space: LabelSpace, categories: Sequence[Dict],
                       source: str) -> List[int]:
    """Category id of each thing in an instances JSON, found by its name.

    Args:
        space (LabelSpace): Classes of the panoptic data set.
        categories (Sequence[dict]): ``categories`` of the instances JSON.
        source (str): That file, for the error.

    Raises:
        PanopticError: A thing class is missing, or two have one name.
    """
    ids = {}
    for category in categories:
        ids.setdefault(category['name'], []).append(category['id'])
    wrong = [n for n in space.thing_names if len(ids.get(n, [])) != 1]
    if wrong:
        raise PanopticError(
            f'{source}: its categories do not name the thing classes {wrong} '
            'exactly once. Use the instances file of the same classes, or '
            'leave ann_file out to derive the ground truth.')
    return [ids[name][0] for name in space.thing_names]


def check_id_types(ids: Sequence[ImageId]) -> None:
    """Raise where some ids are integers and others strings.

    Raises:
        PanopticError: Names one of each.
    """
    if len({isinstance(image_id, str) for image_id in ids}) > 1:
        raise PanopticError(
            f'image ids {ids[0]!r} and {ids[-1]!r} are of two types, which '
            'pycocotools cannot hold together. Write all ids of the '
            'annotation as integers or all as strings.')


def check_images(rows: Sequence[Row], images: Sequence[Dict],
                 source: str) -> None:
    """Raise where an instances JSON is not about the evaluated images.

    Args:
        rows (Sequence[tuple]): Image ids and rows.
        images (Sequence[dict]): ``images`` of the instances JSON.
        source (str): That file, for the error.

    Raises:
        PanopticError: An image is missing there or has another size.
    """
    known = {image['id']: image for image in images}
    for image_id, row in rows:
        image = known.get(image_id)
        if image is None:
            raise PanopticError(
                f'{source}: no image with the id {image_id!r} of the data '
                f'set; the first id there is {next(iter(known), None)!r}. Use '
                'the instances file of the same images, or leave ann_file out '
                'to derive the ground truth.')
        size = row['height'], row['width']
        stated = tuple(
            image.get(k, n) for k, n in zip(('height', 'width'), size))
        if stated != size:
            raise PanopticError(
                f'{source}: image {image_id!r} is {stated} (h, w) there, '
                f'{size} in the data set. Correct the instances file.')
