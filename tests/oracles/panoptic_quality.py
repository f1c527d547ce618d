"""Oracle: panoptic quality from sets of pixels, by panopticapi's protocol.

In    id maps (h, w), integers, 0 = void; segments as in COCO panoptic JSON:
      ground truth dict(id, category_id, iscrowd), prediction
      dict(id, category_id)
Out   tp, fp, fn (counts) and iou (sum over the tp) of each category;
      PQ, SQ, RQ as fractions 0..1 (panopticapi prints 100 times that)

Protocol (panoptic segmentation paper, section 4, and panopticapi):
    match    same category, not crowd, IoU > 0.5 (strict), where the part of
             the predicted segment on void is left out of the union
    fn       unmatched segment of the ground truth that is not crowd
    fp       unmatched predicted segment, unless more than half of it (strict)
             lies on void or on the LAST crowd segment of its category, in the
             order of the segments list; earlier ones are not discounted
"""
from collections import defaultdict
from dataclasses import dataclass

import numpy as np


@dataclass
class Counts:
    """What one category collects; adds up over images."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    iou: float = 0.0


def pixels_of(id_map):
    """Set of (y, x) of each id of a map, void included."""
    pixels = defaultdict(set)
    id_map = np.asarray(id_map)
    for y in range(id_map.shape[0]):
        for x in range(id_map.shape[1]):
            pixels[int(id_map[y, x])].add((y, x))
    return pixels


def mask_iou(ours, theirs, void):
    """Of a predicted and a true set of pixels."""
    both = len(ours & theirs)
    return both / len((ours | theirs) - void) if both else 0.0


def by_category(segment, pixels):
    return segment['category_id']


def pq_counts(gt_map,
              gt_segments,
              pred_map,
              pred_segments,
              iou_of=mask_iou,
              group=by_category):
    """Counts of one image by category id; see the module.

    ``iou_of`` compares two segments, at most their mask IoU; ``group`` says
    what a segment, with its set of pixels, is counted by. Areas are counted
    in the maps, not read from the JSON. An id of the ground truth map that the
    list does not name is neither void nor a segment. Categories that saw
    nothing are missing.
    """
    if np.shape(gt_map) != np.shape(pred_map):
        raise ValueError(f'ground truth is {np.shape(gt_map)}, prediction is '
                         f'{np.shape(pred_map)}.')
    gt_pixels, pred_pixels = pixels_of(gt_map), pixels_of(pred_map)
    void = gt_pixels.get(0, set())
    listed = [segment['id'] for segment in pred_segments]
    if sorted(listed) != sorted(set(pred_pixels) - {0}):
        raise ValueError(f'the predicted map holds {sorted(pred_pixels)}, its '
                         f'list {sorted(listed)}.')

    counts = defaultdict(Counts)
    gt_matched, pred_matched = set(), set()
    for gt in gt_segments:
        if gt.get('iscrowd', 0):
            continue
        for pred in pred_segments:
            if gt['category_id'] != pred['category_id']:
                continue
            ours = pred_pixels[pred['id']]
            theirs = gt_pixels.get(gt['id'], set())
            iou = iou_of(ours, theirs, void)
            if iou > 0.5:
                counts[group(gt, theirs)].tp += 1
                counts[group(gt, theirs)].iou += iou
                gt_matched.add(gt['id'])
                pred_matched.add(pred['id'])

    last_crowd = {}
    for gt in gt_segments:
        if gt.get('iscrowd', 0):
            last_crowd[gt['category_id']] = gt_pixels.get(gt['id'], set())
        elif gt['id'] not in gt_matched:
            counts[group(gt, gt_pixels.get(gt['id'], set()))].fn += 1

    for pred in pred_segments:
        if pred['id'] in pred_matched:
            continue
        ours = pred_pixels[pred['id']]
        forgiven = void | last_crowd.get(pred['category_id'], set())
        if not 2 * len(ours & forgiven) > len(ours):
            counts[group(pred, ours)].fp += 1
    return dict(counts)


def add_counts(images):
    """Sum of the counts of several images (dict[int, Counts] each)."""
    total = defaultdict(Counts)
    for counts in images:
        for category_id, c in counts.items():
            t = total[category_id]
            t.tp, t.fp, t.fn = t.tp + c.tp, t.fp + c.fp, t.fn + c.fn
            t.iou += c.iou
    return dict(total)


def class_quality(counts):
    """(PQ, SQ, RQ) of one category, or None where it never occurred."""
    if counts.tp + counts.fp + counts.fn == 0:
        return None
    size = counts.tp + counts.fp / 2 + counts.fn / 2
    sq = counts.iou / counts.tp if counts.tp else 0.0
    return counts.iou / size, sq, counts.tp / size


def pq_table(counts, categories):
    """Averages over classes; classes without tp, fp and fn are left out.

    Returns:
        dict: ``all``, ``things``, ``stuff``: (PQ, SQ, RQ), fractions, or None
        for a group without any counted class; ``per_class``: category id ->
        (PQ, SQ, RQ) or None.
    """
    per_class = {
        category['id']: class_quality(counts.get(category['id'], Counts()))
        for category in categories
    }
    groups = dict(
        all=[c['id'] for c in categories],
        things=[c['id'] for c in categories if c['isthing']],
        stuff=[c['id'] for c in categories if not c['isthing']])
    table = dict(per_class=per_class)
    for name, ids in groups.items():
        rows = [per_class[i] for i in ids if per_class[i] is not None]
        table[name] = tuple(sum(column) / len(rows)
                            for column in zip(*rows)) or None
    return table
