"""The official evaluation scripts of Cityscapes, run on files.

Version 2.3.0 does not run with numpy 2.4: :func:`old_numpy` gives it what it
was written for.
"""
import copy
import io
import json
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
from cityscapesscripts.evaluation import \
    evalInstanceLevelSemanticLabeling as instance_script
from cityscapesscripts.evaluation import \
    evalPanopticSemanticLabeling as panoptic_script
from cityscapesscripts.evaluation import \
    evalPixelLevelSemanticLabeling as pixel_script
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic


@contextmanager
def old_numpy():
    """numpy as the scripts know it.

    ``np.in1d``, gone since 2.4, was ``np.isin`` but flat; the scripts reshape
    it. ``np.count_nonzero`` gave an int, which they write as JSON.
    """
    count, had_in1d = np.count_nonzero, hasattr(np, 'in1d')
    np.count_nonzero = lambda *args, **kwargs: int(count(*args, **kwargs))
    if not had_in1d:
        np.in1d = np.isin
    try:
        yield
    finally:
        np.count_nonzero = count
        if not had_in1d:
            del np.in1d


def instance_matches(truth, folder):
    """What the script counts before it evaluates instance images against a
    folder of results, and its arguments."""
    args = copy.copy(instance_script.args)
    args.quiet, args.JSONOutput = True, False
    args.predictionPath, args.predictionWalk = str(Path(folder).resolve()), []
    args.gtInstancesFile = str(Path(folder) / 'never written')
    truth = [str(path) for path in truth]
    with old_numpy():
        instance_script.setInstanceLabels(args)
        predictions = [
            instance_script.getPrediction(path, args) for path in truth
        ]
        matches = instance_script.matchGtWithPreds(
            predictions, truth, instance_script.instances2dict(truth), args)
    return matches, args


def instance_scores(truth, folder):
    """Official AP of each thing class, fractions (10, ) by overlap; None where
    the script stops because no prediction of a class that has instances
    counts."""
    matches, args = instance_matches(truth, folder)
    names, overlaps = args.instLabels, args.overlaps
    scores = {}
    for name in names:
        args.instLabels, column = [name], []
        for overlap in overlaps:
            args.overlaps = np.array([overlap])
            try:
                found = instance_script.evaluateMatches(matches, args)
                column.append(float(found[0, 0, 0]))
            except IndexError:
                column.append(None)
        scores[name] = column
    return scores


def instance_mean(truth, folder):
    """Official AP of all thing classes, as a fraction."""
    matches, args = instance_matches(truth, folder)
    scores = instance_script.evaluateMatches(matches, args)
    return float(instance_script.computeAverages(scores, args)['allAp'])


def pixel_scores(truth, folder):
    """The script's dict of results, fractions, for instance images, beside
    which label images lie, and a folder of results."""
    args = copy.copy(pixel_script.args)
    args.quiet, args.JSONOutput = True, False
    args.predictionPath, args.predictionWalk = str(folder), []
    truth = [str(path).replace('instanceIds', 'labelIds') for path in truth]
    predictions = [pixel_script.getPrediction(args, path) for path in truth]
    with old_numpy():
        return pixel_script.evaluateImgLists(predictions, truth, args)


def write_panoptic_truth(root, split='val'):
    """Run the official converter; the JSON that it writes."""
    with redirect_stdout(io.StringIO()):
        convert2panoptic(
            cityscapesPath=str(Path(root) / 'gtFine'), setNames=[split])
    return Path(root) / 'gtFine' / f'cityscapes_panoptic_{split}.json'


def panoptic_scores(truth_json, found_json):
    """The script's dict of results, fractions, and its counts by class."""
    truth, found = (
        json.loads(Path(p).read_text()) for p in (truth_json, found_json))
    categories = {c['id']: c for c in truth['categories']}
    found_of = {entry['image_id']: entry for entry in found['annotations']}
    pairs = [(entry, found_of[entry['image_id']])
             for entry in truth['annotations']]
    with redirect_stdout(io.StringIO()):
        stat = panoptic_script.pq_compute_single_core(
            0, pairs, str(Path(truth_json).with_suffix('')),
            str(Path(found_json).with_suffix('')), categories)
    return panoptic_script.average_pq(stat, categories), {
        c: (stat[c].tp, stat[c].fp, stat[c].fn)
        for c in categories
    }
