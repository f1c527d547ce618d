"""Oracles of NMS and RoIAlign, box by box and pixel by pixel.

Boxes are x1, y1, x2, y2; a RoI is the index of its image and a box.
"""
import math
from itertools import product

import numpy as np


def textbook_nms(boxes, scores, iou_threshold, offset=0):
    """Take the most confident box, drop what it covers, go on. Indices; of
    equal scores the first comes first. In float32, as mmcv computes."""
    boxes, threshold = np.float32(boxes), np.float32(iou_threshold)

    def iou(a, b):
        w, h = (
            min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + np.float32(offset)
            for i in (0, 1))
        shared = max(w, np.float32(0)) * max(h, np.float32(0))
        return shared / (area(a) + area(b) - shared)

    def area(box):
        return ((box[2] - box[0] + np.float32(offset)) *
                (box[3] - box[1] + np.float32(offset)))

    left = sorted(range(len(boxes)), key=lambda i: -scores[i])
    kept = []
    with np.errstate(invalid='ignore', divide='ignore'):
        while left:
            first, *left = left
            kept.append(first)
            left = [
                i for i in left if not iou(boxes[first], boxes[i]) > threshold
            ]
    return kept


def samples_of(roi, size, scale, ratio, aligned):
    """Bins (row, column) of a RoI with the places y, x of their samples."""
    x1, y1, x2, y2 = (side * scale - aligned / 2 for side in roi[1:])
    extents = [y2 - y1, x2 - x1]
    if not aligned:
        extents = [max(extent, 1) for extent in extents]
    steps = [extent / bins for extent, bins in zip(extents, size)]
    counts = [ratio or math.ceil(step) for step in steps]
    for row, column in product(*map(range, size)):
        yield row, column, [(y1 + (row + (i + .5) / counts[0]) * steps[0],
                             x1 + (column + (j + .5) / counts[1]) * steps[1])
                            for i, j in product(*map(range, counts))]


def pixels_of(y, x, shape):
    """Pixels about a place with their bilinear weights; none further than a
    pixel outside."""
    if not (-1 <= y <= shape[0] and -1 <= x <= shape[1]):
        return
    y, x = (min(max(place, 0), side - 1) for place, side in zip((y, x), shape))
    for row, column in product({math.floor(y), math.ceil(y)},
                               {math.floor(x), math.ceil(x)}):
        yield row, column, (1 - abs(y - row)) * (1 - abs(x - column))


def roi_align(features, rois, size, scale, ratio, aligned, grad=None):
    """Bins (n, C, P, Q) of features (N, C, H, W), and with the gradient of
    bins that of the features; all float64."""
    bins = np.zeros((len(rois), features.shape[1], *size))
    gradient = np.zeros(features.shape)
    for n, roi in enumerate(np.float64(rois)):
        image = int(roi[0])
        for row, column, samples in samples_of(roi, size, scale, ratio,
                                               aligned):
            for place in samples:
                for y, x, weight in pixels_of(*place, features.shape[2:]):
                    weight /= len(samples)
                    bins[n, :, row,
                         column] += weight * features[image, :, y, x]
                    if grad is not None:
                        gradient[image, :, y,
                                 x] += weight * grad[n, :, row, column]
    return bins, gradient
