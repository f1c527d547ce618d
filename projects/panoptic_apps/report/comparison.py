"""Which differences of PQ between two runs are beyond chance.

Paired bootstrap: images that both runs have are drawn with replacement, the
same for both, and PQ of their summed counts is computed anew. The 95 %
interval of a difference is where its values lie but for 2.5 % on each side.

A mark says that the interval excludes 0 and that there are enough images: with
fewer than six, a difference that has the same sign in each of them has it by
chance in more than 5 % of all cases (2 / 2**5).
"""
from dataclasses import dataclass
from pathlib import Path
from typing import (Any, ClassVar, Dict, List, NamedTuple, Sequence, Tuple,
                    Union)

import numpy as np
from tabulate import tabulate

from mmengine_exact.errors import InputError
from mmengine_exact.files import parse_json, read_bytes
from panoptic_fpn.metrics.extra_measures import (INTERVAL, quality_with_means,
                                                 resampled_quality)

RESAMPLES, LEAST_IMAGES = 2000, 6
#: Labels (k, ) with anything to count in an image, and their counts (k, 4).
Row = Tuple[np.ndarray, np.ndarray]


class ImageCounts(NamedTuple):
    """PQ's counts by image: names of C classes, things first, and rows by
    image id."""
    names: Tuple[str, ...]
    num_things: int
    rows: Dict[Any, Row]


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


@dataclass(frozen=True)
class Comparison:
    """Differences of the means (all, things, stuff) and of classes, over
    ``images`` that both runs have; ``others``: that only one of them has."""
    means: List[Difference]
    classes: List[Difference]
    images: int
    others: int

    #: Of the columns of :meth:`rows`.
    heads: ClassVar[Sequence[str]] = ('', 'images', 'PQ', 'other PQ',
                                      'difference', 'from', 'to', '')

    def rows(self) -> List[List[str]]:
        """Lines of a table."""
        return [[
            d.name,
            str(d.images), f'{d.first:.2f}', f'{d.second:.2f}',
            *(f'{value:+.2f}'
              for value in (d.change, d.low, d.high)), '*' if d.marked else ''
        ] for d in [*self.means, *self.classes]]

    def note(self) -> str:
        """How to read the table."""
        tested = [d for d in self.classes if d.images >= LEAST_IMAGES]
        marked = sum(d.marked for d in tested)
        left_out = f'; {self.others} that only one has are left out' * bool(
            self.others)
        return (
            f'Over {self.images} images that both have{left_out}. 95 % '
            f'intervals from {RESAMPLES} resamples of these images. * the '
            f'interval excludes 0 (of no less than {LEAST_IMAGES} images). Of '
            f'{len(tested)} classes {marked} are marked; where nothing '
            f'differs, chance marks about {0.05 * len(tested):.1f} of them.')


def compare(first: ImageCounts,
            second: ImageCounts,
            seed: int = 0) -> Comparison:
    """Differences of PQ between two runs, the first minus the second.

    Args:
        first, second (ImageCounts): See :func:`read_images`.
        seed (int): Of the resamples.

    Raises:
        InputError: They have no image in common, or other classes.
    """
    shared = [i for i in first.rows if i in second.rows]
    faults = {
        'other classes': first[:2] != second[:2],
        'no image in common': not shared
    }
    for fault in filter(faults.get, faults):
        raise InputError(f'The two runs have {fault}, so nothing is compared. '
                         'Evaluate both on the same data.')
    runs = [[run.rows[i] for i in shared] for run in (first, second)]
    means, classes = _differences(runs, first.names, first.num_things, seed)
    return Comparison(means, classes, len(shared),
                      len(first.rows.keys() ^ second.rows.keys()))


def _differences(runs: List[List[Row]], names: Sequence[str], num_things: int,
                 seed: int) -> Tuple[List[Difference], List[Difference]]:
    """Differences of means and of classes, of two runs on the same images."""
    size = len(names)
    seen = np.zeros((len(runs[0]), size), bool)
    total = np.zeros((2, size, 4))
    for rows, sums in zip(runs, total):
        for image, (labels, counts) in enumerate(rows):
            sums[labels] += counts
            seen[image, labels] = True
    groups = seen, seen[:, :num_things], seen[:, num_things:]
    images = [*(of.any(1).sum() for of in groups), *seen.sum(0)]
    first, second = (quality_with_means(sums, num_things) for sums in total)
    one, two = (
        resampled_quality(rows, size, num_things, RESAMPLES, seed)
        for rows in runs)
    # without classes that only one run has a PQ of
    kept = np.flatnonzero(~np.isnan(first - second))
    low, high = np.nanpercentile((one - two)[:, kept], INTERVAL, axis=0)
    every = ['all', 'things', 'stuff', *names]
    values = np.stack(
        [first[kept], second[kept], (first - second)[kept], low, high], 1)
    found = [
        Difference(every[i], int(images[i]), *row)
        for i, row in zip(kept, values.tolist())
    ]
    means = int((kept < 3).sum())
    return found[:means], found[means:]


def format_comparison(found: Comparison) -> str:
    """Table and note for a terminal."""
    alignment = ['left', *['right'] * 6, 'left']
    table = tabulate(
        found.rows(), found.heads, tablefmt='pretty', colalign=alignment)
    return f'{table}\n{found.note()}'


def read_images(path: Union[str, Path]) -> ImageCounts:
    """Read an ``images.json``.

    Raises:
        InputError: It is missing, or something else.
    """
    fix = "Evaluate with PanopticQualityMetric(extra=['images'])."
    text = read_bytes(str(path), 'scores of images', None, fix)
    content = parse_json(text, str(path))
    try:
        things, stuff = content['thing_classes'], content['stuff_classes']
        label_of = {name: i for i, name in enumerate([*things, *stuff])}
        return ImageCounts(
            tuple(label_of), len(things), {
                row['image_id']:
                (np.array([label_of[name] for name in row['counts']], int),
                 np.array([*row['counts'].values()], float).reshape(-1, 4))
                for row in content['images']
            })
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f'{path}: no scores of images ({error!r}). {fix}') from None
