"""Oracle: confusion matrix, mIoU and fIoU of the semantic branch.

In    labels (h, w): contiguous labels, things 0..T-1, stuff T..T+S-1,
      void -1; channels (h, w): what the semantic head predicts
Out   matrix (C, C) int64, [ground truth, prediction] in pixels;
      scores as fractions 0..1

On COCO C = S + 1: stuff 0..S-1, then 'other' for every thing, crowd too. With
things predicted (Cityscapes) C = T + S. Void pixels are not counted at all,
so what is predicted there costs nothing.

The scores follow Detectron2's evaluator: the mean runs over classes that
occur in the ground truth; a class that is only predicted has no IoU of its
own, but its pixels are missing in the intersections of others.
"""
import numpy as np


def gt_channels(labels, num_things, num_stuff, predict_things=False):
    """Channel that the head should predict for each label; void stays -1."""
    channels = np.empty(np.shape(labels), dtype=np.int64)
    for place, label in np.ndenumerate(labels):
        if label == -1 or predict_things:
            channels[place] = label
        elif label < num_things:
            channels[place] = num_stuff
        else:
            channels[place] = label - num_things
    return channels


def confusion_matrix(gt, pred, num_channels):
    """Pixels (C, C) by [ground truth, prediction], one at a time."""
    if np.shape(gt) != np.shape(pred):
        raise ValueError(f'sizes differ: {np.shape(gt)}, {np.shape(pred)}.')
    matrix = np.zeros((num_channels, num_channels), dtype=np.int64)
    for g, p in zip(np.ravel(gt).tolist(), np.ravel(pred).tolist()):
        if g == -1:
            continue
        if not (0 <= g < num_channels and 0 <= p < num_channels):
            raise ValueError(f'channel {g} or {p} of {num_channels}.')
        matrix[g, p] += 1
    return matrix


def class_ious(matrix):
    """IoU of each channel; None where the ground truth never has it."""
    ious = []
    for c in range(len(matrix)):
        tp = int(matrix[c, c])
        gt = sum(int(n) for n in matrix[c, :])
        pred = sum(int(n) for n in matrix[:, c])
        ious.append(tp / (gt + pred - tp) if gt > 0 else None)
    return ious


def mean_or_none(values):
    values = [v for v in values if v is not None]
    return sum(values) / len(values) if values else None


def semantic_scores(matrix, stuff_channels):
    """Scores of a matrix (C, C) summed over images.

    ``mIoU``, ``fIoU`` over all channels, ``mIoU_stuff`` over the stuff
    channels (0..S-1 on COCO, T..T+S-1 where things are predicted) of the same
    matrix; None without any such pixel in the ground truth.
    """
    ious = class_ious(matrix)
    total = int(matrix.sum())
    weighted = [
        int(matrix[c, :].sum()) / total * ious[c] for c in range(len(matrix))
        if ious[c] is not None
    ]
    return dict(
        mIoU=mean_or_none(ious),
        fIoU=sum(weighted) if weighted else None,
        mIoU_stuff=mean_or_none(ious[c] for c in stuff_channels))
