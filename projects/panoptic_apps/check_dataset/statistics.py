"""Classes and sizes of a data set, counted in the PNGs."""
from array import array
from typing import Dict, List, Tuple

import numpy as np
from tabulate import tabulate

from panoptic_fpn.coco_format import Pair
from panoptic_fpn.coco_format.panoptic import category_of, count_objects

from .image_files import ImageResult

#: COCO's borders between small, medium and large, in pixels.
SMALL, MEDIUM = 32**2, 96**2


class Statistics:
    """Counts of a data set, image by image.

    Args:
        categories (dict[int, dict]): By id.
    """

    def __init__(self, categories: Dict[int, dict]) -> None:
        self._categories = categories
        # (image, iscrowd, area) of each segment, by category
        self._segments = {id_: array('q') for id_ in categories}
        self._sizes: List[Tuple[int, int]] = []
        self._num_images = self._annotated = self._most_objects = 0
        self._pixels = self._labelled = 0

    def add(self, pair: Pair, result: ImageResult) -> None:
        """Count an image."""
        self._num_images += 1
        self._annotated += pair.annotation is not None
        self._most_objects = max(self._most_objects,
                                 count_objects(pair, self._categories))
        if result.size is not None:
            self._sizes.append(result.size)
        if result.measured is None:
            return
        self._pixels += int(np.prod(self._sizes[-1]))
        self._labelled += sum(area for area, _ in result.measured.values())
        for segment in pair.segments:
            category = category_of(segment, self._categories)
            if segment['id'] in result.measured and category:
                self._segments[category['id']].extend(
                    (self._num_images, segment.get('iscrowd') == 1,
                     result.measured[segment['id']][0]))

    def summary(self) -> Dict:
        """All counts.

        Returns:
            dict: ``images``, ``annotated``, ``segments``, ``most_objects``
            (things of an image that are not crowd), ``pixels`` and
            ``void_share`` (of images that can be read), ``size`` (dict of
            smallest, median, largest (h, w) by area) and ``classes``, each
            with id, name, isthing, images, segments, crowd, pixel_share,
            median_area, small, medium and large.
        """
        rows = [self._row(id_) for id_ in self._categories]
        rows.sort(key=lambda row: (not row['isthing'], row['id']))
        sizes = sorted(self._sizes, key=lambda size: size[0] * size[1])
        return dict(
            images=self._num_images,
            annotated=self._annotated,
            segments=sum(row['segments'] for row in rows),
            most_objects=self._most_objects,
            pixels=self._pixels,
            void_share=1 -
            self._labelled / self._pixels if self._pixels else None,
            size=dict(
                smallest=list(sizes[0]),
                median=list(sizes[len(sizes) // 2]),
                largest=list(sizes[-1])) if sizes else {},
            classes=rows)

    def _row(self, id_: int) -> Dict:
        category = self._categories[id_]
        images, crowd, areas = np.frombuffer(self._segments[id_],
                                             np.int64).reshape(-1, 3).T
        borders = np.histogram(areas, [0, SMALL, MEDIUM, np.inf])[0]
        return dict(
            id=id_,
            name=str(category.get('name')),
            isthing=int(category.get('isthing') == 1),
            images=len(np.unique(images)),
            segments=len(areas),
            crowd=int(crowd.sum()),
            pixel_share=float(areas.sum() / max(self._pixels, 1)),
            median_area=float(np.median(areas)) if len(areas) else None,
            **dict(zip(('small', 'medium', 'large'), borders.tolist())))


def format_statistics(path: str, summary: Dict) -> str:
    """A table of :meth:`Statistics.summary`, for a terminal."""
    classes = summary['classes']
    things = sum(row['isthing'] for row in classes)
    lines = [
        f'{path}: {summary["images"]} images ({summary["annotated"]} '
        f'annotated), {summary["segments"]} segments, {things} thing and '
        f'{len(classes) - things} stuff classes, at most '
        f'{summary["most_objects"]} objects in an image'
    ]
    if summary['size']:
        sizes = ', '.join(f'{name} {h} x {w}'
                          for name, (h, w) in summary['size'].items())
        lines.append(f'height x width: {sizes}')
    head = [
        'class', 'id', 'kind', 'images', 'segments', 'crowd', 'pixels',
        'median area', '< 32^2', '< 96^2', 'larger'
    ]
    rows = [[
        row['name'], row['id'], 'thing' if row['isthing'] else 'stuff',
        row['images'], row['segments'], row['crowd'],
        f'{row["pixel_share"]:.2%}', row['median_area']
        and f'{row["median_area"]:.0f}', row['small'], row['medium'],
        row['large']
    ] for row in classes]
    if summary['void_share'] is not None:
        rows.append(['void', *[None] * 5, f'{summary["void_share"]:.2%}'])
    alignment = ['left', 'right', 'left', *['right'] * 8]
    table = tabulate(rows, head, tablefmt='pretty', colalign=alignment)
    return '\n'.join([*lines, table])
