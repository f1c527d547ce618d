"""Label spaces and segment ids of panoptic segmentation.

Three ways to name a class are in use and this module is the only place that
converts between them:

category id   the ``id`` of the user's JSON; any integers, any order
label         contiguous; things ``0 .. T-1``, stuff ``T .. T+S-1``
channel       of the semantic head; either every label, or the stuff classes
              ``0 .. S-1`` and then one channel ``S``, 'other' (any thing)

and two ways to write a panoptic map of shape (h, w):

panoptic map  ``label + 1000 * number``, void = ``T + S`` (mmdet's encoding)
COCO PNG      ``R + 256 * G + 256**2 * B``, void = 0

Needs numpy alone.
"""
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from typing import (Any, Dict, Iterable, List, Mapping, Sequence, Tuple,
                    TypeGuard)

import numpy as np

from mmengine_exact.errors import InputError

#: Label of a pixel without ground truth (void or padding) in a semantic map.
IGNORE_LABEL = -1

#: A panoptic map holds ``label + INSTANCE_OFFSET * number``, as in mmdet.
INSTANCE_OFFSET = 1000

#: A COCO panoptic PNG stores an id in three bytes; 0 is void.
MAX_SEGMENT_ID = 256**3 - 1


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a value of a JSON is a whole number (``true`` is none)."""
    return isinstance(value, int) and not isinstance(value, bool)


def short(value: Any) -> str:
    """A value of a JSON for an error message."""
    try:
        text = repr(value)
    except RecursionError:
        text = f'a deeply nested {type(value).__name__}'
    return text if len(text) <= 120 else f'{text[:120]}...'


class LabelSpaceError(InputError):
    """Categories, class counts or ids that cannot be used as they are."""


@dataclass(frozen=True)
class Category:
    """One class of a data set: ``id`` of the JSON, name, colour (RGB)."""

    id: int
    name: str
    isthing: bool
    color: Tuple[int, int, int]


class LabelSpace:
    """The classes of one data set: things first, then stuff.

    Within each group labels follow the category ids, whatever the order of
    the JSON, so two files that list the same categories in another order
    give the same labels.

    Args:
        categories (Iterable[Category]): The classes, in any order.
        source (str): File or key they come from, for error messages.

    Raises:
        LabelSpaceError: No category, two categories that share an id or a
            name, or more classes than a panoptic map can hold (999).
    """

    def __init__(self,
                 categories: Iterable[Category],
                 source: str = 'categories') -> None:
        categories = list(categories)
        if not categories:
            raise LabelSpaceError(f'{source}: no category. List at least one.')
        if len(categories) >= INSTANCE_OFFSET:
            raise LabelSpaceError(
                f'{source}: {len(categories)} categories, but a panoptic map '
                f'holds at most {INSTANCE_OFFSET - 1}. Merge classes.')
        for key in ('id', 'name'):
            seen = set()
            for category in categories:
                value = getattr(category, key)
                if value in seen:
                    raise LabelSpaceError(
                        f'{source}: two categories have the {key} {value!r}. '
                        f'Give each category its own {key}.')
                seen.add(value)
        self.categories = tuple(
            sorted(categories, key=lambda c: (not c.isthing, c.id)))
        self.source = source
        self.num_things = sum(c.isthing for c in categories)
        self._label_of_id = {c.id: i for i, c in enumerate(self.categories)}

    @classmethod
    def from_coco(cls,
                  categories: Sequence[Mapping],
                  source: str = 'categories') -> 'LabelSpace':
        """Build from the ``categories`` list of a COCO panoptic JSON.

        Args:
            categories (Sequence[Mapping]): Each with ``id``, ``name``,
                ``isthing`` and, optionally, ``color`` (RGB).
            source (str): File they come from, for error messages.

        Raises:
            LabelSpaceError: As the constructor, or a category without
                ``id``, ``name`` or a usable ``isthing``.
        """
        parsed: List[Category] = []
        for entry in categories:
            if not isinstance(entry, Mapping):
                raise LabelSpaceError(f'{source}: category {short(entry)} is '
                                      'no object with id, name and isthing.')
            for key in ('id', 'name', 'isthing'):
                if key not in entry:
                    raise LabelSpaceError(
                        f'{source}: category {short(entry)} has no {key!r}. '
                        'Panoptic categories need id, name and isthing '
                        '(1 for things, 0 for stuff).')
            if entry['isthing'] not in (0, 1):
                raise LabelSpaceError(
                    f'{source}: category {short(entry["name"])} has isthing='
                    f'{short(entry["isthing"])}. Write 1 for things, 0 for '
                    'stuff.')
            parsed.append(
                Category(
                    _category_id(entry, source), _category_name(entry, source),
                    bool(entry['isthing']),
                    _category_color(entry, len(parsed), source)))
        return cls(parsed, source)

    @classmethod
    def from_metainfo(cls,
                      metainfo: Mapping,
                      source: str = 'metainfo') -> 'LabelSpace':
        """Build from a dataset's metainfo (the inverse of :meth:`metainfo`).

        ``category_ids`` may be missing, as in metainfo of mmdet's datasets:
        labels then stand for category ids.

        Raises:
            LabelSpaceError: The classes cannot be told from it.
        """
        try:
            return cls._from_metainfo(metainfo, source)
        except LabelSpaceError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise LabelSpaceError(
                f'{source}: the classes in its metainfo are not understood '
                f'({error!r}). Give "classes", "thing_classes" and '
                '"stuff_classes" as lists of names.') from None

    @classmethod
    def _from_metainfo(cls, metainfo: Mapping, source: str) -> 'LabelSpace':
        things = metainfo['thing_classes']
        names = list(metainfo['classes'])
        ids = metainfo.get('category_ids') or range(len(names))
        palette = metainfo.get('palette') or [
            default_color(i) for i in range(len(names))
        ]
        thing_names = set(things)
        if not thing_names <= set(names) or not all(
                isinstance(name, str) for name in names):
            raise ValueError('names')
        if min(len(ids), len(palette)) < len(names):
            raise ValueError('fewer ids or colours than classes')
        return cls([
            Category(int(id_), name, name in thing_names, tuple(color))
            for id_, name, color in zip(ids, names, palette)
        ], source)

    @property
    def num_stuff(self) -> int:
        return len(self.categories) - self.num_things

    @property
    def num_classes(self) -> int:
        return len(self.categories)

    @property
    def void(self) -> int:
        """Value of a void pixel in a panoptic map: the number of classes."""
        return len(self.categories)

    @property
    def names(self) -> Tuple[str, ...]:
        return tuple(c.name for c in self.categories)

    @property
    def thing_names(self) -> Tuple[str, ...]:
        return self.names[:self.num_things]

    @property
    def stuff_names(self) -> Tuple[str, ...]:
        return self.names[self.num_things:]

    @property
    def palette(self) -> Tuple[Tuple[int, int, int], ...]:
        """RGB colour of each label."""
        return tuple(c.color for c in self.categories)

    @property
    def category_ids(self) -> Tuple[int, ...]:
        """Category id of each label."""
        return tuple(c.id for c in self.categories)

    def label(self, category_id: int) -> int:
        """Label of a category id.

        Raises:
            LabelSpaceError: The id is not one of the categories.
        """
        try:
            return self._label_of_id[category_id]
        except KeyError:
            raise LabelSpaceError(
                f'{self.source}: unknown category_id {category_id!r}; known '
                f'are {sorted(self._label_of_id)}. Add the category or '
                'correct the segment.') from None

    def is_thing(self, label: int) -> bool:
        return label < self.num_things

    def metainfo(self) -> Dict:
        """The keys mmdet's panoptic datasets have, and ``category_ids``."""
        return dict(
            classes=self.names,
            thing_classes=self.thing_names,
            stuff_classes=self.stuff_names,
            palette=list(self.palette),
            category_ids=self.category_ids)

    def _described(self) -> List[Tuple]:
        return [(c.id, c.name, c.isthing) for c in self.categories]

    def difference(self, other: 'LabelSpace') -> List[Tuple]:
        """(id, name, isthing) of categories that one of two alone has."""
        return sorted({*self._described()} ^ {*other._described()}, key=str)

    def __eq__(self, other: Any) -> bool:
        return isinstance(
            other, LabelSpace) and self._described() == other._described()

    def __hash__(self) -> int:
        return hash(self.category_ids)

    def __repr__(self) -> str:
        return (f'LabelSpace(things={self.num_things}, '
                f'stuff={self.num_stuff}, source={self.source!r})')


