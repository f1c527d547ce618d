"""The classes of COCO panoptic 2017, in the labels of this project.

The zoos' models know these classes, and their files do not name them: with
these a converted one predicts without an annotation file at hand. Names and
colours are mmdet's; the category ids are those of COCO, ascending in each
group.
"""
from typing import Dict, List, Tuple

from mmdet.datasets import CocoPanopticDataset

from panoptic_fpn.labels import LabelSpace

#: Ids from 1 to 90 that COCO gave away and did not annotate.
_NO_THINGS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
THING_IDS: Tuple[int, ...] = tuple(
    id_ for id_ in range(1, 91) if id_ not in _NO_THINGS)
STUFF_IDS: Tuple[int, ...] = (92, 93, 95, 100, 107, 109, 112, 118, 119, 122,
                              125, 128, 130, 133, 138, 141, 144, 145, 147, 148,
                              149, 151, 154, 155, 156, 159, 161, 166, 168, 171,
                              175, 176, 177, 178, 180, 181, *range(184, 201))
#: Numbers of thing and of stuff classes.
COUNTS = (len(THING_IDS), len(STUFF_IDS))


def label_space() -> LabelSpace:
    """The 80 things and 53 stuff classes."""
    meta = CocoPanopticDataset.METAINFO
    categories: List[Dict] = [
        dict(id=id_, name=name,
             isthing=int(id_ <= 90), color=color) for id_, name, color in zip(
                 THING_IDS + STUFF_IDS, meta['classes'], meta['palette'])
    ]
    return LabelSpace.from_coco(categories, 'COCO panoptic 2017')
