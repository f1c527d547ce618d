"""Oracle: overlaps, boxes and RLEs the plain way.

What the metrics counted with before they were made fast: sorted values, one
comparison of the map for each segment, pycocotools' own encoder. Maps are
(h, w) integers; boxes are (x, y, width, height) in pixels.
"""
import numpy as np
from pycocotools import mask as mask_util


def segment_overlaps(gt, gt_codes, pred, void):
    """Pixels (G + 1, P) that pairs have in common, the last row being void
    ground truth; the P codes of the prediction, ascending."""
    rows = [gt == code for code in gt_codes]
    rows.append(gt % 1000 == void)
    pred_codes = np.unique(pred)
    overlaps = [[
        np.count_nonzero(row & (pred == code)) for code in pred_codes
    ] for row in rows]
    return np.array(overlaps), pred_codes


def segment_boxes(segments):
    """Codes, ascending, with areas and boxes."""
    codes, areas, boxes = np.unique(segments), [], []
    for code in codes:
        ys, xs = np.nonzero(segments == code)
        areas.append(len(ys))
        boxes.append([xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1])
    return codes, np.array(areas), np.array(boxes)


def encode(mask):
    """RLE of a bitmap (h, w)."""
    return mask_util.encode(np.asfortranarray(np.asarray(mask, np.uint8)))