def _category_id(entry: Mapping, source: str) -> int:
    id_ = entry['id']
    if isinstance(id_, str) and id_.isascii() and id_.isdecimal():
        id_ = int(id_[:20])
    if isinstance(id_, (float, np.integer)) and id_ == id_ // 1:
        id_ = int(id_)
    if not is_whole(id_) or abs(id_) >= 2**63:
        raise LabelSpaceError(
            f'{source}: category {short(entry["name"])} has id={short(id_)}. '
            'Write a whole number.')
    return id_


def _category_name(entry: Mapping, source: str) -> str:
    name = entry['name']
    if not isinstance(name, str) and not is_whole(name):
        raise LabelSpaceError(
            f'{source}: category id={short(entry["id"])} has name='
            f'{short(name)}. Write a string.')
    return str(name)


def _category_color(entry: Mapping, place: int,
                    source: str) -> Tuple[int, int, int]:
    color = entry.get('color') or default_color(place)
    if not isinstance(color, (list, tuple)) or len(color) != 3 or not all(
            is_whole(part) and 0 <= part < 256 for part in color):
        raise LabelSpaceError(
            f'{source}: category {short(entry["name"])} has color='
            f'{short(color)}. Write [R, G, B], each 0 to 255, or leave it '
            'out.')
    return color[0], color[1], color[2]


