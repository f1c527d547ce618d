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
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

import numpy as np

from mmengine_exact.errors import InputError

#: Label of a pixel without ground truth (void or padding) in a semantic map.
IGNORE_LABEL = -1

#: A panoptic map holds ``label + INSTANCE_OFFSET * number``, as in mmdet.
INSTANCE_OFFSET = 1000

#: A COCO panoptic PNG stores an id in three bytes; 0 is void.
MAX_SEGMENT_ID = 256**3 - 1


@dataclass(frozen=True)
class Category:
    """One class of a data set: ``id`` of the JSON, name, colour (RGB). Classes
    that differ in their colour alone are equal."""

    id: int
    name: str
    isthing: bool
    color: Tuple[int, int, int] = field(compare=False)


class LabelSpace:
    """The classes of one data set: things first, then stuff.

    Args:
        categories (Iterable[Category]): The classes; things and stuff each
            in the order of their labels.
        source (str): File or key they come from, for error messages.

    Attributes:
        num_things, num_stuff, num_classes (int): How many classes there are.
        void (int): Value of a void pixel in a panoptic map: the number of
            classes.
        names, thing_names, stuff_names (tuple[str]): By label.
        palette (tuple[tuple[int, int, int]]): RGB colour of each label.
        category_ids (tuple[int]): Category id of each label.
    """

    def __init__(self,
                 categories: Iterable[Category],
                 source: str = 'categories') -> None:
        self.categories = tuple(
            sorted(categories, key=lambda c: not c.isthing))
        self.source = source
        self.num_classes = self.void = len(self.categories)
        self.num_things = sum(c.isthing for c in self.categories)
        self.num_stuff = self.num_classes - self.num_things
        self.names = tuple(c.name for c in self.categories)
        self.thing_names = self.names[:self.num_things]
        self.stuff_names = self.names[self.num_things:]
        self.palette = tuple(c.color for c in self.categories)
        self.category_ids = tuple(c.id for c in self.categories)
        self._label_of_id = {id_: i for i, id_ in enumerate(self.category_ids)}

    @classmethod
    def from_coco(cls,
                  categories: Sequence[Mapping],
                  source: str = 'categories') -> 'LabelSpace':
        """Build from the ``categories`` of a COCO panoptic JSON.

        Labels follow the category ids, whatever the order of the JSON, so two
        files that list the same categories in another order give the same
        labels. Nothing is checked: ``coco_format.read_label_space`` is for
        files.
        """
        found = [
            Category(c['id'], str(c['name']), bool(c['isthing']),
                     tuple(c.get('color') or default_color(i)))
            for i, c in enumerate(categories)
        ]
        return cls(sorted(found, key=lambda c: c.id), source)

    def choose(self, names: Sequence[str], source: str) -> 'LabelSpace':
        """Some of the classes; things and stuff each in the order of
        ``names``."""
        by_name = dict(zip(self.names, self.categories))
        return LabelSpace([by_name[name] for name in names], source)

    @classmethod
    def from_metainfo(cls,
                      metainfo: Mapping,
                      source: str = 'metainfo') -> 'LabelSpace':
        """Build from a dataset's metainfo (the inverse of :meth:`metainfo`).

        ``category_ids`` may be missing, as in metainfo of mmdet's datasets:
        labels then stand for category ids.
        """
        try:
            names = list(metainfo['classes'])
            things = metainfo['thing_classes']
            ids = metainfo.get('category_ids') or range(len(names))
            palette = metainfo.get('palette') or map(default_color,
                                                     range(len(names)))
            return cls([
                Category(int(id_), name, name in things, tuple(color))
                for id_, name, color in zip(ids, names, palette)
            ], source)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f'{source}: its metainfo does not say what the classes are '
                f'({error!r}). Give "classes", "thing_classes" and '
                '"stuff_classes" as lists of names.') from None

    def label(self, category_id: int) -> int:
        """Label of a category id."""
        return self._label_of_id[category_id]

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

    def difference(self, other: 'LabelSpace') -> List[Tuple]:
        """(id, name, isthing) of categories that only one of the two has."""
        odd = {*self.categories} ^ {*other.categories}
        return sorted([(c.id, c.name, c.isthing) for c in odd], key=str)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other,
                          LabelSpace) and self.categories == other.categories

    def __repr__(self) -> str:
        return (f'LabelSpace(things={self.num_things}, '
                f'stuff={self.num_stuff}, source={self.source!r})')


def semantic_channels(num_things: int,
                      num_stuff: int,
                      predict_things: bool = False) -> np.ndarray:
    """Channel of the semantic head for each label, int64 (T + S, ).

    With ``predict_things`` each thing class has a channel of its own
    (Cityscapes, section 4.1 of the paper). Otherwise stuff label ``T + s`` has
    channel ``s`` and every thing channel ``S``, 'other' (COCO).
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
    """
    stuff = np.arange(num_things, num_things + num_stuff)
    void = num_things + num_stuff
    if predict_things:
        return np.concatenate([np.full(num_things, void), stuff])
    return np.append(stuff, void)


def encode_panoptic(labels: Any, numbers: Any) -> np.ndarray:
    """``label + 1000 * number`` of arrays or integers."""
    return np.asarray(labels) + INSTANCE_OFFSET * np.asarray(numbers)


def id_to_rgb(ids: np.ndarray) -> np.ndarray:
    """COCO PNG colours, uint8 RGB (..., 3), of ids 0..2**24 - 1 (...)."""
    ids = np.asarray(ids).astype('<u4', order='C')
    return ids[..., None].view(np.uint8)[..., :3]


def rgb_to_id(rgb: np.ndarray) -> np.ndarray:
    """Segment ids, int32 (...), of COCO PNG colours, uint8 RGB (..., 3)."""
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
