"""PQ, SQ and RQ, what they are counted from, and outcomes of segments."""
import contextlib
import io
import json
import math
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import panopticapi.evaluation as panopticapi
from hypothesis import given
from hypothesis import strategies as st

from panoptic_apps.report.segment_errors import KINDS, explain
from panoptic_fpn.metrics import (PanopticQualityMetric, class_quality,
                                  group_quality, panoptic_counts)
from panoptic_fpn.metrics.panoptic_quality import (match_segments,
                                                   mean_quality,
                                                   segment_overlaps)
from tests.oracles import runs as plain
from tests.oracles.derive import derive_panoptic, labels_of
from tests.oracles.panoptic_quality import (Counts, add_counts, pq_counts,
                                            pq_table)
from tests.oracles.perturb import write_coco_panoptic
from tests.oracles.segment_errors import segment_outcomes
from tests.panoptic_fpn.metrics.data import make_sample, run_metric, space_of

from . import strategies

TOLERANCE = 1e-9


def numbered(image, categories):
    """(h, w) codes in which every segment has its own number, and codes in
    the order of the segments."""
    truth = derive_panoptic(image.id_map, image.segments, categories)
    return truth['map'], np.array(truth['codes'], np.int64)


def arguments(truth, pred, categories):
    """What ``panoptic_counts`` is called with."""
    gt, codes = numbered(truth, categories)
    crowd = np.array([bool(s['iscrowd']) for s in truth.segments], bool)
    return (gt, codes, codes % 1000, crowd, numbered(pred, categories)[0],
            len(categories), len(categories))


def our_counts(truth, pred, categories):
    """(C, 4), as floats, by category id."""
    counts = panoptic_counts(*arguments(truth, pred, categories))
    return {id_: counts[label] for id_, label in labels_of(categories).items()}


@given(strategies.truths_and_predictions(crowd_stuff=True))
def test_counts_are_those_of_sets_of_pixels(case):
    data, preds = case
    for truth, pred in zip(data.images, preds.images):
        expected = pq_counts(truth.id_map, truth.segments, pred.id_map,
                             pred.segments)
        for id_, row in our_counts(truth, pred, data.categories).items():
            wanted = expected.get(id_, Counts())
            assert row[:3].tolist() == [wanted.tp, wanted.fp, wanted.fn]
            assert abs(row[3] - wanted.iou) <= TOLERANCE


@given(strategies.truths_and_predictions(unite_stuff=True))
def test_scores_are_those_of_sets_of_pixels(case):
    data, preds = case
    rng = np.random.default_rng(0)
    samples = [
        make_sample(truth, pred, data.categories, rng)
        for truth, pred in zip(data.images, preds.images)
    ]
    scores = run_metric(PanopticQualityMetric(), samples,
                        space_of(data).metainfo())
    table = pq_table(
        add_counts(
            pq_counts(truth.id_map, truth.segments, pred.id_map, pred.segments)
            for truth, pred in zip(data.images, preds.images)),
        data.categories)
    for group, suffix in (('all', ''), ('things', '_th'), ('stuff', '_st')):
        for i, key in enumerate(('PQ', 'SQ', 'RQ')):
            found = scores[f'coco_panoptic/{key}{suffix}']
            if table[group] is None:
                assert math.isnan(found)
            else:
                assert abs(found - 100 * table[group][i]) <= TOLERANCE


@given(strategies.truths_and_predictions(unite_stuff=True))
def test_written_results_have_the_scores_in_panopticapi(case):
    data, preds = case
    rng = np.random.default_rng(0)
    samples = [
        make_sample(truth, pred, data.categories, rng)
        for truth, pred in zip(data.images, preds.images)
    ]
    space = space_of(data)
    with tempfile.TemporaryDirectory() as root:
        root = Path(root)
        written = write_coco_panoptic(data, root, name='gt')
        truth = json.loads(written.read_text())
        metric = PanopticQualityMetric(outfile_prefix=str(root / 'r'))
        run_metric(metric, samples, space.metainfo())
        found = json.loads((root / 'r.panoptic.json').read_text())
        order = {e['image_id']: e for e in found['annotations']}
        categories = {c['id']: c for c in truth['categories']}
        with contextlib.redirect_stdout(io.StringIO()):
            stat = panopticapi.pq_compute_single_core(
                0, [(e, order[e['image_id']]) for e in truth['annotations']],
                str(root / 'gt'), str(root / 'r.panoptic'), categories)
    for name, id_ in zip(space.names, space.category_ids):
        one = stat[id_]
        size = one.tp + one.fp / 2 + one.fn / 2
        ours = metric.by_class[name]
        if not size:
            assert all(math.isnan(value) for value in ours.values())
            continue
        expected = dict(
            PQ=one.iou / size, SQ=one.iou / max(1, one.tp), RQ=one.tp / size)
        for key, value in expected.items():
            assert abs(ours[key] - 100 * value) <= TOLERANCE


