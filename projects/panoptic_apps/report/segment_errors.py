"""What became of each segment: matched, or which error was made.

Errors of panoptic quality are false negatives and false positives; here each
has one reason. Of the segments that nothing matches:

wrong_class   a predicted and a true segment of different classes with an IoU
              above 0.5: one false negative and one false positive
poor_mask     two of the same class with an IoU from 0.1 to 0.5, the best
              pairs first: one of each, too
missed        other true segments: a false negative each
spurious      other predicted segments: a false positive each

So fn = wrong_class + poor_mask + missed and fp = wrong_class + poor_mask +
spurious, by image and in all.
"""
import heapq
import io
import json
import logging
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import quote

import numpy as np
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


class Fate(NamedTuple):
    """What became of one true segment, of a predicted one, or of a pair.

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


def explain(found: Matching, gt_labels: np.ndarray) -> List[Fate]:
    """Reason of each error of an image.

    Args:
        found (Matching): Of its segments.
        gt_labels (np.ndarray): (G, ) labels of the ground truth.
    """
    labels = labels_of_codes(found.pred_codes)
    iou = found.inside / np.maximum(found.union, 1)
    sizes = found.inside.sum(axis=1)
    fates = []

    def add(kind: int, g: Optional[int], p: Optional[int]) -> None:
        pair = g is not None and p is not None
        fates.append(
            Fate(kind, -1 if g is None else int(gt_labels[g]),
                 -1 if p is None else int(labels[p]),
                 float(iou[g, p]) if pair else 0.0,
                 int(found.areas[p] if g is None else sizes[g])))

    for g, p in zip(*found.pairs):
        add(MATCHED, g, p)
    missed = dict.fromkeys(np.flatnonzero(found.false_negatives).tolist())
    spurious = dict.fromkeys(np.flatnonzero(found.false_positives).tolist())
    for kind, g, p in sorted(
            _candidates(missed, spurious, iou, gt_labels, labels),
            key=lambda c: (c[0], -iou[c[1], c[2]])):
        if g in missed and p in spurious:
            del missed[g], spurious[p]
            add(kind, g, p)
    for g in missed:
        add(MISSED, g, None)
    for p in spurious:
        add(SPURIOUS, None, p)
    return fates


def _candidates(missed: Dict, spurious: Dict, iou: np.ndarray,
                gt_labels: np.ndarray,
                labels: np.ndarray) -> List[Tuple[int, int, int]]:
    """(kind, index of the ground truth, of the prediction) of pairs."""
    pairs = []
    for g in missed:
        for p in spurious:
            if gt_labels[g] != labels[p]:
                if iou[g, p] > 0.5:
                    pairs.append((WRONG_CLASS, g, p))
            elif iou[g, p] >= LEAST_IOU:
                pairs.append((POOR_MASK, g, p))
    return pairs


def image_quality(fates: List[Fate]) -> float:
    """PQ of one image, all classes taken together; NaN without segments."""
    kinds = np.array([fate.kind for fate in fates], int)
    matched = (kinds == MATCHED).sum()
    both = ((kinds == WRONG_CLASS) | (kinds == POOR_MASK)).sum()
    alone = ((kinds == MISSED) | (kinds == SPURIOUS)).sum()
    size = matched + both + 0.5 * alone
    total = sum(fate.iou for fate in fates if fate.kind == MATCHED)
    return 100 * total / size if size else float('nan')


class SegmentErrorMetric(PerImageMetric):
    """Writes what became of each segment, for a report; no scores.

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
        """Fates of the segments and the image's PQ."""
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
        fates = explain(found, labels)
        quality = image_quality(fates)
        if not np.isnan(quality):
            self._keep_maps(quality, sample, gt, pred)
        return dict(
            path=str(sample.get('img_path') or ''),
            quality=quality,
            fates=np.array(fates,
                           dtype=np.float64).reshape(-1, len(Fate._fields)))

    def _keep_maps(self, quality: float, sample: Dict, gt: np.ndarray,
                   pred: np.ndarray) -> None:
        order = -len(self.results)  # of two equal ones the first is kept
        for name, value in (('best', quality), ('worst', -quality)):
            heap = self._kept[name]
            if len(heap) < self.keep or (value, order) > heap[0][:2]:
                maps = io.BytesIO()
                np.savez_compressed(
                    maps, gt=gt.astype(np.int32), pred=pred.astype(np.int32))
                entry = (value, order, plain_id(sample['img_id']),
                         maps.getvalue())
                (heapq.heappush
                 if len(heap) < self.keep else heapq.heapreplace)(heap, entry)

    def evaluate(self, size: int) -> Dict[str, float]:
        """Each process writes its maps; the first one the file."""
        try:
            for heap in self._kept.values():
                for *_, image_id, maps in heap:
                    write_bytes(str(self._map_file(image_id)), maps)
        except OSError as error:
            # the other processes wait; without a map there is no picture
            print_log(
                f'{error.filename}: cannot be written ({error.strerror}), so '
                'the report has not all pictures. Make room there.',
                logger='current',
                level=logging.WARNING)
        self._kept = dict(best=[], worst=[])
        return super().evaluate(size)

    def _map_file(self, image_id: Any) -> Path:
        return self.folder / MAPS / f'{quote(str(image_id), safe="")}.npz'

    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """Write the file; remove maps of images that others surpass."""
        known = [(row['quality'], i) for i, (_, row) in enumerate(rows)
                 if self._map_file(rows[i][0]).is_file()]
        places = dict(
            best=[i for _, i in sorted(known, key=lambda k: (-k[0], k[1]))],
            worst=[i for _, i in sorted(known)])
        chosen = {
            name: [rows[i][0] for i in order[:self.keep]]
            for name, order in places.items()
        }
        fates = np.concatenate([row['fates'] for _, row in rows])
        image = np.repeat(
            np.arange(len(rows)), [len(row['fates']) for _, row in rows])
        columns: Dict[str, List] = dict(image=image.tolist())
        for name, values in zip(Fate._fields, fates.T):
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
        used = {self._map_file(i) for ids in chosen.values() for i in ids}
        for path in (self.folder / MAPS).glob('*.npz'):
            if path not in used:
                path.unlink()
        print_log(
            f'What became of each segment is in {self.folder / FILE_NAME}; '
            'tools/report.py makes a page of it.',
            logger='current')
        return {}
