"""Oracle: measures beside PQ, from sets of pixels (y, x).

Maps and segments are those of ``panoptic_quality``; scores are fractions, None
where there is nothing to judge.

Boundary region of a segment: its pixels from which another segment, void or
the outside of the image can be reached in d king's moves; d is 2 % of the
image's diagonal, rounded, at least 1.
"""
import math

from .panoptic_quality import (Counts, add_counts, class_quality, mask_iou,
                               pixels_of, pq_counts, pq_table)

SIZES = ('small', 'medium', 'large')


def boundary_of(pixels, distance):
    steps = range(-distance, distance + 1)
    return {(y, x)
            for y, x in pixels if any((y + dy, x + dx) not in pixels
                                      for dy in steps for dx in steps)}


def boundary_counts(gt_map, gt_segments, pred_map, pred_segments):
    """Counts by category id, as of PQ, with the lower of both IoUs."""
    h, w = gt_map.shape
    distance = max(1, round(0.02 * math.sqrt(h * h + w * w)))

    def lower_iou(ours, theirs, void):
        iou = mask_iou(ours, theirs, void)
        if iou <= 0.5:
            return 0.0
        return min(
            iou,
            mask_iou(
                boundary_of(ours, distance), boundary_of(theirs, distance),
                void))

    return pq_counts(gt_map, gt_segments, pred_map, pred_segments, lower_iou)


def size_of(area):
    """COCO's, 0 to 2."""
    return 0 if area < 32 * 32 else 1 if area < 96 * 96 else 2


def size_counts(*scene):
    """Counts by (category id, size)."""
    return pq_counts(
        *scene,
        group=lambda segment, pixels:
        (segment['category_id'], size_of(len(pixels))))


def dagger_counts(gt_map, gt_segments, pred_map, pred_segments):
    """[true segments, sum of their IoUs] by category id."""
    gt_pixels, pred_pixels = pixels_of(gt_map), pixels_of(pred_map)
    counts = {}
    for gt in gt_segments:
        if gt.get('iscrowd', 0):
            continue
        of = counts.setdefault(gt['category_id'], [0, 0.])
        of[0] += 1
        of[1] += sum(
            mask_iou(pred_pixels[pred['id']], gt_pixels.get(gt['id'], set()),
                     gt_pixels.get(0, set())) for pred in pred_segments
            if pred['category_id'] == gt['category_id'])
    return counts


def mean(values):
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def by_group(per_class, name, categories):
    """Means over all classes, things and stuff, as ``{key: value}``."""
    scores = {}
    for suffix, kinds in (('', (0, 1)), ('_th', (1, )), ('_st', (0, ))):
        scores[name + suffix] = mean(per_class[c['id']] for c in categories
                                     if c['isthing'] in kinds)
    return scores


def measure_table(scenes, categories):
    """All scores of some images: (gt_map, gt_segments, pred_map,
    pred_segments) each."""
    plain = [pq_counts(*scene) for scene in scenes]
    total = add_counts(plain)
    pq = pq_table(total, categories)['per_class']
    scores = {}
    edges = pq_table(
        add_counts(boundary_counts(*scene) for scene in scenes),
        categories)['per_class']
    for i, name in enumerate(('PQ', 'SQ', 'RQ')):
        scores.update(
            by_group({
                k: v and v[i]
                for k, v in edges.items()
            }, f'{name}_boundary', categories))

    dagger = {k: v and v[0] for k, v in pq.items()}
    found = [dagger_counts(*scene) for scene in scenes]
    for c in categories:
        if not c['isthing']:
            of = [f[c['id']] for f in found if c['id'] in f]
            true = sum(n for n, _ in of)
            dagger[c['id']] = sum(iou for _, iou in of) / true if of else None
    scores.update(by_group(dagger, 'PQ_dagger', categories))

    sizes = add_counts(size_counts(*scene) for scene in scenes)
    for i, name in enumerate(SIZES):
        of = [
            class_quality(sizes.get((c['id'], i), Counts()))
            for c in categories if c['isthing']
        ]
        scores[f'PQ_{name}'] = mean(v and v[0] for v in of)
    return scores


def percentile(values, share):
    """Between the two nearest of the sorted values, linearly."""
    values = sorted(values)
    place = share * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def interval(scenes, categories, draws):
    """95 % interval of PQ in data sets of images, ``draws`` of indices."""
    counts = [pq_counts(*scene) for scene in scenes]
    found = [
        pq_table(add_counts(counts[i] for i in drawn), categories)['all']
        for drawn in draws
    ]
    found = [quality[0] for quality in found if quality]
    return percentile(found, 0.025), percentile(found, 0.975)
