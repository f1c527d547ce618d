"""Oracle: what follows from a panoptic annotation, by plain loops.

In    id map (h, w), 0 = void; segments dict(id, category_id, iscrowd);
      categories dict(id, isthing), in any order
Out   labels (things 0..T-1, then stuff T..T+S-1, each group by ascending
      category id), instances (boxes x1, y1, x2, y2 in pixels, half open:
      x2 = x_max + 1), semantic map, panoptic codes
"""
import numpy as np


def labels_of(categories):
    """dict: category id -> label."""
    things = sorted(c['id'] for c in categories if c['isthing'])
    stuff = sorted(c['id'] for c in categories if not c['isthing'])
    return {id_: label for label, id_ in enumerate(things + stuff)}


def count_things(categories):
    """T, the number of thing classes."""
    return sum(1 for c in categories if c['isthing'])


def box_of(mask):
    """[x1, y1, x2, y2] of a mask (h, w) with at least one pixel."""
    ys, xs = [], []
    for (y, x), inside in np.ndenumerate(mask):
        if inside:
            ys.append(y)
            xs.append(x)
    return [min(xs), min(ys), max(xs) + 1, max(ys) + 1]


def derive_instances(id_map, segments, categories):
    """Instances of a map, crowd too, in the order of ``segments``.

    Stuff, and segments without a pixel in the map (cropped away), are left
    out. ``ids`` (list[int]), ``boxes`` (n, 4) int64, ``masks`` (n, h, w) bool,
    ``labels`` (n, ) int64, ``crowd`` (n, ) bool.
    """
    id_map = np.asarray(id_map)
    label_of, num_things = labels_of(categories), count_things(categories)
    ids, boxes, masks, labels, crowd = [], [], [], [], []
    for segment in segments:
        label = label_of[segment['category_id']]
        mask = id_map == segment['id']
        if label >= num_things or not mask.any():
            continue
        ids.append(segment['id'])
        boxes.append(box_of(mask))
        masks.append(mask)
        labels.append(label)
        crowd.append(bool(segment.get('iscrowd', 0)))
    return dict(
        ids=ids,
        boxes=np.array(boxes, dtype=np.int64).reshape(-1, 4),
        masks=np.array(masks, dtype=bool).reshape(-1, *id_map.shape),
        labels=np.array(labels, dtype=np.int64),
        crowd=np.array(crowd, dtype=bool))


def derive_semantic(id_map, segments, categories):
    """(h, w) int64 labels, crowd included; void and unlisted ids are -1."""
    label_of = labels_of(categories)
    label_of_segment = {s['id']: label_of[s['category_id']] for s in segments}
    labels = np.empty(np.shape(id_map), dtype=np.int64)
    for place, id_ in np.ndenumerate(id_map):
        labels[place] = label_of_segment.get(int(id_), -1)
    return labels


def derive_panoptic(id_map, segments, categories):
    """Map of label + 1000 * number, each segment with a code of its own.

    Numbers count the segments of a label from 0, in the order of ``segments``;
    another numbering that keeps segments apart is as good, see
    :func:`same_partition`. Unlisted ids are void = T + S. ``map`` (h, w)
    int64, ``codes`` and ``crowd_codes`` (list[int]) in the order of
    ``segments``.
    """
    label_of = labels_of(categories)
    code_of, codes, crowd_codes, numbers = {}, [], [], {}
    for segment in segments:
        label = label_of[segment['category_id']]
        number = numbers.get(label, 0)
        numbers[label] = number + 1
        code = code_of[segment['id']] = label + 1000 * number
        codes.append(code)
        if segment.get('iscrowd', 0):
            crowd_codes.append(code)
    panoptic = np.empty(np.shape(id_map), dtype=np.int64)
    for place, id_ in np.ndenumerate(id_map):
        panoptic[place] = code_of.get(int(id_), len(categories))
    return dict(map=panoptic, codes=codes, crowd_codes=crowd_codes)


def same_partition(codes_a, codes_b):
    """Whether two code maps agree up to the numbers of the segments.

    Labels (and void) must be equal pixel by pixel, and the segments must be
    the same sets of pixels.
    """
    a, b = np.ravel(codes_a).tolist(), np.ravel(codes_b).tolist()
    if np.shape(codes_a) != np.shape(codes_b):
        return False
    if any(p % 1000 != q % 1000 for p, q in zip(a, b)):
        return False
    pairs = set(zip(a, b))
    return len(pairs) == len(set(a)) == len(set(b))
