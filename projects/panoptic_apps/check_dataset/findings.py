"""What can be wrong with a panoptic data set, and what mends it.

An error stops training or evaluation, or makes a score wrong, ours or that of
an official script; a warning is odd, and may be meant.
"""
from collections import Counter
from typing import Dict, Iterable, List, NamedTuple

ERROR, WARNING = 'error', 'warning'


class Kind(NamedTuple):
    """One kind of finding: how bad, what it is, what mends it."""

    severity: str
    title: str
    remedy: str
    #: Whether ``fix`` mends it (of some kinds not every case).
    fixable: bool = False


_RGB = 'Export the PNG as 8-bit RGB with id = R + 256 G + 256^2 B.'

KINDS: Dict[str, Kind] = {
    # the JSON
    'json_unreadable':
    Kind(ERROR, 'the JSON cannot be read', 'Copy or export it again.'),
    'key_missing':
    Kind(ERROR, 'a key is missing', 'Add it.'),
    'wrong_value':
    Kind(ERROR, 'a value cannot be used', 'Correct it.'),
    'image_id_twice':
    Kind(ERROR, 'several images have one id', 'Keep one of them.'),
    'annotation_twice':
    Kind(ERROR, 'several annotations of one image', 'Keep one of them.'),
    'segment_id_twice':
    Kind(ERROR, 'several segments of an image have one id',
         'Give each its own id in JSON and PNG.'),
    'unknown_image':
    Kind(ERROR, 'an annotation of an image that is not in "images"',
         'Add the image or remove the annotation.'),
    'segment_id_range':
    Kind(ERROR, 'a segment id that no PNG can hold',
         'Renumber the segments of the image from 1, in JSON and PNG.'),
    'too_many_segments':
    Kind(ERROR, 'more segments in an image than a map can hold',
         'Merge segments.'),
    'unknown_category':
    Kind(ERROR, 'a segment of a category that is not in "categories"',
         'Add the category or correct category_id.'),
    'no_annotation':
    Kind(
        WARNING, 'an image without annotation',
        'Training leaves it out, validation stops at it: annotate it or '
        'remove it from "images".'),
    'file_named_twice':
    Kind(WARNING, 'a file is named by several entries',
         'Give each entry its own file.'),
    'iscrowd':
    Kind(ERROR, 'iscrowd is neither 0 nor 1', 'Write 0 or 1.'),
    'no_iscrowd':
    Kind(WARNING, 'a segment without iscrowd',
         'It counts as 0 here; official scripts stop: write 0 or 1.', True),
    'stuff_crowd':
    Kind(WARNING, 'stuff that is marked as crowd',
         'Crowd is for things: write iscrowd=0.'),
    'stuff_twice':
    Kind(
        WARNING, 'a stuff class in several segments of one image',
        'A prediction has one segment for each stuff class, so it matches '
        'one of them at most: merge them in JSON and PNG.'),
    # its categories
    'no_category':
    Kind(ERROR, '"categories" is empty', 'List at least one category.'),
    'too_many_categories':
    Kind(ERROR, 'more categories than a panoptic map can hold',
         'Merge classes.'),
    'category_id':
    Kind(ERROR, 'a category id that is no whole number',
         'Write whole numbers, also in category_id of the segments.'),
    'negative_category':
    Kind(WARNING, 'a negative category id',
         'COCO\'s evaluation takes such ids for no class: count from 1.'),
    'category_id_twice':
    Kind(ERROR, 'several categories have one id', 'Give each its own id.'),
    'category_name_twice':
    Kind(ERROR, 'several categories have one name', 'Give each its own name.'),
    'isthing':
    Kind(ERROR, 'a category whose isthing is missing or not 0 or 1',
         'Write 1 for things, 0 for stuff.'),
    'unused_category':
    Kind(WARNING, 'a category without any segment',
         'It cannot be learnt or scored here: remove it if it never occurs.'),
    'one_kind_of_class':
    Kind(
        WARNING, 'things or stuff are missing altogether',
        'See whether isthing is right; without things train Semantic FPN '
        '(loss_weights.instance=0).'),
    'other_categories':
    Kind(ERROR, 'the two JSON files list different categories',
         'Train and validate with the same categories.'),
    # images
    'image_missing':
    Kind(ERROR, 'an image is missing',
         'Restore it, or correct file_name or --images.'),
    'image_corrupt':
    Kind(ERROR, 'an image that is damaged or none',
         'Copy it again or remove it from the JSON.'),
    'image_size':
    Kind(ERROR, 'height and width in the JSON are not those of the image',
         'Correct the JSON, or strip the orientation tag of the photograph.',
         True),
    # PNGs
    'png_missing':
    Kind(ERROR, 'a panoptic PNG is missing',
         'Restore it, or correct file_name or --panoptic.'),
    'png_corrupt':
    Kind(ERROR, 'a panoptic PNG that is damaged or none',
         'Export it again or remove its annotation.'),
    'png_single_channel':
    Kind(
        ERROR, 'a panoptic PNG with one channel',
        f'{_RGB} tools/dataset_converters/cityscapes_style.py does it for '
        'label maps of id * 1000 + number.'),
    'png_format':
    Kind(ERROR, 'a panoptic PNG of another format', _RGB),
    'png_size':
    Kind(ERROR, 'a panoptic PNG that is not of its image\'s size',
         'Export the PNG at the size of the image.'),
    'png_of_another_image':
    Kind(ERROR, 'PNG and JSON have no segment id in common',
         'This looks like the PNG of another image: correct file_name.'),
    'ids_only_in_png':
    Kind(ERROR, 'pixels of ids that the JSON does not list',
         'Add the segments to segments_info or make the pixels black (void).',
         True),
    'ids_only_in_json':
    Kind(ERROR, 'segments without a pixel in the PNG',
         'Remove them from segments_info.', True),
    'area':
    Kind(
        ERROR, 'an area that is not the number of pixels in the PNG',
        'Correct it: official scripts compute IoUs with it (ours count '
        'pixels).', True),
    'bbox':
    Kind(
        WARNING, 'a bbox that is not the one of the pixels',
        'Correct it: [x, y, width, height] in pixels; mmdet trains on it '
        '(ours is taken from the PNG).', True),
    'all_void':
    Kind(WARNING, 'an annotation without a labelled pixel',
         'Annotate the image, or remove it.'),
    'png_extra':
    Kind(WARNING, 'PNGs that no annotation names',
         'Add their annotations, or move the files away.'),
    # several images
    'same_picture':
    Kind(WARNING, 'the same picture under several ids', 'Keep one of them.'),
    'leakage':
    Kind(ERROR, 'the same picture in both data sets',
         'Remove it from one of them: its score says nothing.'),
}


class Finding(NamedTuple):
    """``kind`` of :data:`KINDS`, the file (and place in it), the value."""

    kind: str
    where: str
    value: str


class Findings:
    """Counts of each kind and their first examples.

    Args:
        keep (int): Examples of a kind to keep; the others are counted.
    """

    def __init__(self, keep: int = 1000) -> None:
        self.keep = keep
        self.counts: Counter[str] = Counter()
        self.examples: Dict[str, List[Finding]] = {}

    def add(self, kind: str, where: str, value: str) -> None:
        self.counts[kind] += 1
        kept = self.examples.setdefault(kind, [])
        if len(kept) < self.keep:
            kept.append(Finding(kind, where, value))

    def extend(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.add(*finding)

    def kinds(self, severity: str) -> List[str]:
        """Kinds that were found, in the order of :data:`KINDS`."""
        return [
            name for name, kind in KINDS.items()
            if kind.severity == severity and self.counts[name]
        ]

    def total(self, severity: str) -> int:
        return sum(self.counts[name] for name in self.kinds(severity))
