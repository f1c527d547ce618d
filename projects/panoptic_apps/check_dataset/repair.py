"""Repair of what can be computed anew in a JSON from its PNGs.

Areas, boxes, ``iscrowd`` (0 where missing), height and width where image and
PNG agree; segments without a pixel are removed; ids that only the PNG has
become segments where their category is known by a rule that all listed
segments follow.
"""
from typing import Callable, Dict, List, Optional, Tuple

from panoptic_fpn.coco_format import Pair, Structure
from panoptic_fpn.coco_format.pngs import Measured, is_other_image

from .image_files import ImageJob, ImageResult

#: Segments that have to follow a rule before it is believed.
MIN_SUPPORT = 3
#: Kinds of faults that change an annotation.
_OF_SEGMENTS = {'ids_only_in_png', 'ids_only_in_json', 'area', 'bbox'}

#: From a segment id to its category id and iscrowd, or None.
Rule = Callable[[int], Optional[Tuple[int, int]]]


class Repair:
    """A JSON with what could be mended, image by image.

    Args:
        content (dict): The JSON; it is not changed.
        structure (Structure): What can be used of it.

    Attributes:
        counts (dict[str, int]): Areas, boxes, added, removed, iscrowd, sizes.
        left (list[tuple]): (image, ids) of pixels whose category cannot be
            known.
    """

    def __init__(self, content: dict, structure: Structure) -> None:
        self._content = content
        self._rule = find_rule(structure)
        # entries by the id() of those they replace
        self._new: Dict[int, dict] = {}
        self.counts = dict.fromkeys(
            ('areas', 'boxes', 'added', 'removed', 'iscrowd', 'sizes'), 0)
        self.left: List[Tuple[str, List[int]]] = []

    @property
    def content(self) -> dict:
        """The mended JSON."""
        content = dict(self._content)
        for key in ('images', 'annotations'):
            if isinstance(content.get(key), list):
                content[key] = [
                    self._new.get(id(entry), entry) for entry in content[key]
                ]
        return content

    def add(self, pair: Pair, job: ImageJob, result: ImageResult) -> None:
        """Note what an image's files say of its entries."""
        kinds = {fault.kind for fault in result.faults}
        if result.measured is None or pair.annotation is None:
            return
        if 'image_size' in kinds and result.size is not None:
            height, width = result.size
            self._new[id(pair.image)] = dict(
                pair.image, height=height, width=width)
            self.counts['sizes'] += 1
        listed = {segment['id'] for segment in pair.segments}
        if is_other_image(listed, result.measured) or len(
                pair.segments) != len(pair.annotation['segments_info']):
            return  # to be mended by hand: whatever is done may be wrong
        if kinds & _OF_SEGMENTS or any('iscrowd' not in segment
                                       for segment in pair.segments):
            self._new[id(pair.annotation)] = dict(
                pair.annotation,
                segments_info=[
                    *self._listed(pair, result.measured),
                    *self._unlisted(job, listed, result.measured)
                ])

    def _listed(self, pair: Pair, measured: Dict[int, Measured]) -> List[dict]:
        segments = []
        for segment in pair.segments:
            if segment['id'] not in measured:
                self.counts['removed'] += 1
                continue
            area, box = measured[segment['id']]
            self.counts['areas'] += segment.get('area') != area
            self.counts['boxes'] += segment.get('bbox') != box
            self.counts['iscrowd'] += 'iscrowd' not in segment
            segments.append(
                dict({'iscrowd': 0} | segment, area=area, bbox=box))
        return segments

    def _unlisted(self, job: ImageJob, listed: set,
                  measured: Dict[int, Measured]) -> List[dict]:
        segments, unknown = [], []
        for id_ in sorted(set(measured) - listed):
            meant = self._rule(id_) if job.other_ids is None else None
            if meant is None:
                unknown.append(id_)
                continue
            (category_id, iscrowd), (area, box) = meant, measured[id_]
            segments.append(
                dict(
                    id=id_,
                    category_id=category_id,
                    iscrowd=iscrowd,
                    area=area,
                    bbox=box))
        self.counts['added'] += len(segments)
        if unknown:
            self.left.append((job.where, unknown))
        return segments


def find_rule(structure: Structure) -> Rule:
    """How the category of a segment follows from its id, if it does: by
    ``category id * 1000 + number`` (the bare id of a thing is crowd) or by
    colour. All listed segments that the rule covers must follow it, at least
    :data:`MIN_SUPPORT`."""
    segments = [s for pair in structure.pairs for s in pair.segments]
    for rule in (_thousands(structure), _colors(structure)):
        follows = [
            meant[0] == segment.get('category_id') for segment in segments
            if (meant := rule(segment['id'])) is not None
        ]
        if len(follows) >= MIN_SUPPORT and all(follows):
            return rule
    return lambda id_: None


def _thousands(structure: Structure) -> Rule:

    def rule(id_: int) -> Optional[Tuple[int, int]]:
        bare = id_ < 1000
        category = structure.categories.get(id_ if bare else id_ // 1000)
        if category is None:
            return None
        return category['id'], int(bare and category.get('isthing') == 1)

    return rule


def _colors(structure: Structure) -> Rule:
    known: Dict[int, Optional[Tuple[int, int]]] = {}
    for id_, category in structure.categories.items():
        color = category.get('color')
        if isinstance(color, list) and len(color) == 3 and all(
                isinstance(part, int) for part in color):
            value = color[0] + 256 * color[1] + 65536 * color[2]
            # two categories of one colour: ambiguous
            known[value] = None if value in known else (id_, 0)
    return known.get
