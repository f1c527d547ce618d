"""Outcome of each segment: matched, or which error was made.

Errors of panoptic quality are false negatives and false positives; here each
has one cause. Of the segments that nothing matches:

wrong_class   a predicted and a true segment of different classes with an IoU
              above 0.5: one false negative and one false positive
poor_mask     two of the same class with an IoU from 0.1 to 0.5, the best
              pairs first: one of each, too
missed        other true segments: a false negative each
spurious      other predicted segments: a false positive each

So fn = wrong_class + poor_mask + missed and fp = wrong_class + poor_mask +
spurious, by image and in all.

``segments.json``     outcomes of all images, as columns
``segments/ID.npz``   maps (h, w) ``gt`` and ``pred`` of the best and the worst
                      images
"""
import heapq
import io
import json
import logging
import shutil
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import quote

import numpy as np
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from mmengine_exact.errors import InputError
from mmengine_exact.files import write_bytes
from panoptic_fpn.metrics.base import (CodeError, PerImageMetric, Row,
                                       check_same_shape, image_name,
                                       labels_of_codes, plain_id, to_plane)
from panoptic_fpn.metrics.panoptic_quality import Matching, match_segments

MATCHED, WRONG_CLASS, POOR_MASK, MISSED, SPURIOUS = range(5)
#: Names of the kinds, by their number.
KINDS = ('matched', 'wrong_class', 'poor_mask', 'missed', 'spurious')
#: Least IoU of two segments that were meant to be one.
LEAST_IOU = 0.1
FILE_NAME = 'segments.json'
#: Folder of the maps of the best and the worst images, beside the file.
MAPS = 'segments'


class SegmentOutcome(NamedTuple):
    """Outcome of one true segment, of a predicted one, or of a pair.

    Attributes:
        kind (int): Index into ``KINDS``.
        label (int): Of the ground truth, -1 for none.
        predicted (int): Label of the prediction, -1 for none.
        iou (float): Of the two; 0 for one alone.
        area (int): Pixels, of the true segment where there is one.
    """
    kind: int
    label: int
    predicted: int
    iou: float
    area: int


def explain(found: Matching, gt_labels: np.ndarray) -> List[SegmentOutcome]:
    """Outcomes of the segments of an image.

    Args:
        found (Matching): Of its segments.
        gt_labels (np.ndarray): (G, ) labels of the ground truth.
    """
    labels = labels_of_codes(found.pred_codes)
    iou = found.inside / np.maximum(found.union, 1)
    sizes = found.inside.sum(axis=1)
    true = np.flatnonzero(found.false_negatives)
    seen = np.flatnonzero(found.false_positives)
    # candidates among those that nothing matches, the best of a kind first
    same = gt_labels[true][:, None] == labels[seen]
    near = iou[np.ix_(true, seen)]
    kinds = np.where(same, POOR_MASK, WRONG_CLASS)
    rows, columns = np.nonzero(np.where(same, near >= LEAST_IOU, near > 0.5))
    order = np.lexsort((-near[rows, columns], kinds[rows, columns]))
    pairs = [(MATCHED, g, p) for g, p in zip(*found.pairs)]
    free_true, free_seen = dict.fromkeys(true), dict.fromkeys(seen)
    for row, column in zip(rows[order], columns[order]):
        g, p = true[row], seen[column]
        if g in free_true and p in free_seen:
            del free_true[g], free_seen[p]
            pairs.append((kinds[row, column], g, p))
    outcomes = [
        SegmentOutcome(
            int(kind), int(gt_labels[g]), int(labels[p]), float(iou[g, p]),
            int(sizes[g])) for kind, g, p in pairs
    ]
    outcomes += [
        SegmentOutcome(MISSED, int(gt_labels[g]), -1, 0., int(sizes[g]))
        for g in free_true
    ]
    return outcomes + [
        SegmentOutcome(SPURIOUS, -1, int(labels[p]), 0., int(found.areas[p]))
        for p in free_seen
    ]


