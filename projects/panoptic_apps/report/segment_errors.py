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
                      images, and of others with errors that these lack
"""
import io
import json
import logging
import shutil
from bisect import bisect_left, bisect_right, insort
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Set, Tuple
from urllib.parse import quote

import numpy as np
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log

from mmengine_exact.files import write_bytes
from panoptic_fpn.metrics.base import (PerImageMetric, Row, labels_of_codes,
                                       plain_id)
from panoptic_fpn.metrics.extra_measures import PlainQuality
from panoptic_fpn.metrics.panoptic_quality import (Matching, Scene,
                                                   match_segments,
                                                   mean_quality)
from panoptic_fpn.ops.to_host import to_plane

MATCHED, WRONG_CLASS, POOR_MASK, MISSED, SPURIOUS = range(5)
#: Names of the kinds, by their number.
KINDS = ('matched', 'wrong_class', 'poor_mask', 'missed', 'spurious')
#: Least IoU of two segments that were meant to be one.
LEAST_IOU = 0.1
FILE_NAME = 'segments.json'
#: Folder of the maps of some images, beside the file.
MAPS = 'segments'


class SegmentOutcome(NamedTuple):
    """Outcome of one true segment, of a predicted one, or of a pair: index
    into ``KINDS``, label of the ground truth and of the prediction (-1 for
    none), IoU of the two (0 for one alone), pixels (of the true segment where
    there is one)."""
    kind: int
    label: int
    predicted: int
    iou: float
    area: int


def explain(found: Matching, gt_labels: np.ndarray) -> List[SegmentOutcome]:
    """Outcomes of the segments of an image, whose ground truth has
    ``gt_labels`` (G, )."""
    labels = labels_of_codes(found.pred_codes)
    sizes = found.inside.sum(axis=1)
    true = np.flatnonzero(found.false_negatives)
    seen = np.flatnonzero(found.false_positives)
    # candidates among those that nothing matches, the best of a kind first
    same = gt_labels[true][:, None] == labels[seen]
    near = found.iou[np.ix_(true, seen)]
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
    return [
        *(SegmentOutcome(kind, gt_labels[g], labels[p], found.iou[g, p],
                         sizes[g]) for kind, g, p in pairs),
        *(SegmentOutcome(MISSED, gt_labels[g], -1, 0., sizes[g])
          for g in free_true),
        *(SegmentOutcome(SPURIOUS, -1, labels[p], 0., found.areas[p])
          for p in free_seen)
    ]


def explain_errors(evaluator: Evaluator,
                   folder: str,
                   maps_later: bool = False) -> 'SegmentErrorMetric':
    """``--report`` of tools: let an evaluator write the outcome of each
    segment to a folder; its new metric."""
    if is_main_process():  # long before any process writes
        (Path(folder) / FILE_NAME).unlink(missing_ok=True)
        shutil.rmtree(Path(folder) / MAPS, ignore_errors=True)
    metric = SegmentErrorMetric(folder, maps_later=maps_later)
    metric.dataset_meta = evaluator.dataset_meta
    evaluator.metrics.append(metric)
    return metric


def map_file(folder: Path, image_id: Any) -> Path:
    """File of the maps of an image, in a work directory."""
    return folder / MAPS / f'{quote(str(image_id), safe="")}.npz'


class SegmentErrorMetric(PerImageMetric):
    """Writes the outcome of each segment, for a report; no scores.

    Args:
        folder (str): Folder to write to; several machines must share it.
        keep (int): Images to keep the maps of, best and worst each.
        examples (int): Further images to keep the maps of at most, chosen so
            that each error (kind, label, predicted) has its image.
        maps_later (bool): Whether whoever evaluates writes the maps of the
            images in ``chosen``, once they are known. By default maps of all
            that may be among them are written on the way.
    """
    default_prefix = ''
    prediction = 'pred_panoptic_seg'

    def __init__(self,
                 folder: str,
                 keep: int = 6,
                 examples: int = 24,
                 maps_later: bool = False) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.keep, self.examples = keep, examples
        self.maps_later = maps_later
        self.chosen: List[Any] = []
        self._qualities: List[float] = []  # ascending
        self._shown: Set[Tuple] = set()  # errors

    def image_row(self, sample: Dict) -> Dict:
        """Outcomes of the segments and the image's PQ."""
        space = self.space
        pred = to_plane(sample[self.prediction]['sem_seg'])
        gt, codes, crowd = self.ground_truth(sample, shape=pred.shape)
        scene = Scene(gt, codes, labels_of_codes(codes), crowd, pred,
                      space.void, space.num_classes)
        found = match_segments(*scene)
        quality = mean_quality(PlainQuality().count(scene, found))
        outcomes = np.array(
            explain(found, scene.gt_labels),
            dtype=np.float64).reshape(-1, len(SegmentOutcome._fields))
        if not self.maps_later and self._may_show(quality, outcomes):
            self.write_maps(sample)
        return dict(
            path=str(sample.get('img_path') or ''),
            quality=quality,
            outcomes=outcomes)

    def _may_show(self, quality: float, outcomes: np.ndarray) -> bool:
        """Whether an image is among the best or the worst so far, or has an
        error that those written before lack."""
        if np.isnan(quality):
            return False
        worse = bisect_right(self._qualities, quality)  # or as good
        better = len(self._qualities) - bisect_left(self._qualities, quality)
        insort(self._qualities, quality)
        errors = _errors(outcomes)
        if min(worse, better) >= self.keep and errors <= self._shown:
            return False
        self._shown |= errors
        return True

    def write_maps(self, sample: Dict) -> None:
        """Write the maps of an image, for its picture."""
        gt, pred = (
            to_plane(sample[key]['sem_seg']).astype(np.int32)
            for key in ('gt_panoptic_seg', self.prediction))
        buffer = io.BytesIO()
        np.savez_compressed(buffer, gt=gt, pred=pred)
        path = map_file(self.folder, plain_id(sample['img_id']))
        try:
            write_bytes(str(path), buffer.getvalue())
        except OSError as error:  # without a map there is no picture
            print_log(
                f'{error.filename}: cannot be written ({error.strerror}), so '
                'the report lacks a picture. Make room there.', 'current',
                logging.WARNING)

    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """Write the file; remove maps of images that others surpass."""
        shown = {
            image_id: row
            for image_id, row in rows
            if (not np.isnan(row['quality']) if self.
                maps_later else map_file(self.folder, image_id).is_file())
        }
        best = sorted(shown, key=lambda i: -shown[i]['quality'])
        worst = sorted(shown, key=lambda i: shown[i]['quality'])
        chosen = dict(best=best[:self.keep], worst=worst[:self.keep])
        errors = {i: _errors(row['outcomes']) for i, row in shown.items()}
        chosen['examples'] = self._examples(
            errors, [*chosen['best'], *chosen['worst']])
        outcomes = [row['outcomes'] for _, row in rows]
        columns: Dict[str, List] = dict(
            image=[i for i, of in enumerate(outcomes) for _ in of])
        for name, values in zip(SegmentOutcome._fields,
                                np.concatenate(outcomes).T):
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
        self.chosen = sorted(set().union(*chosen.values()), key=str)
        for image_id in {*shown}.difference(self.chosen):
            map_file(self.folder, image_id).unlink(missing_ok=True)
        print_log(
            f'The outcome of each segment is in {self.folder / FILE_NAME}; '
            'tools/report.py makes a page of it.', 'current')
        return {}

    def _examples(self, errors: Dict[Any, Set], others: List) -> List:
        """The fewest further images (greedily) with the errors that others
        lack."""
        lacking = set().union(*errors.values()).difference(*(errors[i]
                                                             for i in others))
        found: List = []
        while lacking and len(found) < self.examples:
            found.append(max(errors, key=lambda i: len(errors[i] & lacking)))
            lacking -= errors[found[-1]]
        return found