@given(strategies.truths_and_predictions(crowd_stuff=True))
def test_counts_add_up(case):
    data, preds = case
    for truth, pred in zip(data.images, preds.images):
        ours = our_counts(truth, pred, data.categories)
        true = Counter(s['category_id'] for s in truth.segments
                       if not s['iscrowd'])
        guessed = Counter(s['category_id'] for s in pred.segments)
        for id_, (tp, fp, fn, iou) in ours.items():
            assert tp + fn == true[id_]
            assert tp + fp <= guessed[id_]
            assert tp / 2 < iou <= tp or tp == iou == 0
        # without void and crowd there is nothing to forgive
        if truth.id_map.all() and len(true) == len(truth.segments):
            judged = sum(tp + fp for tp, fp, _, _ in ours.values())
            assert judged == len(pred.segments)
        # a crowd is not predicted
        crowd = [s['id'] for s in truth.segments if s['iscrowd']]
        same = replace(
            truth,
            id_map=np.where(np.isin(truth.id_map, crowd), 0, truth.id_map),
            segments=[s for s in truth.segments if not s['iscrowd']])
        perfect = our_counts(truth, same, data.categories)
        for id_, row in perfect.items():
            assert row.tolist() == [true[id_], 0, 0, true[id_]]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9), st.integers(0, 9), st.integers(0, 9),
            st.floats(0, 1)),
        min_size=1,
        max_size=8), st.integers(0, 8))
def test_quality_by_its_definition(rows, num_things):
    counts = np.array([[tp, fp, fn, tp * (.5 + share / 2)]
                       for tp, fp, fn, share in rows], float)
    quality = class_quality(counts)
    for (tp, fp, fn, iou), (pq, sq, rq) in zip(counts, quality):
        if tp + fp + fn == 0:
            assert math.isnan(pq) and math.isnan(sq) and math.isnan(rq)
            continue
        assert abs(pq - sq * rq) <= TOLERANCE
        assert abs(pq - iou / (tp + fp / 2 + fn / 2)) <= TOLERANCE
        assert 0 <= rq <= 1 and (sq >= .5 if tp else pq == sq == 0)
    scores = group_quality(quality, num_things)
    for suffix, part in (('', quality), ('_th', quality[:num_things]),
                         ('_st', quality[num_things:])):
        known = [row for row in part.tolist() if not math.isnan(row[0])]
        for i, key in enumerate(('PQ', 'SQ', 'RQ')):
            mean = math.nan
            if known:
                mean = 100 * sum(row[i] for row in known) / len(known)
            assert math.isnan(mean) == math.isnan(scores[key + suffix])
            assert not abs(mean - scores[key + suffix]) > TOLERANCE


@given(strategies.truths_and_predictions(crowd_stuff=True))
def test_outcomes_of_segments(case):
    data, preds = case
    label_of = labels_of(data.categories)
    for truth, pred in zip(data.images, preds.images):
        args = arguments(truth, pred, data.categories)
        # predicted segments are listed by their codes
        codes = numbered(pred, data.categories)[1].tolist()
        listed = [
            s for _, s in sorted(
                zip(codes, pred.segments), key=lambda pair: pair[0])
        ]
        wanted = segment_outcomes(truth.id_map, truth.segments, pred.id_map,
                                  listed)
        true, guessed = ({
            s['id']: label_of[s['category_id']]
            for s in image.segments
        } for image in (truth, pred))
        outcomes = explain(match_segments(*args), args[2])
        expected = []
        for kind, a, b in wanted:
            mask = pred.id_map == b if a is None else truth.id_map == a
            expected.append(
                (kind, true.get(a, -1), guessed.get(b, -1), mask.sum()))
        assert sorted((KINDS[f.kind], f.label, f.predicted, f.area)
                      for f in outcomes) == sorted(expected)
        counts = panoptic_counts(*args)
        tp, fp, fn, _ = counts.sum(axis=0)
        kinds = Counter(KINDS[f.kind] for f in outcomes)
        pairs = kinds['wrong_class'] + kinds['poor_mask']
        assert kinds['matched'] == tp
        assert pairs + kinds['missed'] == fn
        assert pairs + kinds['spurious'] == fp
        known = [
            100 * iou / (tp + fp / 2 + fn / 2) for tp, fp, fn, iou in counts
            if tp + fp + fn
        ]
        if known:
            quality = sum(known) / len(known)
            assert abs(mean_quality(counts) - quality) <= TOLERANCE
        else:
            assert math.isnan(mean_quality(counts))


@given(st.data())
def test_overlaps_count_every_pixel(data):
    """Codes of any size, void with numbers."""
    image = data.draw(strategies.panoptic_images(CATEGORIES, crowd_stuff=True))
    other = data.draw(strategies.predictions(image, CATEGORIES))
    factor = data.draw(st.sampled_from([1, 10**3, 10**9]))
    gt, codes = numbered(image, CATEGORIES)
    pred = numbered(other, CATEGORIES)[0]
    gt, codes, pred = (
        c % 1000 + c // 1000 * 1000 * factor for c in (gt, codes, pred))
    pred[pred == 3] += 1000 * data.draw(st.integers(0, 5))
    overlaps, found = segment_overlaps(gt, codes, pred, 3)
    expected, wanted = plain.segment_overlaps(gt, codes, pred, 3)
    order = np.argsort(found)
    assert (found[order] == wanted).all()
    assert (overlaps[:, order] == expected).all()
    assert overlaps.sum() == gt.size


CATEGORIES = [
    dict(id=5, isthing=0),
    dict(id=2, isthing=1),
    dict(id=9, isthing=1)
]
