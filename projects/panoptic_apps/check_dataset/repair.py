"""Repair of what can be computed anew in a JSON from its PNGs.

Areas, boxes, ``iscrowd`` (0 where missing), height and width where image and
PNG agree; segments without a pixel are removed; ids that only the PNG has
become segments where their category is known by a rule that all listed
segments follow. Segments of one stuff class in an image are merged, also in
copies of the PNGs. Names of files become relative to their folder.
"""
import json
import os.path as osp
from collections import Counter
from functools import partial
from typing import Callable, Dict, List, Optional, Tuple

from mmengine_exact.files import find_name_fault, read_bytes, write_bytes
from panoptic_fpn.coco_format import Pair, Structure, encode_png
from panoptic_fpn.coco_format.panoptic import category_of, is_color
from panoptic_fpn.coco_format.pngs import Measured
from panoptic_fpn.labels import rgb_to_id
from panoptic_fpn.ops.decode import decode_map

from .image_files import ImageJob, ImageResult, find_file

#: Segments that have to follow a rule before it is believed.
MIN_SUPPORT = 3
#: Kinds of faults of PNGs from which nothing can be computed.
_OF_ANOTHER_PNG = {'png_of_another_image', 'png_swapped', 'png_blended'}

#: From a segment id to its category id and iscrowd, or None.
Rule = Callable[[int], Optional[Tuple[int, int]]]


class Repair:
    """A JSON in which what can be is mended, image by image.

    Args:
        content (dict): The JSON; it is changed.
        structure (Structure): What can be used of it.
        images, panoptic (str): Folders of its images and PNGs.
        kinds_known (bool): Whether classes that are not things are stuff, so
            that their segments may be merged.

    Attributes:
        content (dict): The JSON.
        counts (dict[str, int]): Areas, boxes, added, removed, merged,
            iscrowd, sizes, names.
        left (list[tuple]): (image, ids) of pixels whose category cannot be
            known.
    """

    def __init__(self, content: dict, structure: Structure, images: str,
                 panoptic: str, kinds_known: bool) -> None:
        self.content, self._panoptic = content, panoptic
        self._kinds_known = kinds_known
        self._categories = structure.categories
        self._rule = find_rule(structure)
        # ids to replace in each PNG, by its path
        self._merged: Dict[str, Dict[int, int]] = {}
        self.counts = dict.fromkeys(('areas', 'boxes', 'added', 'removed',
                                     'merged', 'iscrowd', 'sizes', 'names'), 0)
        self.left: List[Tuple[str, List[int]]] = []
        pairs = structure.pairs
        self._mend_names(images, [pair.image for pair in pairs])
        self._mend_names(
            panoptic,
            [p.annotation for p in pairs if p.annotation is not None])

    def write(self, path: str) -> Optional[str]:
        """Write the mended JSON and, where segments were merged, all PNGs to
        a folder beside it; its path."""
        folder, changed = osp.splitext(path)[0], self.counts['merged'] > 0
        for png, merged in self._merged.items() if changed else ():
            if osp.isfile(png):
                content = read_bytes(png, 'panoptic PNG', None)
                write_bytes(
                    osp.join(folder, osp.relpath(png, self._panoptic)),
                    _merge_in_png(content, merged) if merged else content)
        write_bytes(path, json.dumps(self.content).encode())
        return folder if changed else None

    def _mend_names(self, folder: str, entries: List[dict]) -> None:
        """Mend names that mean a file which no other entry means."""
        paths = [find_file(folder, entry) for entry in entries]
        counts = Counter(paths)
        for path, entry in zip(paths, entries):
            if path and counts[path] == 1 and find_name_fault(
                    entry.get('file_name')):
                entry['file_name'] = osp.relpath(path, folder)
                self.counts['names'] += 1

    def add(self, pair: Pair, job: ImageJob, result: ImageResult) -> None:
        """Mend the entries of an image by what its files say."""
        note, kinds = pair.annotation, {fault.kind for fault in result.faults}
        if note is None or job.png is None:
            return
        in_png = self._merged.setdefault(job.png, {})
        if result.measured is None:
            return
        if 'image_size' in kinds and result.size is not None:
            pair.image.update(zip(('height', 'width'), result.size))
            self.counts['sizes'] += 1
        if kinds & _OF_ANOTHER_PNG or len(pair.segments) != len(
                note['segments_info']):
            return  # to be mended by hand: whatever is done may be wrong
        measured = dict(result.measured)
        merged = {}
        if job.other_ids is None and self._kinds_known:
            merged = self._merge_stuff(pair, measured)
        in_png.update(merged)
        segments = [s for s in pair.segments if s['id'] not in merged]
        note['segments_info'] = [
            *self._listed(segments, measured), *self._unlisted(job, measured)
        ]

    def _merge_stuff(self, pair: Pair,
                     measured: Dict[int, Measured]) -> Dict[int, int]:
        """Ids of stuff segments to that of the first one of their class; they
        are united in ``measured``."""
        first: Dict[Tuple[int, bool], int] = {}
        merged = {}
        for segment in pair.segments:
            id_ = segment['id']
            category = category_of(segment, self._categories)
            if id_ not in measured or category.get('isthing') != 0:
                continue
            key = category['id'], segment.get('iscrowd') == 1
            into = first.setdefault(key, id_)
            if into != id_:
                measured[into] = _unite(measured[into], measured.pop(id_))
                merged[id_] = into
        self.counts['merged'] += len(merged)
        return merged

    def _listed(self, listed: List[dict],
                measured: Dict[int, Measured]) -> List[dict]:
        found = [segment for segment in listed if segment['id'] in measured]
        self.counts['removed'] += len(listed) - len(found)
        for segment in found:
            area, box = measured[segment['id']]
            self.counts['areas'] += segment.get('area') != area
            self.counts['boxes'] += segment.get('bbox') != box
            self.counts['iscrowd'] += 'iscrowd' not in segment
            segment.update(
                area=area, bbox=box, iscrowd=segment.get('iscrowd', 0))
        return found

    def _unlisted(self, job: ImageJob, measured: Dict[int,
                                                      Measured]) -> List[dict]:
        segments, unknown = [], []
        for id_ in sorted(set(measured) - {s['id'] for s in job.segments}):
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