def _errors(outcomes: np.ndarray) -> Set[Tuple]:
    """Kind, label and predicted label of the errors among outcomes."""
    return {(*o, ) for o in outcomes[:, :3].tolist() if o[0] != MATCHED}


class ClassErrors(NamedTuple):
    """Segments of one class by kind, false negatives and false positives.

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
    fn: int
    fp: int


def by_class(content: Dict) -> List[ClassErrors]:
    """Errors of each class, from the content of ``segments.json``."""
    kind, label, predicted = _columns(content)
    size, num = len(content['classes']), len(KINDS)
    true, seen = (
        np.bincount(of[of >= 0] * num + kind[of >= 0],
                    minlength=size * num).reshape(size, num)
        for of in (label, predicted))
    found = np.column_stack([
        true[:, :SPURIOUS], seen[:, [SPURIOUS, WRONG_CLASS]],
        true[:, WRONG_CLASS:SPURIOUS].sum(1),
        seen[:, [WRONG_CLASS, POOR_MASK, SPURIOUS]].sum(1)
    ])
    return list(map(ClassErrors, content['classes'], *found.T.tolist()))


def panoptic_quality(content: Dict) -> float:
    """PQ in percent from the content of ``segments.json``; NaN without
    segments."""
    kind, label, _ = _columns(content)
    matched, rows = kind == MATCHED, by_class(content)
    iou = np.bincount(
        label[matched],
        np.asarray(content['segments']['iou'])[matched],
        minlength=len(rows))
    numbers = [(row.matched, row.fp, row.fn) for row in rows]
    return mean_quality(np.column_stack([numbers, iou]))


def confusion(content: Dict) -> np.ndarray:
    """Segments by true class (row) and predicted class (column), int64
    (C + 1, C + 1), from the content of ``segments.json``.

    The last row is 'nothing' (predictions that match nothing) and the last
    column 'nothing' (what was not found); pairs with a poor mask are in both.
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
    found = [(names[a], names[b], int(count))
             for (a, b), count in np.ndenumerate(table[:-1, :-1])
             if count and a != b]
    return sorted(found, key=lambda pair: -pair[2])[:limit]


def _columns(content: Dict) -> np.ndarray:
    """Kind, label and predicted label of all segments, int64 (3, n)."""
    columns = content['segments']
    return np.array([columns['kind'], columns['label'], columns['predicted']],
                    np.int64)
