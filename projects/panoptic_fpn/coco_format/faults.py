"""Faults of files in COCO's formats, and what mends them.

An error stops training or evaluation, or makes a score wrong, ours or that of
an official script; a warning is odd, and may be intended.
"""
from collections import Counter
from dataclasses import dataclass
from typing import (Any, Callable, Dict, Generator, Iterable, List, NamedTuple,
                    TypeGuard, TypeVar, Union)

from mmengine_exact.errors import InputError
from mmengine_exact.files import parse_json

ERROR, WARNING = 'error', 'warning'
_T = TypeVar('_T')


class Kind(NamedTuple):
    """One kind of fault: what it is, and what mends it."""

    title: str
    fix: str
    #: Whether ``tools/check_dataset.py --fix`` mends it (some not always).
    fixable: bool = False


_RGB = 'Export the PNG as 8-bit RGB with id = R + 256 G + 256^2 B.'

#: Kinds of faults of a data set, in the order of a report.
KINDS = dict(
    # the JSON
    json_unreadable=Kind('the JSON cannot be read',
                         'Copy or export it again.'),
    key_missing=Kind('a key is missing', 'Add it.'),
    instances_json=Kind(
        'an instances JSON (for detection), not a panoptic one',
        'Use tools/dataset_converters/coco_instances_and_semantic.py.'),
    panoptic_json=Kind(
        'a panoptic JSON, not an instances JSON (for detection)',
        'Train on it as it is; it needs no conversion.'),
    wrong_value=Kind('a value cannot be used', 'Correct it.'),
    bad_file_name=Kind(
        'a file_name that cannot be used',
        'Write it relative to its folder, with / between folders.', True),
    mixed_image_ids=Kind(
        'ids of images are numbers and strings',
        'Write all as numbers or all as strings, in image_id, too.'),
    image_id_twice=Kind('several images have one id', 'Keep one of them.'),
    annotation_twice=Kind('several annotations of one image',
                          'Keep one of them.'),
    segment_id_twice=Kind('several segments of an image have one id',
                          'Give each its own id in JSON and PNG.'),
    unknown_image=Kind('an annotation of an image that is not in "images"',
                       'Add the image or remove the annotation.'),
    segment_id_range=Kind(
        'a segment id that no PNG can hold',
        'Renumber the segments of the image from 1, in JSON and PNG.'),
    too_many_segments=Kind('more segments in an image than a map can hold',
                           'Merge segments.'),
    unknown_category=Kind(
        'a segment of a category that is not in "categories"',
        'Add the category or correct category_id.'),
    no_annotation=Kind(
        'an image without annotation',
        'Training leaves it out, validation stops at it: annotate it or '
        'remove it from "images".'),
    nothing_annotated=Kind(
        'no image has an annotation',
        'Export masks; polygons, which Datumaro leaves out, as COCO instances '
        'for tools/dataset_converters/coco_instances_and_semantic.py.'),
    file_named_twice=Kind('a file is named by several entries',
                          'Give each entry its own.'),
    iscrowd=Kind('iscrowd is neither 0 nor 1', 'Write 0 or 1.'),
    no_iscrowd=Kind(
        'a segment without iscrowd',
        'It counts as 0 here; official scripts stop: write 0 or 1.', True),
    stuff_crowd=Kind('stuff that is marked as crowd',
                     'Crowd is for things: write iscrowd=0.'),
    stuff_twice=Kind(
        'a stuff class in several segments of one image',
        'A prediction has one segment for each stuff class, so it matches '
        'one of them at most: merge them in JSON and PNG.', True),
    many_objects=Kind(
        'an image with more objects than a model keeps by default',
        'Raise model.test_cfg.rcnn.max_per_img; new_dataset.py does so.'),
    # its categories
    no_category=Kind('"categories" is empty', 'List at least one category.'),
    too_many_categories=Kind('more categories than a panoptic map can hold',
                             'Merge classes.'),
    category_id=Kind(
        'a category id that is not a whole number',
        'Write whole numbers, also in category_id of the segments.'),
    negative_category=Kind(
        'a negative category id',
        'COCO\'s evaluation reads such ids as "no class": count from 1.'),
    category_id_twice=Kind('several categories have one id',
                           'Give each its own id.'),
    category_name_twice=Kind('several categories have one name',
                             'Give each its own name.'),
    isthing=Kind(
        'a category whose isthing is missing or wrong',
        'Write 1 for things, 0 for stuff: check_dataset.py --things and --fix '
        'do so.'),
    unused_category=Kind(
        'a category without any segment',
        'It cannot be learnt or scored here: remove it if it never occurs.'),
    only_crowd=Kind(
        'a thing class whose segments are all crowd',
        'It cannot be learnt or scored: write iscrowd=0 for single objects.'),
    no_things=Kind(
        'there is no thing class',
        'If isthing is 0 throughout, as some exporters write it, name the '
        'things: check_dataset.py --isthing NAME,... --fix OUT.json. Without '
        'things train Semantic FPN (loss_weights.instance=0).'),
    no_stuff=Kind(
        'there is no stuff class',
        'See whether isthing is right; label the background as a stuff class, '
        'or train a panoptic model without stuff, which leaves it void.'),
    mostly_void=Kind(
        'more than half of all pixels are void',
        'They are not learnt: label the background as a stuff class.'),
    other_categories=Kind('the two JSON files list different categories',
                          'Train and validate with the same categories.'),
    # images
    image_missing=Kind('an image is missing',
                       'Restore it, or correct file_name or --images.'),
    image_corrupt=Kind('an image that is damaged or not an image',
                       'Copy it again or remove it from the JSON.'),
    image_size=Kind(
        'height and width in the JSON are not those of the image',
        'Correct the JSON, or strip the orientation tag of the photograph.',
        True),
    image_bits=Kind(
        'an image of more than 8 bits',
        'Models see the upper 8 of them: save 8-bit images, scaled by the '
        'largest value of the data (4095 for 12 bits).'),
    image_turned=Kind(
        'an image that its orientation tag turns or mirrors to its own size',
        'It is read so: see whether its PNG fits (tools/browse_dataset.py), '
        'else strip the tag.'),
    # PNGs
    png_missing=Kind('a panoptic PNG is missing',
                     'Restore it, or correct file_name or --panoptic.'),
    png_corrupt=Kind('a panoptic PNG that is damaged or not a PNG',
                     'Export it again or remove its annotation.'),
    png_single_channel=Kind(
        'a panoptic PNG with one channel',
        f'{_RGB} tools/dataset_converters/cityscapes_style.py does it for '
        'label maps of id * 1000 + number.'),
    png_format=Kind('a panoptic PNG of another format', _RGB),
    png_blended=Kind(
        'a panoptic PNG resized with interpolation or compressed with loss',
        'Its ids are lost: export it again, and resize by nearest neighbour.'),
    png_swapped=Kind(
        'a panoptic PNG with R and B swapped (BGR)',
        'Swap the channels back: cv2.imwrite takes rgb[..., ::-1].'),
    png_size=Kind('a panoptic PNG that is not of its image\'s size',
                  'Export the PNG at the size of the image.'),
    png_of_another_image=Kind(
        'PNG and JSON have no segment id in common',
        'This looks like the PNG of another image: correct file_name.'),
    ids_only_in_png=Kind(
        'pixels of ids that the JSON does not list',
        'Add the segments to segments_info or make the pixels black (void).',
        True),
    ids_only_in_json=Kind('segments without a pixel in the PNG',
                          'Remove them from segments_info.', True),
    area=Kind(
        'an area that is not the number of pixels in the PNG',
        'Correct it: official scripts compute IoUs with it (ours count '
        'pixels).', True),
    bbox=Kind(
        'a bbox that is not the one of the pixels',
        'Correct it: [x, y, width, height] in pixels; mmdet trains on it '
        '(ours is taken from the PNG).', True),
    all_void=Kind('an annotation without a labelled pixel',
                  'Annotate the image, or remove it.'),
    png_extra=Kind('PNGs that no annotation names',
                   'Add their annotations, or move the files away.'),
    # several images
    same_picture=Kind('the same picture under several ids',
                      'Keep one of them.'),
    leakage=Kind('the same picture in both data sets',
                 'Remove it from one of them: its score says nothing.'),
)