def _merge_in_png(content: bytes, merged: Dict[int, int]) -> bytes:
    ids = rgb_to_id(decode_map(content))
    for id_, into in merged.items():
        ids[ids == id_] = into
    return encode_png(ids)


def _unite(one: Measured, other: Measured) -> Measured:
    (area, (x1, y1, w1, h1)), (more, (x2, y2, w2, h2)) = one, other
    x, y = min(x1, x2), min(y1, y2)
    right, bottom = max(x1 + w1, x2 + w2), max(y1 + h1, y2 + h2)
    return area + more, [x, y, right - x, bottom - y]


def find_rule(structure: Structure) -> Rule:
    """How the category of a segment follows from its id, if it does: by
    ``category id * 1000 + number`` (the bare id of a thing is crowd) or by
    colour. All listed segments that the rule covers must follow it, at least
    :data:`MIN_SUPPORT`."""
    segments = [s for pair in structure.pairs for s in pair.segments]
    for rule in (partial(_by_thousands, structure.categories),
                 _by_color(structure.categories).get):
        follows = [
            meant[0] == segment.get('category_id') for segment in segments
            if (meant := rule(segment['id'])) is not None
        ]
        if len(follows) >= MIN_SUPPORT and all(follows):
            return rule
    return lambda id_: None


def _by_thousands(categories: Dict[int, dict],
                  id_: int) -> Optional[Tuple[int, int]]:
    bare = id_ < 1000
    category = categories.get(id_ if bare else id_ // 1000)
    if category is None:
        return None
    return category['id'], int(bare and category.get('isthing') == 1)


def _by_color(
        categories: Dict[int, dict]) -> Dict[int, Optional[Tuple[int, int]]]:
    known: Dict[int, Optional[Tuple[int, int]]] = {}
    for id_, category in categories.items():
        if is_color(category.get('color')):
            value = int(rgb_to_id(category['color']))
            # two categories of one colour: ambiguous
            known[value] = None if value in known else (id_, 0)
    return known
