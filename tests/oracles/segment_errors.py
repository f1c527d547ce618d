"""Oracle: what became of each segment, from sets of pixels.

In    id maps (h, w), 0 = void; segments as in ``panoptic_quality.py``
Out   list of (kind, true id or None, predicted id or None)

Matches, false negatives and false positives are those of the protocol in
``panoptic_quality.py``. Then, of what is left, pairs with the largest IoU
first (of equal ones that whose true, then predicted segment is listed first):
different classes and IoU > 0.5 are 'wrong_class'; the same class and
IoU >= 0.1 'poor_mask'. The rest is 'missed' or 'spurious'.
"""
from .panoptic_quality import pixels_of


def segment_outcomes(gt_map, gt_segments, pred_map, pred_segments):
    """See the module; lists of dict(id, category_id, iscrowd)."""
    gt_pixels, pred_pixels = pixels_of(gt_map), pixels_of(pred_map)
    void = gt_pixels.get(0, set())
    names = {s['id']: s['category_id'] for s in gt_segments}
    guesses = {s['id']: s['category_id'] for s in pred_segments}

    def iou(a, b):
        both = len(gt_pixels.get(a, set()) & pred_pixels[b])
        union = len((gt_pixels.get(a, set()) | pred_pixels[b]) - void)
        return both / union if both else 0.0

    crowds = {
        s['category_id']: gt_pixels.get(s['id'], set())
        for s in gt_segments if s.get('iscrowd', 0)
    }
    left = [s['id'] for s in gt_segments if not s.get('iscrowd', 0)]
    spare = [s['id'] for s in pred_segments]
    outcomes = []

    def pair(kind, fits):
        pairs = sorted((-iou(a, b), i, j, a, b) for i, a in enumerate(left)
                       for j, b in enumerate(spare)
                       if fits(iou(a, b), names[a] == guesses[b]))
        for _, _, _, a, b in pairs:
            if a in left and b in spare:
                left.remove(a)
                spare.remove(b)
                outcomes.append((kind, a, b))

    pair('matched', lambda value, same: same and value > 0.5)
    for b in list(spare):
        forgiven = void | crowds.get(guesses[b], set())
        if 2 * len(pred_pixels[b] & forgiven) > len(pred_pixels[b]):
            spare.remove(b)
    pair('wrong_class', lambda value, same: not same and value > 0.5)
    pair('poor_mask', lambda value, same: same and value >= 0.1)
    return outcomes + [('missed', a, None)
                       for a in left] + [('spurious', None, b) for b in spare]