@dataclass(frozen=True)
class Fault:
    """``kind``, the file (and place in it), and the value."""

    kind: str
    where: str
    value: str
    severity: str = ERROR

    def __str__(self) -> str:
        fix = KINDS[self.kind].fix if self.kind in KINDS else 'Correct it.'
        return f'{self.where}: {self.value}. {fix}'


#: Yields faults and returns what can be used in spite of them.
Found = Generator[Fault, None, _T]


class Faults:
    """Counts of each kind and their first examples.

    Args:
        keep (int): Examples of a kind to keep; the others are counted.
    """

    def __init__(self, keep: int = 1000) -> None:
        self.keep = keep
        self.counts: Counter[str] = Counter()
        self.examples: Dict[str, List[Fault]] = {}

    def add(self, fault: Fault) -> None:
        self.counts[fault.kind] += 1
        kept = self.examples.setdefault(fault.kind, [])
        if len(kept) < self.keep:
            kept.append(fault)

    def extend(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            self.add(fault)

    def kinds(self, severity: str) -> List[str]:
        """Kinds that were found, in the order of :data:`KINDS`."""
        found = [
            kind for kind, examples in self.examples.items()
            if examples[0].severity == severity
        ]
        return sorted(found, key=[*KINDS, *sorted(found)].index)

    def total(self, severity: str) -> int:
        return sum(self.counts[kind] for kind in self.kinds(severity))


def parse_object(content: bytes, path: str) -> dict:
    """The object that a JSON of one of COCO's formats holds."""
    found = parse_json(content, path)
    if not isinstance(found, dict):
        raise InputError(
            f'{path}: a {type(found).__name__} at the top level, not an '
            'object with images, categories and annotations. Export it again.')
    return found


def collect(found: Found[_T], add: Callable[[Fault], Any]) -> _T:
    """Call ``add`` with every fault of a generator; its return value."""
    while True:
        try:
            add(next(found))
        except StopIteration as end:
            return end.value


def raise_first(found: Found[_T]) -> _T:
    """Return value of a generator; its first fault is raised as InputError."""

    def stop(fault: Fault) -> None:
        raise InputError(str(fault))

    return collect(found, stop)


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a value of a JSON is a whole number (``true`` is not)."""
    return type(value) is int


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of a JSON is a number of a size to compute with."""
    return type(value) in (int, float) and abs(value) < 2**53


def is_id(value: Any) -> TypeGuard[Union[int, str]]:
    """Whether a value of a JSON may be the id of an image."""
    return type(value) in (int, str)


def short(value: Any) -> str:
    """A value of a JSON for a message."""
    try:
        text = repr(value)
    except RecursionError:
        text = f'a deeply nested {type(value).__name__}'
    return text if len(text) <= 120 else f'{text[:120]}...'


def list_of(content: dict, key: str, kind: type) -> List[Any]:
    """Values of one type in a list of a JSON, if it is there."""
    values = content.get(key)
    values = values if isinstance(values, list) else []
    return [value for value in values if type(value) is kind]


def key_fault(entry: dict,
              key: str,
              where: str,
              why: str,
              kind: str = 'wrong_value') -> Fault:
    """Fault of a key that is missing, or ``why`` its value cannot be used."""
    if key not in entry:
        return Fault('key_missing', where, f'no "{key}"')
    return Fault(kind, where, f'{key}={short(entry[key])} {why}')
