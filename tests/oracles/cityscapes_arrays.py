"""The mathematics of the official scripts of Cityscapes, without their files.

Overlaps and confusion matrix are counted pixel by pixel here; what the
scripts make of them is theirs. In: scenes of ``cityscapes_scenes.py``.
"""
import copy
import math

import numpy as np
from cityscapesscripts.evaluation import \
    evalInstanceLevelSemanticLabeling as instance_script
from cityscapesscripts.evaluation import \
    evalPixelLevelSemanticLabeling as pixel_script
from cityscapesscripts.helpers.labels import id2label, labels

from .cityscapes_official import old_numpy

VOID_IDS = [x.id for x in labels if x.ignoreInEval]


def scene_matches(scene, names):
    """``groundTruth`` and ``prediction`` of one image, by class name."""
    truth, found = ({name: [] for name in names} for _ in range(2))
    for value in np.unique(scene.values).tolist():
        id_ = value // 1000 if value >= 1000 else value
        name = id2label[id_].name
        if name in truth:
            truth[name].append(
                dict(
                    instID=value,
                    labelID=id_,
                    pixelCount=int((scene.values == value).sum()),
                    medDist=-1,
                    distConf=0.0,
                    matchedPred=[]))
    void = np.isin(scene.values, VOID_IDS)
    for id_, score, mask in scene.instances:
        if not mask.any():
            continue
        name = id2label[id_].name
        pred = dict(
            labelID=id_,
            pixelCount=int(mask.sum()),
            confidence=float(np.float32(score)),
            voidIntersection=int((mask & void).sum()),
            matchedGt=[])
        for gt in truth[name]:
            common = int((mask & (scene.values == gt['instID'])).sum())
            if common:
                pred['matchedGt'].append(dict(gt, intersection=common))
                gt['matchedPred'].append(dict(pred, intersection=common))
        found[name].append(pred)
    return dict(groundTruth=truth, prediction=found)


def instance_scores(scenes):
    """AP of each thing class, fractions, as in ``cityscapes_official.py``:
    class name -> list of 10, None where the script stops."""
    args = copy.copy(instance_script.args)
    args.quiet = True
    instance_script.setInstanceLabels(args)
    names, overlaps = args.instLabels, args.overlaps
    matches = {s.image_id: scene_matches(s, names) for s in scenes}
    scores = {}
    for name in names:
        args.instLabels, scores[name] = [name], []
        if not any(m['groundTruth'][name] for m in matches.values()):
            scores[name] = [math.nan] * len(overlaps)
            continue
        for overlap in overlaps:
            args.overlaps = np.array([overlap])
            try:
                found = instance_script.evaluateMatches(matches, args)
                scores[name].append(float(found[0, 0, 0]))
            except IndexError:
                scores[name].append(None)
    return scores


def pixel_scores(scenes):
    """IoU and iIoU by name: (classes, categories), each two dicts."""
    args = copy.copy(pixel_script.args)
    args.quiet = True
    with old_numpy():
        confusion = pixel_script.generateMatrix(args)
    stats = pixel_script.generateInstanceStats(args)
    for scene in scenes:
        for truth, found in zip(scene.ids.ravel(), scene.semantic.ravel()):
            confusion[truth, found] += 1
        for value in np.unique(scene.values[scene.values >= 1000]).tolist():
            _add_instance(args, stats, id2label[value // 1000],
                          scene.semantic[scene.values == value])
    classes = {
        id2label[i].name:
        (pixel_script.getIouScoreForLabel(i, confusion, args),
         pixel_script.getInstanceIouScoreForLabel(i, confusion, stats, args))
        for i in args.evalLabels
    }
    categories = {
        name:
        (pixel_script.getIouScoreForCategory(name, confusion, args),
         pixel_script.getInstanceIouScoreForCategory(name, confusion, stats,
                                                     args))
        for name in pixel_script.category2labels
    }
    return classes, categories


def _add_instance(args, stats, label, found):
    """Count an instance: ``found`` (n, ) are the ids at its pixels."""
    if label.ignoreInEval:
        return
    weight = args.avgClassSize[label.name] / len(found)
    groups = [(stats['classes'][label.name], [label.id])]
    if label.category in stats['categories']:
        group = stats['categories'][label.category]
        groups.append((group, group['labelIds']))
    for counts, right_ids in groups:
        right = sum(int(i) in right_ids for i in found)
        counts['tpWeighted'] += right * weight
        counts['fnWeighted'] += (len(found) - right) * weight


def known_mean(values):
    """Mean of the fractions that are not NaN; NaN without any."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
