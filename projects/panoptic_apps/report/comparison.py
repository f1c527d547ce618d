"""Which differences of PQ between two runs are beyond chance.

Paired bootstrap: images that both runs have are drawn with replacement, the
same for both, and PQ of their summed counts is computed anew. The 95 %
interval of a difference is where its values lie but for 2.5 % on each side.

A mark says that the interval excludes 0 and that there are enough images: with
fewer than six, a difference that has the same sign in each of them has it by
chance in more than 5 % of all cases (2 / 2**5).
"""
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Union

import numpy as np
from tabulate import tabulate

from mmengine_exact.errors import InputError
from mmengine_exact.files import read_bytes
from panoptic_fpn.coco_format import parse_object
from panoptic_fpn.metrics.base import ratio

FILE_NAME = 'images.json'
#: Resamples, and how many of them are held in memory at once.
RESAMPLES, AT_ONCE = 2000, 50
LEAST_IMAGES = 6


class Difference(NamedTuple):
    """PQ of a class or group in two runs, in percent: ``change`` is the first
    minus the second, ``low`` to ``high`` its interval; ``images``: that have
    such a segment, in ground truth or one of the predictions."""
    name: str
    images: int
    first: float
    second: float
    change: float
    low: float
    high: float

    @property
    def marked(self) -> bool:
        return self.images >= LEAST_IMAGES and not self.low <= 0 <= self.high


class Comparison(NamedTuple):
    """Differences of all classes, things, stuff, and then each class, over
    ``images`` that both runs have; ``others``: that only one of them has."""
    differences: List[Difference]
    images: int
    others: int

    #: Of the columns of :meth:`rows`.
    heads = ('', 'images', 'PQ', 'other PQ', 'difference', 'from', 'to', '')

    def rows(self) -> List[List[str]]:
        """Lines of a table."""
        return [[
            d.name,
            str(d.images), f'{d.first:.2f}', f'{d.second:.2f}',
            *(f'{value:+.2f}'
              for value in (d.change, d.low, d.high)), '*' if d.marked else ''
        ] for d in self.differences]

    def note(self) -> str:
        """How to read the table."""
        classes = self.differences[3:]
        tested = [d for d in classes if d.images >= LEAST_IMAGES]
        marked = sum(d.marked for d in classes)
        left_out = f'; {self.others} that only one has are left out' * bool(
            self.others)
        return (
            f'Over {self.images} images that both have{left_out}. 95 % '
            f'intervals from {RESAMPLES} resamples of these images. * the '
            f'interval excludes 0 (of no less than {LEAST_IMAGES} images). Of '
            f'{len(tested)} classes {marked} are marked; where nothing '
            f'differs, chance marks about {0.05 * len(tested):.1f} of them.')


def compare(first: Dict, second: Dict, seed: int = 0) -> Comparison:
    """Differences of PQ between two runs, the first minus the second.

    Args:
        first, second (dict): Contents of their ``images.json``.
        seed (int): Of the resamples.

    Raises:
        InputError: They have no image in common, or other classes.
    """
    names = first['classes']
    if names != second['classes']:
        raise InputError('the two runs have other classes, so nothing is '
                         'compared. Evaluate both on the same data.')
    other = {str(row['id']): row for row in second['images']}
    pairs = [(row, other[str(row['id'])]) for row in first['images']
             if str(row['id']) in other]
    if not pairs:
        raise InputError('the two runs have no image in common, so nothing is '
                         'compared. Evaluate both on the same data.')
    counts = np.zeros((2, len(pairs), len(names), 4))
    index = {name: i for i, name in enumerate(names)}
    for i, pair in enumerate(pairs):
        for run, row in enumerate(pair):
            for name, values in row['counts'].items():
                counts[run, i, index[name]] = values
    total = len(first['images']) + len(second['images'])
    return Comparison(
        differences(counts, names, first['num_things'], seed), len(pairs),
        total - 2 * len(pairs))


def differences(counts: np.ndarray, names: List[str], num_things: int,
                seed: int) -> List[Difference]:
    """Differences of counts (2, N, C, 4) of tp, fp, fn, iou of two runs."""
    seen = counts[..., :3].any(axis=(0, 3))  # (N, C)
    groups = seen, seen[:, :num_things], seen[:, num_things:]
    images = [*(of.any(axis=1).sum() for of in groups), *seen.sum(axis=0)]
    quality = qualities(counts.sum(axis=1), num_things)
    # without classes that only one run has a PQ of
    kept = np.flatnonzero(~np.isnan(quality).any(axis=0))
    rng, changes = np.random.default_rng(seed), []
    flat, size = counts.reshape(2, len(seen), -1), len(seen)
    for _ in range(RESAMPLES // AT_ONCE):
        drawn = rng.integers(size, size=(AT_ONCE, size))
        times = np.stack([np.bincount(row, minlength=size) for row in drawn])
        sums = (times.astype(np.float64) @ flat).reshape(2, AT_ONCE, -1, 4)
        one, two = qualities(sums, num_things)[..., kept]
        changes.append(one - two)
    low, high = np.nanpercentile(np.concatenate(changes), [2.5, 97.5], axis=0)
    every = ['all', 'things', 'stuff', *names]
    return [
        Difference(every[k], int(images[k]), *map(float, values))
        for k, values in zip(
            kept,
            np.stack([
                *quality[:, kept], quality[0, kept] -
                quality[1, kept], low, high
            ], 1))
    ]


def qualities(counts: np.ndarray, num_things: int) -> np.ndarray:
    """PQ in percent (..., 3 + C) of counts (..., C, 4): means over all
    classes, things and stuff, then each class; NaN where there is nothing."""
    tp, fp, fn, iou = np.moveaxis(counts, -1, 0)
    classes = 100 * ratio(iou, tp + (fp + fn) / 2)
    known, values = ~np.isnan(classes), np.nan_to_num(classes)
    groups = [
        ratio(values[..., of].sum(axis=-1), known[..., of].sum(axis=-1))
        for of in (slice(None), slice(num_things), slice(num_things, None))
    ]
    return np.concatenate([np.stack(groups, axis=-1), classes], axis=-1)


def format_comparison(found: Comparison) -> str:
    """Table and note for a terminal."""
    alignment = ['left', *['right'] * 6, 'left']
    table = tabulate(
        found.rows(), found.heads, tablefmt='pretty', colalign=alignment)
    return f'{table}\n{found.note()}'


def read_images(path: Union[str, Path]) -> Dict[str, Any]:
    """Content of an ``images.json``.

    Raises:
        InputError: It is missing, or something else.
    """
    content = parse_object(read_bytes(str(path), 'scores', None), str(path))
    if not {'classes', 'num_things', 'images'} <= content.keys():
        raise InputError(f'{path}: no scores by image. Evaluate with '
                         "PanopticQualityMetric(extra=['images']).")
    return content