def semantic_channels(num_things: int,
                      num_stuff: int,
                      predict_things: bool = False) -> np.ndarray:
    """Channel of the semantic head for each label.

    Args:
        num_things (int): T.
        num_stuff (int): S.
        predict_things (bool): Whether each thing class has a channel of its
            own (Cityscapes, section 4.1 of the paper) or all share 'other'
            (COCO).

    Returns:
        np.ndarray: int64 of shape (T + S, ). Without ``predict_things``
        stuff label ``T + s`` has channel ``s`` and every thing channel ``S``.
    """
    if predict_things:
        return np.arange(num_things + num_stuff)
    return np.concatenate(
        [np.full(num_things, num_stuff),
         np.arange(num_stuff)])


def channel_labels(num_things: int,
                   num_stuff: int,
                   predict_things: bool = False) -> np.ndarray:
    """Stuff label of each channel of the semantic head, or void.

    Void (``T + S``) stands for channels that paint nothing in a panoptic
    map: 'other', and things predicted by the semantic branch (section 4.1:
    'for panoptic inference we discard these predictions').

    Returns:
        np.ndarray: int64 of shape (S + 1, ) or (T + S, ).
    """
    stuff = np.arange(num_things, num_things + num_stuff)
    void = num_things + num_stuff
    if predict_things:
        return np.concatenate([np.full(num_things, void), stuff])
    return np.append(stuff, void)


def encode_panoptic(labels: Any, numbers: Any) -> Any:
    """``label + 1000 * number``; arrays or integers.

    Raises:
        LabelSpaceError: A label outside 0..999 or a negative number.
    """
    labels, numbers = np.asarray(labels), np.asarray(numbers)
    bad = (labels < 0) | (labels >= INSTANCE_OFFSET)
    if bad.any():
        raise LabelSpaceError(
            f'label {labels[bad].flat[0] if labels.ndim else int(labels)} '
            f'does not fit a panoptic map (0..{INSTANCE_OFFSET - 1}).')
    if (numbers < 0).any():
        raise LabelSpaceError(f'instance number {numbers.min()} is negative.')
    return labels + INSTANCE_OFFSET * numbers


def id_to_rgb(ids: np.ndarray) -> np.ndarray:
    """COCO PNG colours of segment ids.

    Args:
        ids (np.ndarray): Integers of any shape (...), 0..2**24 - 1.

    Returns:
        np.ndarray: uint8 of shape (..., 3), RGB.

    Raises:
        LabelSpaceError: An id that three bytes cannot hold.
    """
    ids = np.asarray(ids)
    if ids.size and (ids.min() < 0 or ids.max() > MAX_SEGMENT_ID):
        bad = ids.min() if ids.min() < 0 else ids.max()
        raise LabelSpaceError(
            f'segment id {bad} does not fit a COCO panoptic PNG '
            f'(0..{MAX_SEGMENT_ID}). Renumber the segments.')
    ids = ids.astype(np.uint32)
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16],
                    axis=-1).astype(np.uint8)


def rgb_to_id(rgb: np.ndarray) -> np.ndarray:
    """Segment ids of COCO PNG colours; the inverse of :func:`id_to_rgb`.

    Args:
        rgb (np.ndarray): uint8 of shape (..., 3), RGB.

    Returns:
        np.ndarray: int32 of shape (...).
    """
    rgb = np.asarray(rgb).astype(np.int32)
    return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]


def default_color(index: int) -> Tuple[int, int, int]:
    """A saturated RGB colour for a class whose JSON gives none.

    Hues step by the golden angle, so neighbours in the list differ.
    """
    hue = index * 0.61803398875 % 1
    saturation = 0.6 + 0.35 * (index * 0.7548776662 % 1)
    value = 0.65 + 0.3 * (index * 0.5698402910 % 1)
    red, green, blue = hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
