"""Oracle: the merge of section 3.2, with pixels as Python sets.

In    masks (n, h, w) bool, scores (n, ), labels (n, ) 0..T-1 of instances;
      channels (h, w), argmax of the semantic head (see below)
Out   panoptic map (h, w) int64, label + 1000 * number, void = T + S; number
      counts the kept instances of the image from 1 in order of confidence,
      stuff has number 0
T, S  number of thing and of stuff classes

Channels are 0..S-1 for stuff and S for 'other'; with ``predict_things`` they
are the labels 0..T+S-1, of which things paint nothing.
"""
import numpy as np


def kept_instances(masks,
                   scores,
                   score_thr=0.5,
                   overlap_thr=0.5,
                   boxes=None,
                   nms_iou_thr=None):
    """Steps 1: overlaps between instances, in favour of the confident.

    An instance is dropped where its score is below ``score_thr``, where it is
    empty, where the share of its area that is taken is more than
    ``overlap_thr``, or where no free pixel is left to it (possible only for
    ``overlap_thr >= 1``). Equal scores keep the order of the input. With
    ``nms_iou_thr`` boxes (n, 4), x1, y1, x2, y2, that repeat a better one go
    before, whatever their classes. Index and free pixels (y, x) of each kept
    instance, most confident first.
    """
    # As arrays, a float32 score is compared with a float32 threshold.
    good = ~(np.asarray(scores) < score_thr)
    order = sorted((i for i in range(len(scores)) if good[i]),
                   key=lambda i: (-float(scores[i]), i))
    if nms_iou_thr is not None:
        order = without_repeated(order, boxes, nms_iou_thr)
    taken, kept = set(), []
    for i in order:
        pixels = set(zip(*(c.tolist() for c in np.nonzero(masks[i]))))
        free = pixels - taken
        if not free or len(pixels & taken) / len(pixels) > overlap_thr:
            continue
        kept.append((i, free))
        taken |= free
    return kept


def without_repeated(order, boxes, iou_thr):
    """Entries of ``order`` whose box has at most ``iou_thr`` of intersection
    over union with each box that stays before it."""
    stays = []
    for i in order:
        if all(box_iou(boxes[i], boxes[j]) <= iou_thr for j in stays):
            stays.append(i)
    return stays


def box_iou(one, other):
    """Intersection over union of two boxes, as Python numbers."""
    one, other = [float(v) for v in one], [float(v) for v in other]
    shared = 1.0
    for low, high in ((0, 2), (1, 3)):
        shared *= max(0.0,
                      min(one[high], other[high]) - max(one[low], other[low]))
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    union = sum(areas) - shared
    return shared / union if union else 0.0


def merge_segments(masks,
                   scores,
                   labels,
                   channels,
                   num_things,
                   num_stuff,
                   score_thr=0.5,
                   overlap_thr=0.5,
                   stuff_area=4096,
                   predict_things=False,
                   boxes=None,
                   nms_iou_thr=None):
    """Steps 1 to 3 as a dict: code (label + 1000 * number) -> set of pixels.

    ``masks`` or ``channels`` are None without their branch; the thresholds are
    those of :func:`kept_instances`, and the area below which stuff is void.
    """
    segments, taken = {}, set()
    if masks is not None:
        kept = kept_instances(masks, scores, score_thr, overlap_thr, boxes,
                              nms_iou_thr)
        for number, (i, pixels) in enumerate(kept, start=1):
            segments[int(labels[i]) + 1000 * number] = pixels
            taken |= pixels
    if channels is not None:
        for s in range(num_stuff):
            channel = num_things + s if predict_things else s
            found = np.nonzero(np.asarray(channels) == channel)
            free = set(zip(*(c.tolist() for c in found))) - taken
            if free and len(free) >= stuff_area:
                segments[num_things + s] = free
    return segments


def merge_by_sets(masks, scores, labels, channels, num_things, num_stuff,
                  **thresholds):
    """:func:`merge_segments` painted: (h, w) int64, void = T + S."""
    if channels is None and masks is None:
        raise ValueError('neither masks nor channels: the size is unknown.')
    shape = np.shape(masks)[1:] if channels is None else np.shape(channels)
    panoptic = np.full(shape, num_things + num_stuff, dtype=np.int64)
    segments = merge_segments(masks, scores, labels, channels, num_things,
                              num_stuff, **thresholds)
    for code, pixels in segments.items():
        for y, x in pixels:
            assert panoptic[y, x] == num_things + num_stuff
            panoptic[y, x] = code
    return panoptic
