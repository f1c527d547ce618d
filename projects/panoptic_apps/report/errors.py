"""Sums of what became of segments (``segments.json``)."""
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .segment_errors import KINDS, MATCHED, WRONG_CLASS


class ClassErrors(NamedTuple):
    """Of one class: segments by kind, and the sum of the matched IoUs.

    ``wrong_class`` counts true segments of the class that were called
    something else; ``called`` predicted ones of it that are something else.
    """
    name: str
    matched: int
    wrong_class: int
    poor_mask: int
    missed: int
    spurious: int
    called: int

    @property
    def fn(self) -> int:
        """int: False negatives."""
        return self.wrong_class + self.poor_mask + self.missed

    @property
    def fp(self) -> int:
        """int: False positives."""
        return self.called + self.poor_mask + self.spurious


def by_class(content: Dict) -> List[ClassErrors]:
    """Errors of each class.

    Args:
        content (dict): Of ``segments.json``.
    """
    kind, label, predicted = _columns(content)
    rows = []
    for place, name in enumerate(content['classes']):
        matched, wrong_class, poor_mask, missed = (
            int(((label == place) & (kind == k)).sum()) for k in range(4))
        of = predicted == place
        spurious = int((of & (kind == len(KINDS) - 1)).sum())
        called = int((of & (kind == WRONG_CLASS)).sum())
        rows.append(
            ClassErrors(name, matched, wrong_class, poor_mask, missed,
                        spurious, called))
    return rows


def panoptic_quality(content: Dict) -> Optional[float]:
    """PQ in percent, the mean over classes; None without segments."""
    kind, label, _ = _columns(content)
    iou = np.asarray(content['segments']['iou'], dtype=np.float64)
    qualities = []
    for place, row in enumerate(by_class(content)):
        size = row.matched + (row.fn + row.fp) / 2
        if size:
            matched = iou[(kind == MATCHED) & (label == place)].sum()
            qualities.append(matched / size)
    return 100 * float(np.mean(qualities)) if qualities else None


def confusion(content: Dict) -> np.ndarray:
    """Segments by true class (row) and predicted class (column).

    The last row is nothing (what was seen where nothing is) and the last
    column nothing (what was not found); pairs with a poor mask are in both.

    Args:
        content (dict): Of ``segments.json``, with C classes.

    Returns:
        np.ndarray: int64 (C + 1, C + 1).
    """
    kind, label, predicted = _columns(content)
    size = len(content['classes'])
    table = np.zeros((size + 1, size + 1), np.int64)
    paired = (kind == MATCHED) | (kind == WRONG_CLASS)
    np.add.at(table, (label[paired], predicted[paired]), 1)
    true, seen = ~paired & (label >= 0), ~paired & (predicted >= 0)
    np.add.at(table, (label[true], size), 1)
    np.add.at(table, (size, predicted[seen]), 1)
    return table


def worst_confusions(table: np.ndarray,
                     names: Sequence[str],
                     number: int = 15) -> List[Tuple[str, str, int]]:
    """(true name, predicted name, segments), the most frequent first."""
    inner = table[:-1, :-1].copy()
    np.fill_diagonal(inner, 0)
    order = np.argsort(-inner, axis=None, kind='stable')[:number]
    pairs = zip(*np.unravel_index(order, inner.shape))
    return [(names[a], names[b], int(inner[a, b])) for a, b in pairs
            if inner[a, b]]


def _columns(content: Dict) -> List[np.ndarray]:
    found = content['segments']
    return [
        np.asarray(found[name], dtype=np.int64)
        for name in ('kind', 'label', 'predicted')
    ]