def image_quality(outcomes: List[SegmentOutcome]) -> float:
    """PQ of one image, all classes pooled; NaN without segments."""
    counts = np.bincount([o.kind for o in outcomes], minlength=len(KINDS))
    size = counts[:MISSED].sum() + 0.5 * counts[MISSED:].sum()
    total = sum(o.iou for o in outcomes if o.kind == MATCHED)
    return 100 * total / size if size else float('nan')


def explain_errors(runner: Any) -> None:
    """``tools/test.py --report``: let the test of a runner write the outcome
    of each segment to its work directory.

    Args:
        runner (Runner): With annotated test data.
    """
    if is_main_process():  # long before any process writes
        folder = Path(runner.work_dir)
        (folder / FILE_NAME).unlink(missing_ok=True)
        shutil.rmtree(folder / MAPS, ignore_errors=True)
    metric = SegmentErrorMetric(runner.work_dir)
    metric.dataset_meta = runner.test_evaluator.dataset_meta
    runner.test_evaluator.metrics.append(metric)


def map_file(folder: Path, image_id: Any) -> Path:
    """File of the maps of an image, in a work directory."""
    return folder / MAPS / f'{quote(str(image_id), safe="")}.npz'


class SegmentErrorMetric(PerImageMetric):
    """Writes the outcome of each segment, for a report; no scores.

    Args:
        folder (str): Where to; several machines must share it.
        keep (int): Images to keep the maps of, best and worst each.
        **kwargs: As ``PerImageMetric``.
    """
    default_prefix = ''
    prediction = 'pred_panoptic_seg'
    keys = ()

    def __init__(self, folder: str, keep: int = 6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folder = Path(folder)
        self.keep = keep
        # heaps of (PQ to keep the largest of, order, id, content of the file)
        self._kept: Dict[str, List[Tuple]] = dict(best=[], worst=[])

    def image_row(self, sample: Dict) -> Dict:
        """Outcomes of the segments and the image's PQ."""
        space = self.space
        gt, codes, crowd = self.ground_truth(
            sample, 'A report needs annotated images.')
        pred = to_plane(sample[self.prediction]['sem_seg'])
        check_same_shape(sample, self.prediction, pred.shape, gt.shape)
        labels = labels_of_codes(codes)
        try:
            found = match_segments(gt, codes, labels, crowd, pred, space.void,
                                   space.num_classes)
        except CodeError as error:
            raise InputError(
                f'{image_name(sample)}: {error} Check num_things and '
                'num_stuff of the model against the data set.') from None
        outcomes = explain(found, labels)
        quality = image_quality(outcomes)
        if not np.isnan(quality):
            self._keep_maps(quality, sample, gt, pred)
        return dict(
            path=str(sample.get('img_path') or ''),
            quality=quality,
            outcomes=np.array(outcomes, dtype=np.float64).reshape(
                -1, len(SegmentOutcome._fields)))

    def _keep_maps(self, quality: float, sample: Dict, gt: np.ndarray,
                   pred: np.ndarray) -> None:
        order = -len(self.results)  # of two equal ones the first is kept
        for name, value in (('best', quality), ('worst', -quality)):
            heap = self._kept[name]
            if len(heap) < self.keep or (value, order) > heap[0][:2]:
                maps = io.BytesIO()
                np.savez_compressed(
                    maps, gt=gt.astype(np.int32), pred=pred.astype(np.int32))
                heapq.heappush(heap, (value, order, plain_id(
                    sample['img_id']), maps.getvalue()))
                if len(heap) > self.keep:
                    heapq.heappop(heap)

    def evaluate(self, size: int) -> Dict[str, float]:
        """Each process writes its maps; the first one the file."""
        try:
            for heap in self._kept.values():
                for *_, image_id, maps in heap:
                    write_bytes(str(map_file(self.folder, image_id)), maps)
        except OSError as error:
            # the other processes wait; without a map there is no picture
            print_log(
                f'{error.filename}: cannot be written ({error.strerror}), so '
                'the report has not all pictures. Make room there.',
                logger='current',
                level=logging.WARNING)
        self._kept = dict(best=[], worst=[])
        return super().evaluate(size)

    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """Write the file; remove maps of images that others surpass."""
        known = [(row['quality'], i) for i, (image_id, row) in enumerate(rows)
                 if map_file(self.folder, image_id).is_file()]
        chosen = dict(
            best=[
                rows[i][0]
                for _, i in sorted(known, key=lambda k: (-k[0], k[1]))
            ][:self.keep],
            worst=[rows[i][0] for _, i in sorted(known)][:self.keep])
        outcomes = np.concatenate([row['outcomes'] for _, row in rows])
        image = np.repeat(
            np.arange(len(rows)), [len(row['outcomes']) for _, row in rows])
        columns: Dict[str, List] = dict(image=image.tolist())
        for name, values in zip(SegmentOutcome._fields, outcomes.T):
            columns[name] = (values.round(4) if name == 'iou' else
                             values.astype(int)).tolist()
        content = dict(
            classes=list(self.space.names),
            num_things=self.space.num_things,
            palette=[list(map(int, color)) for color in self.space.palette],
            kinds=list(KINDS),
            images=[
                dict(
                    id=image_id,
                    path=row['path'],
                    PQ=None if np.isnan(row['quality']) else round(
                        row['quality'], 3)) for image_id, row in rows
            ],
            segments=columns,
            **chosen)
        write_bytes(str(self.folder / FILE_NAME), json.dumps(content).encode())
        used = {
            map_file(self.folder, i)
            for ids in chosen.values()
            for i in ids
        }
        for path in (self.folder / MAPS).glob('*.npz'):
            if path not in used:
                path.unlink()
        print_log(
            f'The outcome of each segment is in {self.folder / FILE_NAME}; '
            'tools/report.py makes a page of it.',
            logger='current')
        return {}


class ClassErrors(NamedTuple):
    """Segments of one class by kind.

    ``wrong_class`` counts true segments of the class that have another one
    in the prediction; ``called`` predicted ones of it that are something
    else.
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
    """Errors of each class, from the content of ``segments.json``."""
    kind, label, predicted = _columns(content)
    size, num = len(content['classes']), len(KINDS)
    true, seen = (
        np.bincount(of[of >= 0] * num + kind[of >= 0],
                    minlength=size * num).reshape(size, num)
        for of in (label, predicted))
    return [
        ClassErrors._make([name, *t[:SPURIOUS], s[SPURIOUS], s[WRONG_CLASS]])
        for name, t, s in zip(content['classes'], true.tolist(), seen.tolist())
    ]


def panoptic_quality(content: Dict) -> Optional[float]:
    """PQ in percent, the mean over classes, from the content of
    ``segments.json``; None without segments."""
    kind, label, _ = _columns(content)
    iou = np.asarray(content['segments']['iou'], dtype=np.float64)
    qualities = []
    for i, row in enumerate(by_class(content)):
        size = row.matched + (row.fn + row.fp) / 2
        if size:
            matched = iou[(kind == MATCHED) & (label == i)].sum()
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
    np.add.at(table, (label[~paired & (label >= 0)], size), 1)
    np.add.at(table, (size, predicted[~paired & (predicted >= 0)]), 1)
    return table


def worst_confusions(table: np.ndarray,
                     names: Sequence[str],
                     limit: int = 15) -> List[Tuple[str, str, int]]:
    """(true name, predicted name, segments), the most frequent first."""
    inner = table[:-1, :-1].copy()
    np.fill_diagonal(inner, 0)
    order = np.argsort(-inner, axis=None, kind='stable')[:limit]
    pairs = zip(*np.unravel_index(order, inner.shape))
    return [(names[a], names[b], int(inner[a, b])) for a, b in pairs
            if inner[a, b]]


def _columns(content: Dict) -> List[np.ndarray]:
    return [
        np.asarray(content['segments'][name], dtype=np.int64)
        for name in ('kind', 'label', 'predicted')
    ]
